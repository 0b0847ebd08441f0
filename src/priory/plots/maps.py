"""A map of data: its rows, styled by class or colored by a number."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from priory._support.cells import as_text
from priory.plots.cells import cell_means
from priory.plots.classes import NOTHING, OTHERS, class_styles, counted, styled_classes
from priory.plots.colors import color_scale
from priory.plots.figure import (
    DATA_COLOR,
    LONGEST_NAME,
    MANY_DOTS,
    Axes,
    TensorOrArray,
    all_as_drawn,
    as_drawn,
    new_axes,
    to_numpy,
    to_rows,
)

_CELLS = 130  # along each side; a cell is about as large as a marker
_LAYERS, _MOST_LAYERS, _ROWS_OF_LAYER = 8, 64, 2000  # classes are drawn alternately, so that none hides all others
_SIZES = ((300, 6.5), (2000, 4.5), (5000, 3.4), (math.inf, 2.4))  # (most rows, points across a marker)
_ONE_PLACE = 0.02  # rows nearer than about this distance, in units of the map, hide one another
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def plot_map(
    places: TensorOrArray,
    *,
    classes: Sequence[str] | np.ndarray | None = None,
    values: Sequence[float] | np.ndarray | None = None,
    name: str | None = None,
    nodes: TensorOrArray | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw rows at their positions on a two-dimensional map, styled by class or colored by a number.

    Classes differ in marker and in color; a name of one or two letters or digits is its own marker. Of many classes,
    only the most frequent have their own style. If nodes are given, rows at one position are spread around it, by less
    than half of the distance between nodes, because most rows lie on a node and would hide one another. More than 5000
    rows are drawn as pixels, also in vector files; numbers are then averaged over small cells. Skewed numbers are
    colored by their quantiles.

    Args:
        places: (batch, 2), such as E[u | x].
        classes: one text for each row; '' for a row without a class.
        values: one number for each row instead; NaN for a row without a number.
        name: name of the classes or numbers.
        nodes: (node, 2), a square grid, drawn faintly.
        axes: axes to draw in; None makes a new figure.

    Raises:
        ValueError: positions do not have two coordinates, lengths differ, or both classes and values are given.

    >>> plot_map(np.zeros((3, 2)), classes=["a", "b", ""]).get_legend_handles_labels()[1]
    ['a (1)', 'b (1)', 'none (1)']
    """
    points = to_rows("places", places)
    if points.shape[1] != 2:
        raise ValueError(f"places: expected shape (batch, 2), got {points.shape}; choose two of the columns")
    check_labels(len(points), classes, values)
    axes = axes or new_axes(1, 1, (6.4 if classes is None else width_with_legend(classes, name), 5.3))[0]
    if nodes is not None:
        axes.plot(*to_numpy(nodes).T, ".", color="0.85", markersize=2, zorder=0)
        points = spread_about(points, 0.9 / max(1, math.isqrt(len(nodes)) - 1))
    end = _end(points)
    if classes is None and values is None:
        look: dict[str, Any] = {
            "markersize": _size(points),
            "markeredgewidth": 0,
            "rasterized": len(points) > MANY_DOTS,
        }
        axes.plot(*points.T, "o", color=DATA_COLOR, **look)
    else:
        draw_labeled(axes, points, classes, values, name, (np.full(2, -end), np.full(2, end)))
    axes.set(xlim=(-end, end), ylim=(-end, end), xlabel="$u_1$", ylabel="$u_2$")
    axes.set_aspect("equal", adjustable="box")
    return axes


def check_labels(
    count: int, classes: Sequence[str] | np.ndarray | None, values: Sequence[float] | np.ndarray | None
) -> None:
    """Raise a ValueError if both are given, or if there is not one for each of `count` rows."""
    labels = [each for each in (classes, values) if each is not None]
    if len(labels) > 1 or any(len(each) != count for each in labels):
        raise ValueError(f"classes, values: expected one of them, {count} long, got {[len(g) for g in labels]}")


def draw_labeled(
    axes: Axes,
    points: np.ndarray,
    classes: Sequence[str] | np.ndarray | None,
    values: Sequence[float] | np.ndarray | None,
    name: str | None,
    window: tuple[np.ndarray, np.ndarray],
) -> None:
    """Draw points (n, 2) by their classes with a legend, or by their values with a color bar.

    Many values are averaged over the cells of the window, which is given by its lower left and upper right corner.
    """
    if values is not None:
        _draw_values(axes, points, np.asarray(values, dtype=float), name, window)
    else:
        _draw_classes(axes, points, as_text(classes), name)


