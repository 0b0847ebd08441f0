"""The pictures of a map: its rows, the contents of its nodes, a label over the map, the magnification."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from priory.grid.landscapes import ClassLandscape
from priory.grid.nodes import latent_grid
from priory.maps.conditional_surface import ConditionalSurface
from priory.maps.labels import as_classes
from priory.maps.quality import evenly_spaced
from priory.maps.topographic_map import TopographicMap
from priory.plots.figure import as_drawn
from priory.plots.landscapes import geometric_mean
from priory.workbench.data import DatasetRows
from priory.workbench.report.rows import column_moments
from priory.workbench.report.run import MOST_MAPPED

MOST_LANDSCAPES = 9
FINE_SIDE = 64  # places along each side at which the magnification is drawn
AXES = "$u_1$ to the right, $u_2$ upwards"


@dataclass(frozen=True)
class Look:
    """How to draw rows of the model: as images or as tables."""

    columns: Sequence[str]  # names of the model's columns
    image_shape: tuple[int, int] | None  # height and width if rows with all columns are images, else None
    restored: Callable[[Tensor], Tensor]  # adds the constant columns to rows of the model
    low: float  # value drawn as black
    high: float  # value drawn as white

    @property
    def gray(self) -> dict[str, Any]:
        """Arguments of the functions that draw images."""
        return {"image_shape": self.image_shape, "low": self.low, "high": self.high}


def map_figures(drawn: TopographicMap, rows: DatasetRows, total: int, look: Look) -> dict[str, Any]:
    """Draw the figures of a map: `map`, `nodes`, `magnification`, `landscape` and `conditions`.

    `landscape` needs a label, and `conditions` a conditional model. There are no figures if the grid is not square.
    `rows` are some or all of the `total` rows of the data set.
    """
    from priory.plots import plot_magnification

    shape = drawn.surface.grid_shape
    if len(shape) != 2 or shape[0] != shape[1]:
        return {}
    places = drawn.places.place.numpy()
    stretch = drawn.surface.magnification(latent_grid(FINE_SIDE, dtype=torch.float64))
    usual = geometric_mean(drawn.nodes.magnification)  # the page uses the mean over nodes too
    figures = {
        "map": draw_map(rows, places, drawn.surface.nodes.numpy(), total),
        "nodes": _nodes(drawn, look),
        "magnification": plot_magnification(stretch.numpy(), places, mean=usual),
    }
    return figures | _landscape(drawn, rows) | _conditions(drawn, rows)


def _conditions(drawn: TopographicMap, rows: DatasetRows) -> dict[str, Any]:
    """Draw the density of each context, if the prior depends on one."""
    from priory.plots import plot_conditions

    surface, encoding = drawn.surface, rows.dataset.encoding
    if encoding is None or not isinstance(surface, ConditionalSurface) or not surface.depends_on_context:
        return {}
    names, contexts = encoding.single()
    densities = surface.density(contexts)
    return {"conditions": plot_conditions(densities, names, nodes=surface.nodes, overall=surface.weights)}


def save_figures(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write each figure as `NAME.png`; return the files in the same order."""
    from priory.plots import save_figure

    paths = {folder / f"{name}.png": figure for name, figure in figures.items()}
    for path, figure in paths.items():
        save_figure(figure, path)
    return list(paths)


def some_rows(rows: DatasetRows) -> DatasetRows:
    """Return these rows; if there are many, an evenly spaced subset."""
    return DatasetRows(rows.dataset, rows.indices[evenly_spaced(len(rows), MOST_MAPPED)])


def by_first_label(rows: DatasetRows) -> dict[str, Any]:
    """Return the first label as arguments of `plot_map`: its name, and its classes or numbers."""
    if not rows.labels:
        return {}
    name, values = next(iter(rows.labels.items()))
    kinds = as_classes(values)
    return {"name": name} | ({"values": values} if kinds is None else {"classes": kinds})


def draw_map(rows: DatasetRows, places: np.ndarray, nodes: np.ndarray, total: int) -> Any:
    """Draw all or some of `total` rows at their places on a map, styled by their first label; return the axes."""
    from priory.plots import plot_map

    axes = plot_map(places, **by_first_label(rows), nodes=nodes)
    number = f"{len(rows)} rows" if len(rows) == total else f"{len(rows)} of {total} rows"
    name = f"{as_drawn(rows.dataset.name)}: " if rows.dataset.name else ""
    axes.set_title(f"{name}{number}; rows at the same place are spread around it", fontsize="medium")
    return axes


def _nodes(drawn: TopographicMap, look: Look) -> Any:
    """Draw the nodes' images; for a table, the columns that vary most over the map."""
    from priory.plots import plot_landscapes, plot_node_images

    contents, side = drawn.nodes.contents.flatten(1), drawn.surface.grid_shape[0]
    if look.image_shape is not None:
        return plot_node_images(look.restored(contents), side=side, title=f"The nodes' images, {AXES}", **look.gray)
    values = contents.numpy()
    rows = torch.cat([x.flatten(1) for x, _ in drawn.rows.batches(drawn.batch_size)]).numpy()
    spread = values.var(axis=0) / np.maximum(column_moments(rows).scale ** 2, 1e-300)  # units of columns differ
    order = np.argsort(-spread, kind="stable")[:MOST_LANDSCAPES]
    axes = plot_landscapes(values[:, order], names=[look.columns[i] for i in order], most=MOST_LANDSCAPES)
    some = f"; the {len(order)} of {len(look.columns)} columns that vary most" if len(look.columns) > len(order) else ""
    axes[0].figure.suptitle(f"Columns over the map, {AXES}{some}", fontsize="medium")
    return axes


def _landscape(drawn: TopographicMap, rows: DatasetRows) -> dict[str, Any]:
    """Draw the first label over the nodes."""
    from priory.plots import plot_class_landscape, plot_node_values

    name, values = next(iter(rows.labels.items()), ("", np.empty(0)))
    kinds = as_classes(values) if len(values) else values
    there = np.isfinite(values) if kinds is None else kinds != ""
    if not there.any():
        return {}
    landscape = drawn.landscape(values)
    if isinstance(landscape, ClassLandscape):
        return {"landscape": plot_class_landscape(landscape.probabilities, landscape.classes, name=name)}
    return {"landscape": plot_node_values(landscape.mean, name)}
