"""`GTM`: the generative topographic mapping with scikit-learn's interface."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from priory.grid.nodes import RadialBasis, latent_grid
from priory.gtm.checks import (
    DTYPES,
    basis_per_side,
    check_parameters,
    check_same_grid,
    checked_batches,
    checked_device,
    checked_rows,
    checked_weights,
)
from priory.gtm.fitted_map import FittedMap
from priory.gtm.fitting import Course, Progress, begin, fit_in_batches, fit_in_turns
from priory.gtm.reader import Batch, BlockReader
from priory.gtm.stiffness import FREE, Stiffness, choose_stiffness
from priory.gtm.storage import SafetensorsMixin
from priory.gtm.table import RowsTable, TableLike, is_dask


class GTM(SafetensorsMixin, FittedMap):
    """A map of numeric rows, and their density: a smooth sheet through the data with noise around it.

        p(x) = 1/K sum_k N(x | y(u_k), noise_variance I),    y(u) = sum_m W_m exp(-|u - c_m|^2 / (2 width^2)) + W_0

    The nodes u_k are a regular grid over [-1, 1]^C. EM maximizes the log-likelihood minus weight_decay/2 |W|^2 / v,
    with v the mean variance of a column. A row's position on the map is E[u | x]. NaN cells are missing and integrated
    out exactly; rows without observed cells are ignored. Standardize columns with different units first: the noise is
    the same in all columns, and its variance is at least a millionth of v (in float32, a ten thousandth).

    The sheet of a small table is stiffer. If there are at most eight rows for each radial function, each row counted as
    (D - C) / D of a row, `fit` chooses the tether to a plane, and the least noise, by cross-validation.

    Args:
        points_per_side: nodes along each side of the grid; K = points_per_side^n_components.
        basis_per_side: radial basis functions along each side; None uses half of points_per_side, rounded up.
        basis_width: their width, in units of the distance between two of them.
        weight_decay: the precision of the prior of W; the bias W_0 has no prior.
        tether: the precision of a second prior of W about the most likely plane, in units of 1/v. None lets `fit` and
            `fit_batches` choose it for a small table, and is 0 otherwise; 0 is the paper's GTM.
        max_iter: most iterations of EM; with batch_size, most passes over the rows.
        tol: EM ends when an iteration changes the penalized log-likelihood by less than tol times the total gain.
        n_components: C, dimensions of the grid.
        batch_size: None uses all rows in each iteration; a number does incremental EM with that many rows at a time.
        annealing: number of iterations, at most half of max_iter, in which the sheet is tethered to the plane of the
            principal components, ever more weakly. 0 is the paper's EM without a tether, which ends in worse optima.
        device: device of the computation, such as "cuda"; None is the CPU.
        dtype: type of the computation, "float64" or "float32".
        random_state: seed or generator for the order of batches and for `sample`.

    Attributes:
        means_: the images y(u_k) of the nodes, (K, D), in the data's units.
        nodes_: u_k, (K, C).
        weights_: mixing weights, (K,); all 1/K.
        noise_variance_: in the data's units, squared.
        tether_: the given or chosen tether.
        least_noise_variance_: the lower bound of noise_variance_ that was chosen with the tether; 0 without a choice.
        collapsed_: whether the noise is at its general lower bound, so that the sheet passes through the rows.
        log_likelihoods_: mean log-likelihood of a training row in nats, with the parameters before each iteration.
        held_out_log_likelihoods_: the same for the rows held out in `fit_batches`, else empty.
        penalized_log_likelihoods_: `log_likelihoods_` minus the penalty; without batch_size it never falls.
        n_iter_: number of iterations.
        converged_: whether tol was reached.
        basis_: phi, a `RadialBasis`.
        basis_weights_: W, (M + 1, D), the bias last: means_ = phi(nodes_) W.

    Reference: Bishop, Svensen & Williams 1998, Neural Computation 10(1), GTM: The generative topographic mapping.

    >>> from sklearn.datasets import load_iris
    >>> x = load_iris().data
    >>> gtm = GTM(points_per_side=10).fit(x)
    >>> gtm.transform(x).shape, gtm.score(x) > -2.0
    ((150, 2), True)
    """

    def __init__(
        self,
        points_per_side: int = 16,
        *,
        basis_per_side: int | None = None,
        basis_width: float = 1.0,
        weight_decay: float = 0.1,
        tether: float | None = None,
        max_iter: int = 500,
        tol: float = 1e-5,
        n_components: int = 2,
        batch_size: int | None = None,
        annealing: int = 100,
        device: str | None = None,
        dtype: str = "float64",
        random_state: Any = None,
    ) -> None:
        self.points_per_side = points_per_side
        self.basis_per_side = basis_per_side
        self.basis_width = basis_width
        self.weight_decay = weight_decay
        self.tether = tether
        self.max_iter = max_iter
        self.tol = tol
        self.n_components = n_components
        self.batch_size = batch_size
        self.annealing = annealing
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: TableLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the sheet to rows.

        Args:
            X: (N, D), NaN in missing cells: an array, a data frame, or any other form that `priory.rows.as_rows` reads.
                A memory map, AnnData, a dataset, a folder of Parquet files or `Rows` is read block by block. A sparse
                matrix raises an error, as scikit-learn's checks require: give `as_rows(X, "X")`. Rows of a Dask array
                or data frame stay where Dask has them: each iteration sums over its blocks on the workers of the active
                client, or in threads of this process.
            y: ignored.
            sample_weight: (N,), not negative: a row of weight 2 counts as two rows.

        Raises:
            ValueError: a parameter or the data are wrong; a column has no value at all.
        """
        check_parameters(self)
        if is_dask(X):
            return self._fit(self._dask_rows(X, sample_weight))
        checked = checked_rows(self, X, reset=True)
        weight = checked_weights(checked, sample_weight)
        return self._fit(self._rows(lambda: [Batch(checked, weight)]))

    def fit_batches(
        self,
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        held_out: Callable[[], Iterable[TableLike]] | None = None,
    ) -> Self:
        """Fit the sheet to rows that come in batches and need not fit into memory; each iteration reads them once.

        Args:
            batches: a source that can be read repeatedly: a list, a DataLoader, or a function that starts a reading.
                Each batch is (b, D), or a tuple or list whose first item is that.
            held_out: returns batches of other rows, (b, D), for `held_out_log_likelihoods_`; they do not affect the
                fit.

        Raises:
            ValueError: as `fit`; or the batches can be read only once.
        """
        check_parameters(self)
        return self._fit(self._rows(checked_batches(self, batches)), held_out)

    def partial_fit(self, X: TableLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Do one step of incremental EM. The first call also initializes the map, so give it many rows.

        The n-th step moves the statistics by (2 / (n + 1))^0.6 towards those of its rows; the prior of W is weighted
        against all rows so far. After `fit`, EM continues from the fitted map. `log_likelihoods_` is extended by the
        mean over the rows of each step; `penalized_log_likelihoods_` is empty and `converged_` is False from then on.

        Args:
            X: (N, D), NaN in missing cells.
            y: ignored.
            sample_weight: (N,), not negative.

        Raises:
            ValueError: as `fit` in the first call; or a later call has another number of columns.
        """
        check_parameters(self)
        first = not hasattr(self, "_course")
        checked = checked_rows(self, X, reset=first)
        weight = checked_weights(checked, sample_weight)
        if first:
            course, rows = self._begin(self._rows(lambda: [Batch(checked, weight)]), annealing=0, choose=False)
        else:
            check_same_grid(self)
            if self._course is None:
                raise ValueError(
                    "partial_fit: this model was read from a file, which lacks the statistics that EM continues "
                    "from; fit a new one (sklearn.base.clone(gtm)), or continue with the model that was saved"
                )
            course = self._course.to(checked_device(self.device))
            rows = self._batch(course, checked, weight)
        course.release = replace(course.release, rows=0.0)  # the number is unknown, so the course counts rows
        statistics = course.step(rows)
        history = [] if first else self.log_likelihoods_.tolist()
        new = [statistics.log_likelihood / statistics.rows] if statistics.rows > 0 else []
        return self._finish(course, Progress([*history, *new]))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickle, on the CPU, so that a machine without the device can read it."""
        state = super().__getstate__()
        if isinstance(course := state.get("_course"), Course):
            state["_course"] = course.to(torch.device("cpu"))
        return state

    def _fit(self, rows: BlockReader, held_out: Callable[[], Iterable[TableLike]] | None = None) -> Self:
        annealing = min(self.annealing, self.max_iter // 2)
        course, rows = self._begin(rows, annealing, choose=True)
        if self.batch_size is None:
            held = None
            if held_out is not None:
                read = self._rows(lambda: (Batch(checked_rows(self, x, reset=False)) for x in held_out()))
                held = read.centered(course.center)
            progress = fit_in_turns(course, rows, self.max_iter, self.tol, held)
        else:
            [(X, weight)] = rows.batches()
            del rows  # frees their memory
            progress = fit_in_batches(course, self._epochs(course, X, weight), self.tol)
        if not progress.converged and self.tol > 0:
            message = (
                f"GTM: after max_iter={self.max_iter} iterations the likelihood still changed by more than "
                f"tol={self.tol}; raise max_iter or tol"
            )
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        if course.collapsed(DTYPES[self.dtype]):
            message = (
                "GTM: the noise variance is at its least, a millionth of the mean variance of a column, so the sheet "
                "passes through the rows; raise tether or weight_decay, or lower basis_per_side"
            )
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        return self._finish(course, progress)

    def _begin(self, rows: BlockReader, annealing: int, *, choose: bool) -> tuple[Course, BlockReader]:
        """Start EM with these rows; also return the centered rows."""
        with torch.device("cpu"):  # not torch's default device
            nodes = latent_grid(self.points_per_side, self.n_components, dtype=torch.float64)
            basis = RadialBasis.on_grid(basis_per_side(self), self.n_components, self.basis_width, dtype=torch.float64)
        if self.tether is not None:
            stiffness = Stiffness(float(self.tether), 0.0)
        elif choose:
            stiffness = choose_stiffness(rows, nodes, basis, self.weight_decay)
        else:
            stiffness = FREE
        return begin(rows, nodes, basis, self.weight_decay, annealing, *stiffness)

    def _finish(self, course: Course, progress: Progress) -> Self:
        """Set the fitted attributes, after EM has ended."""
        sheet, nodes = course.sheet, course.nodes
        weights = sheet.weights.cpu().clone()
        weights[-1] += course.center.cpu()
        self._course, self.basis_ = course, course.basis
        self.basis_weights_ = weights.numpy()
        self.nodes_ = nodes.numpy()
        self.means_ = (self.basis_(nodes) @ weights).numpy()
        self.weights_ = np.full(len(nodes), 1 / len(nodes))
        self.noise_variance_ = sheet.variance
        self.tether_ = course.release.tether
        self.least_noise_variance_ = course.release.least
        self.collapsed_ = course.collapsed(DTYPES[self.dtype])
        self.log_likelihoods_ = np.array(progress.log_likelihoods)
        self.held_out_log_likelihoods_ = np.array(progress.held_out)
        self.penalized_log_likelihoods_ = np.array(progress.penalized)
        self.n_iter_ = len(progress.log_likelihoods)
        self.converged_ = progress.converged
        return self

    def _epochs(
        self, course: Course, X: NDArray[Any] | RowsTable, weight: NDArray[Any] | None
    ) -> Iterator[Iterator[BlockReader]]:
        """Yield passes over the rows, each in its own order."""
        random = check_random_state(self.random_state)
        for _ in range(self.max_iter):
            order = random.permutation(len(X))
            starts = range(0, len(X), self.batch_size or len(X))
            parts = (np.sort(order[start : start + starts.step]) for start in starts)
            yield (self._batch(course, X[part], None if weight is None else weight[part]) for part in parts)

    def _dask_rows(self, X: Any, sample_weight: Any) -> BlockReader:
        from priory.gtm.dask_rows import DaskReader, checked_array

        if self.batch_size is not None:
            raise ValueError(
                f"batch_size: expected None for rows of Dask, got {self.batch_size}: each iteration uses all "
                "blocks; for incremental EM call partial_fit with each block"
            )
        rows = checked_array(self, X, reset=True)
        num_nodes, device = self.points_per_side**self.n_components, checked_device(self.device)
        return DaskReader(rows, sample_weight, num_nodes, device, DTYPES[self.dtype])

    def _batch(self, course: Course, X: NDArray[Any] | RowsTable, weight: NDArray[Any] | None) -> BlockReader:
        return self._rows(lambda: [Batch(X, weight)]).centered(course.center)