def _size(points: np.ndarray) -> float:
    return next(size for most, size in _SIZES if len(points) <= most)


def width_with_legend(classes: Sequence[str] | np.ndarray, name: str | None) -> float:
    """Return the width in inches of the map and a legend beside it."""
    count = len(str(len(classes))) + 3
    longest = max([len(name or ""), *(len(kind or "none") + count for kind in set(map(str, classes)))])
    return 5.7 + 0.1 * min(longest, LONGEST_NAME + count)


def spread_about(points: np.ndarray, radius: float) -> np.ndarray:
    """Move rows at one position onto a spiral within the radius: row n at distance sqrt(n), turned by golden angles."""
    cells = np.rint(points / _ONE_PLACE)
    codes = cells[:, 0] * (2 * np.abs(cells).max() + 1) + cells[:, 1]  # one number per pair sorts ten times as fast
    _, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    turn = np.empty(len(points))
    turn[order] = np.arange(len(points)) - np.repeat(np.cumsum(counts) - counts, counts)
    step = np.minimum(_ONE_PLACE, radius / np.sqrt(np.maximum(counts, 1)))[place]
    distance, angle = step * np.sqrt(turn), _GOLDEN_ANGLE * turn
    return points + np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)


def _draw_values(
    axes: Axes, points: np.ndarray, values: np.ndarray, name: str | None, window: tuple[np.ndarray, np.ndarray]
) -> None:
    known, many, name, size = np.isfinite(values), len(values) > MANY_DOTS, as_drawn(name or ""), _size(points)
    if not known.all():
        rest = points[~known].T
        axes.plot(*rest, "x", color=NOTHING, markersize=size, label=f"none ({(~known).sum()})", rasterized=many)
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), frameon=False, title="rows", alignment="left")
    points, values = points[known], values[known]
    shown: Any
    if many:
        means = cell_means(points, values, *window, _CELLS)
        colors, extent = color_scale(means), (window[0][0], window[1][0], window[0][1], window[1][1])
        shown = axes.imshow(means, cmap="cividis", origin="lower", extent=extent, aspect="equal", **colors.picture)
        name = f"{name or 'value'}, mean of the rows in each cell"
    else:
        colors = color_scale(values)
        look: dict[str, Any] = {"cmap": "cividis", "linewidths": 0.2, "edgecolors": "white"}
        shown = axes.scatter(points[:, 0], points[:, 1], size**2, values, **look, **colors.picture)
    axes.figure.colorbar(shown, ax=axes, label=name + colors.note, shrink=0.85, **colors.bar)


def _end(points: np.ndarray) -> float:
    """Return half of the map's side: nodes lie from -1 to 1, rows may lie outside."""
    return max(1.07, float(np.abs(points).max(initial=0.0)) + 0.03)


def _draw_classes(axes: Axes, points: np.ndarray, classes: np.ndarray, name: str | None) -> None:
    size = _size(points)
    styles = class_styles(styled_classes(classes))
    names = set(classes.tolist())
    rest = [kind for kind, exists in (("", "" in names), (OTHERS, names - styles.keys() - {""})) if exists]
    styles |= dict.fromkeys(rest, (".", NOTHING))
    kinds = np.array([kind if kind in styles else OTHERS for kind in classes.tolist()])
    rows = {kind: points[kinds == kind] for kind in styles}
    texts = dict(zip(styles, all_as_drawn(styles), strict=True))
    layers = min(max(_LAYERS, len(points) // _ROWS_OF_LAYER), _MOST_LAYERS)
    for layer in range(layers):
        for kind, (marker, color) in styles.items():
            mine = rows[kind]
            letters = marker.startswith("$")
            axes.plot(
                *mine[layer::layers].T,
                linestyle="",
                marker=marker,
                color=color,
                markersize=size * (1.5 if letters else 1.0),
                markeredgecolor=color if letters else "white",
                markeredgewidth=0.0 if letters else 0.3,
                rasterized=len(points) > MANY_DOTS,
                label=None if layer else f"{texts[kind] or 'none'} ({len(mine)})",
            )
    look: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}
    scale = max(1.3, 6.0 / size)  # at least 6 points across
    legend = axes.legend(**look, title=counted(as_drawn(name or ""), "rows"), markerscale=scale)
    legend.set_alignment("left")
