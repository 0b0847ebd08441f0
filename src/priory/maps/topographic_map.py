"""The map of a data set on the grid of a model."""

from collections.abc import Callable, Iterator
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from priory._support.optional import require
from priory._support.tensors import Columns
from priory.evaluation import Estimate
from priory.evaluation.estimates import mean
from priory.grid.landscapes import (
    ClassLandscape,
    ClassPrediction,
    ValueLandscape,
    ValuePrediction,
    check_smoothing,
    class_probabilities,
    predicted_value,
    value_landscape,
    weighted_powers,
)
from priory.maps.labels import as_classes, as_labels
from priory.maps.places import REACH, Places, places_of
from priory.maps.quality import knn_accuracy, neighborhoods, topographic_error
from priory.maps.surfaces import require_columns, surface_of
from priory.model import given
from priory.plots.figure import html_picture
from priory.rows import Rows, RowsLike, as_rows, batches_with_context

if TYPE_CHECKING:
    import pandas

BATCH = 1024  # rows whose responsibilities are computed together


class Nodes(NamedTuple):
    """The K nodes of a map, in the order in which the last coordinate of the grid changes fastest.

    Attributes:
        places: their coordinates u_k, (K, C).
        contents: the mean of x at each node, in the data's units, (K, D).
        weight: mixing weights, (K,).
        usage: the rows' mean responsibilities, (K,).
        magnification: volume in feature space per volume of the map, (K,).
        distance: the mean distance in feature space to the neighbors along the axes, the U-matrix, (K,).
    """

    places: Float[Tensor, "node grid"]
    contents: Float[Tensor, "node input"]
    weight: Float[Tensor, " node"]
    usage: Float[Tensor, " node"]
    magnification: Float[Tensor, " node"]
    distance: Float[Tensor, " node"]


class TopographicMap:
    """Rows on the grid of a model: positions of the rows, contents of the nodes, landscapes of labels.

    The rows are read once, in batches; the matrix of all responsibilities is never in memory.

    Args:
        model: a `LatentVariableModel` (such as a `VAE`) whose prior has a grid, a fitted `GTM`, a pipeline of a
            `StandardScaler` and a `GTM`, or a `Surface`.
        rows: in the data's units, in any form that `priory.rows.as_rows` reads: a tensor, an array, a data frame, ...
        reach: nodes within this distance of the likeliest node count for a row's position, in grid steps.
        batch_size: rows read at a time.
        progress: called with the number of finished rows.

    Attributes:
        places: a `Places`, float64 on the CPU; a row whose code or density overflows has no position.
        usage: the mean responsibilities of the rows with a position, (K,).

    Raises:
        ValueError: the model has no grid, there are no rows, or an argument is invalid.

    References: Bishop, Svensen & Williams 1998, Neural Computation 10(1), sec. 2.3 (E[u | x]); Ultsch & Siemon 1990
    (the U-matrix).

    >>> from sklearn.datasets import load_iris
    >>> from priory import GTM
    >>> x, y = load_iris(return_X_y=True)
    >>> drawn = TopographicMap(GTM(points_per_side=8).fit(x), x)
    >>> drawn.places.place.shape, drawn.nodes.contents.shape
    (torch.Size([150, 2]), torch.Size([64, 4]))
    >>> kinds = drawn.landscape(y.astype(str))
    >>> drawn.predict(kinds, x[:1]).label
    ('0',)
    """

    def __init__(
        self,
        model: Any,
        rows: RowsLike,
        *,
        reach: float = REACH,
        batch_size: int = BATCH,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        if not reach >= 0 or batch_size < 1:
            raise ValueError(f"reach, batch_size: expected at least 0 and at least 1, got {reach}, {batch_size}")
        self.surface = surface_of(model)
        self.rows, self.reach, self.batch_size = self._read(rows), reach, batch_size
        self.places, total = self._placed(self.rows, progress)
        self.usage = total / int(self.places.exist.sum())
        prior = getattr(model, "prior", None)
        self._model = type(model).__name__ + ("" if prior is None else f" with {type(prior).__name__}")

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        nodes = " x ".join(map(str, self.surface.grid_shape))
        return f"TopographicMap(rows={len(self)}, nodes={nodes}, model={self._model})"

    def _repr_html_(self) -> str:
        picture = html_picture(self.plot) if len(self.surface.grid_shape) == 2 else ""
        return f"<p>{escape(repr(self))}</p>{picture}"

    def plot(self, color: Any = None, *, name: str | None = None, axes: Any = None) -> Any:
        """Draw the rows on a map with two axes; see `priory.plots.plot_map`. Rows without a position are left out.

        Args:
            color: N texts or N numbers that determine the style of the rows; '', NaN or None for a row without a value.
                Whole numbers with few distinct values are classes.
            name: name of the classes or numbers; that of a pandas Series by default.
            axes: matplotlib axes to draw in; None makes a new figure.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: the map does not have two axes, or there is not one value for each row.

        >>> from priory import GTM
        >>> x = np.random.default_rng(0).normal(size=(30, 3))
        >>> drawn = TopographicMap(GTM(points_per_side=4).fit(x), x)
        >>> drawn.plot(["a", "b"] * 15, name="kind").get_xlabel()
        '$u_1$'
        """
        from priory.plots import plot_map

        exist, labels = self.places.exist.numpy(), {}
        if color is not None:
            values = self._labels("color", color)
            kinds = as_classes(values)
            labels = {"values": values[exist]} if kinds is None else {"classes": kinds[exist]}
            name = getattr(color, "name", None) if name is None else name
        return plot_map(self.places.place[exist], nodes=self.surface.nodes, name=name, axes=axes, **labels)

    @cached_property
    def nodes(self) -> Nodes:
        """The nodes and their contents."""
        surface = self.surface
        contents = surface.contents()
        distance = neighbor_distances(surface.features(contents), surface.grid_shape)
        return Nodes(surface.nodes, contents, surface.weights, self.usage, surface.magnification(), distance)

    @cached_property
    def log_likelihood(self) -> Float[Tensor, " datum"]:
        """Return log p(x) of each row in nats, in the data's units; for a VAE, estimated with a few importance samples.

        The value is -inf for a row whose code or density overflows.
        """
        batches = batches_with_context(self.rows, self.batch_size)
        return torch.cat([given(self.surface, context).log_likelihood(x) for x, context in batches])

    def to_frame(self) -> "pandas.DataFrame":
        """Return the position of each row as a data frame with the names of the rows; see `Places.columns`.

        >>> from priory import GTM
        >>> x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
        >>> TopographicMap(GTM(points_per_side=4, tol=0.01).fit(x), x).to_frame().columns.tolist()
        ['u1', 'u2', 'u1_scale', 'u2_scale', 'node', 'node_u1', 'node_u2', 'responsibility']
        """
        columns = {name: values.numpy() for name, values in self.places.columns().items()}
        return require("pandas", "tables", "to_frame()").DataFrame(columns, index=getattr(self.rows, "ids", None))

    def project(self, rows: RowsLike) -> Places:
        """Return the positions of other rows on the same map.

        Raises:
            ValueError: there are no rows.
        """
        return self._placed(self._read(rows))[0]

    def landscape(self, values: Any, *, smoothing: float = 1.0) -> ClassLandscape | ValueLandscape:
        """Spread labels or numbers of these rows over the nodes; `priory.grid.landscapes` has the formula.

        Args:
            values: N texts or N numbers; '', NaN or None for a row without a value. Whole numbers with few distinct
                values are classes.
            smoothing: number of rows with the mean of the neighborhood that are added to each node.

        Returns:
            A `ClassLandscape` for classes, a `ValueLandscape` for measurements.

        Raises:
            ValueError: there is not one value for each row, no row has a value, or smoothing is negative.
        """
        check_smoothing(smoothing)
        values = self._labels("values", values)
        kinds = as_classes(values)
        there = np.isfinite(values) if kinds is None else kinds != ""
        if not there.any():
            raise ValueError("values: expected a value for at least one row, got none; name another label")
        if kinds is not None:
            names, codes = np.unique(kinds[there], return_inverse=True)
            places = torch.zeros(len(self), dtype=torch.int64)  # 0 for rows without a class
            places[torch.from_numpy(np.flatnonzero(there))] = torch.from_numpy(codes) + 1
            sums = self._sums(lambda rows: one_hot(places[rows], len(names) + 1)[:, 1:].double())
            probabilities = class_probabilities(sums, smoothing, self.surface.grid_shape)
            return ClassLandscape(tuple(map(str, names.tolist())), probabilities, sums.sum(-1))
        center = values[there].mean(dtype=np.float64)
        centered = torch.from_numpy(np.where(there, values - center, 0.0)).double()
        columns = weighted_powers(centered, torch.from_numpy(there).double())
        sums = self._sums(lambda rows: columns[rows])
        return value_landscape(sums, torch.tensor(center), smoothing, self.surface.grid_shape)

    def predict(
        self, landscape: ClassLandscape | ValueLandscape, rows: RowsLike | None = None
    ) -> ClassPrediction | ValuePrediction:
        """Predict the label or number of rows from a landscape; None predicts the map's own rows.

        A row without a position has the label '' or the number NaN.
        """
        shares = self._shares(self.rows if rows is None else self._read(rows))
        if isinstance(landscape, ValueLandscape):
            parts = [predicted_value(share, landscape.mean, landscape.scale) for share in shares]
            return ValuePrediction(*(torch.cat(column) for column in zip(*parts, strict=True)))
        probabilities = torch.cat([share @ landscape.probabilities for share in shares])
        confidence, best = probabilities.max(-1)
        best = best.masked_fill(confidence.isnan(), -1)  # rows without a position
        return ClassPrediction(tuple((*landscape.classes, "")[i] for i in best.tolist()), confidence, probabilities)

    def quality(
        self,
        kinds: np.ndarray | None = None,
        train: "TopographicMap | None" = None,
        train_kinds: np.ndarray | None = None,
    ) -> dict[str, Estimate]:
        """Measure the quality of the map: neighborhoods, topographic error, use of nodes; with classes, their accuracy.

        The metrics are `trustworthiness`, `pca_trustworthiness`, `continuity`, `topographic_error`, `used_nodes` and,
        with classes, `knn_accuracy`. Rows without a position are left out.

        Args:
            kinds: classes of these rows as texts, '' for a row without a class.
            train: a map of other rows by the same model, whose neighbors predict the classes of these rows.
            train_kinds: the classes of those rows.
        """
        width = next(iter(self.rows.batches(1)))[0].numel()
        exist = self.places.exist.numpy()
        places = Places(*(column[exist] for column in self.places))
        measures = neighborhoods(places.place, self._features, width)
        if kinds is not None and train is not None and train_kinds is not None:
            mine = np.flatnonzero((kinds != "") & exist)
            theirs = np.flatnonzero((train_kinds != "") & train.places.exist.numpy())
            known = train.places.place[theirs]
            measures["knn_accuracy"] = knn_accuracy(known, train_kinds[theirs], self.places.place[mine], kinds[mine])
        measures["topographic_error"] = topographic_error(places, self.surface.nodes)
        # exp(-sum_k usage_k log usage_k), the exponential of a mean over rows of -sum_k r_nk log usage_k
        information = -self.usage.clamp(min=torch.finfo(torch.float64).tiny).log()
        of_rows = torch.cat([share @ information for share in self._shares(self.rows)])
        measures["used_nodes"] = mean(of_rows[self.places.exist]).exp()
        return measures

    def _features(self) -> Iterator[Tensor]:
        """Yield the features of the rows with a position; distances are measured between features."""
        batches = zip(self.rows.batches(self.batch_size), self.places.exist.split(self.batch_size), strict=True)
        return (self.surface.features(x[exist]) for (x, _), exist in batches)

    def _labels(self, argument: str, values: Any) -> np.ndarray:
        labels = as_labels(values)
        if labels.shape != (len(self),):
            raise ValueError(f"{argument}: expected one for each of the {len(self)} rows, got shape {labels.shape}")
        return labels

    def _read(self, data: RowsLike) -> Rows:
        rows = as_rows(data, "rows")
        require_columns(self.surface, rows, "rows")
        return rows

    def _placed(
        self, rows: Rows, progress: Callable[[int], None] | None = None
    ) -> tuple[Places, Float[Tensor, " node"]]:
        """Return the rows' positions, and the sum of their responsibilities."""
        columns, total = Columns(len(rows)), torch.zeros(len(self.surface.nodes), dtype=torch.float64)
        for share in self._shares(rows):
            columns.add(places_of(share, self.surface.nodes, self.reach))
            total += share.nan_to_num(0.0).sum(0)
            if progress is not None:
                progress(columns.done)
        return Places(*columns.all), total

    def _shares(self, rows: Rows) -> Iterator[Float[Tensor, "datum node"]]:
        batches = batches_with_context(rows, self.batch_size)
        return (given(self.surface, context).responsibilities(x) for x, context in batches)

    def _sums(self, columns: Callable[[slice], Float[Tensor, "row column"]]) -> Float[Tensor, "node column"]:
        """Return sum_n r_nk c_n; `columns` returns c of some rows."""
        total, start = torch.zeros(1, dtype=torch.float64), 0
        for share in self._shares(self.rows):
            total = total + share.nan_to_num(0.0).mT @ columns(slice(start, start + len(share)))
            start += len(share)
        return total


def neighbor_distances(features: Float[Tensor, "node feature"], grid_shape: tuple[int, ...]) -> Float[Tensor, " node"]:
    """Return the mean distance of each node to its neighbors along the axes of the grid, at most two on each axis."""
    sheet = features.double().reshape(*grid_shape, -1)
    total, count = torch.zeros(grid_shape, dtype=torch.float64), torch.zeros(grid_shape)
    for axis, side in enumerate(grid_shape):
        gaps = sheet.diff(dim=axis).norm(dim=-1)
        for start in (0, 1):
            total.narrow(axis, start, side - 1).add_(gaps)
            count.narrow(axis, start, side - 1).add_(1.0)
    return (total / count.clamp(min=1.0)).reshape(-1)
