"""A map of data: rows on it, what its nodes stand for, how far the sheet is stretched."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from priory.plots.figure import DATA_COLOUR, MODEL_COLOUR, Rows, column_names, new_axes, to_numpy, to_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:
    Axes = Any

MOST_CLASSES = 12  # that are told apart; markers for more are too alike
_OTHERS = "others"
_MARKERS = "os^DvPX*<>hd"
# Okabe & Ito's, without the yellow that is lost on white, then Tol's muted; neighbours differ in lightness too
CLASS_COLOURS = (
    "#0072b2", "#e69f00", "#000000", "#cc79a7", "#009e73", "#d55e00",
    "#56b4e9", "#882255", "#999933", "#332288", "#ddcc77", "#8c6bb1",
)  # fmt: skip
_LAYERS = 8  # in which classes are drawn by turns, so that none hides all others
_SIZES = ((300, 6.5), (2000, 4.5), (5000, 3.4), (math.inf, 2.4))  # up to so many rows: points across a marker
_EMPTY = "#b3b3b3"
_ONE_PLACE = 0.02  # rows that are nearer than about this, in units of the map, would hide one another
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def plot_map(
    places: Rows,
    *,
    classes: Sequence[str] | np.ndarray | None = None,
    values: Sequence[float] | np.ndarray | None = None,
    name: str | None = None,
    nodes: Rows | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw rows at their places on a two-dimensional map, told apart by class or shaded by a number.

    Classes differ in marker and in colour; names of one or two letters or digits are the markers themselves. Of many
    classes, the commonest are told apart. With nodes, rows at one place are spread about it, by less than half of the
    nodes' distance: most rows lie on a node, and would hide one another.

    Args:
        places: (batch, 2), such as E[u | x].
        classes: one text a row; '' for a row that has none.
        values: instead, one number a row; NaN for a row that has none.
        name: of what tells them apart.
        nodes: (node, 2), a square grid, drawn faintly.
        axes: where to draw; a new figure without it.

    Raises:
        ValueError: places are not on two axes, lengths differ, or both classes and values are given.

    >>> plot_map(np.zeros((3, 2)), classes=["a", "b", ""]).get_legend_handles_labels()[1]
    ['a (1)', 'b (1)', 'none (1)']
    """
    points = to_rows("places", places)
    if points.shape[1] != 2:
        raise ValueError(f"places: expected shape (batch, 2), got {points.shape}; choose two of the columns")
    given = [each for each in (classes, values) if each is not None]
    if len(given) > 1 or any(len(each) != len(points) for each in given):
        raise ValueError(f"classes, values: expected one of them, {len(points)} long, got {[len(g) for g in given]}")
    if axes is None:
        axes = new_axes(1, 1, (6.4 if classes is None else _width(classes, name), 5.3))[0]
    if nodes is not None:
        axes.plot(*to_numpy(nodes).T, ".", color="0.85", markersize=2, zorder=0)
        points = spread_about(points, 0.9 / max(1, math.isqrt(len(nodes)) - 1))
    size = next(size for most, size in _SIZES if len(points) <= most)
    if values is not None:
        _draw_values(axes, points, np.asarray(values, dtype=float), size, name)
    elif classes is not None:
        _draw_classes(axes, points, np.asarray(classes, dtype=str), size, name)
    else:
        axes.plot(*points.T, "o", color=DATA_COLOUR, markersize=size, markeredgewidth=0)
    end = max(1.07, float(np.abs(points).max()) + 0.03)
    axes.set(xlim=(-end, end), ylim=(-end, end), xlabel="$u_1$", ylabel="$u_2$")
    axes.set_aspect("equal", adjustable="box")
    return axes


def _width(classes: Sequence[str] | np.ndarray, name: str | None) -> float:
    """Inches for the map and a legend beside it."""
    longest = max([len(name or ""), *(len(kind) + 7 for kind in set(map(str, classes)))])
    return 5.7 + 0.1 * min(longest, 40)


def spread_about(points: np.ndarray, radius: float) -> np.ndarray:
    """Rows at one place in a spiral about it, within the radius: the n-th at sqrt(n), a golden angle further."""
    _, place, counts = np.unique(np.rint(points / _ONE_PLACE), axis=0, return_inverse=True, return_counts=True)
    place = place.ravel()
    order = np.argsort(place, kind="stable")
    turn = np.empty(len(points))
    turn[order] = np.arange(len(points)) - np.repeat(np.cumsum(counts) - counts, counts)
    step = np.minimum(_ONE_PLACE, radius / np.sqrt(np.maximum(counts, 1)))[place]
    distance, angle = step * np.sqrt(turn), _GOLDEN_ANGLE * turn
    return points + np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)


def _draw_values(axes: Axes, points: np.ndarray, values: np.ndarray, size: float, name: str | None) -> None:
    known = np.isfinite(values)
    if not known.all():
        axes.plot(*points[~known].T, "x", color=_EMPTY, markersize=size, label=f"none ({(~known).sum()})")
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), frameon=False)
    look: dict[str, Any] = {"cmap": "cividis", "linewidths": 0.2, "edgecolors": "white"}
    dots = axes.scatter(points[known, 0], points[known, 1], size**2, values[known], **look)
    axes.figure.colorbar(dots, ax=axes, label=name or "", shrink=0.85)


def _draw_classes(axes: Axes, points: np.ndarray, classes: np.ndarray, size: float, name: str | None) -> None:
    styles = _styles(classes)
    kinds = np.array([kind if kind in styles else _OTHERS for kind in classes.tolist()])
    for layer in range(_LAYERS):
        for kind, (marker, colour) in styles.items():
            mine = points[kinds == kind]
            text = marker.startswith("$")
            axes.plot(
                *mine[layer::_LAYERS].T,
                linestyle="",
                marker=marker,
                color=colour,
                markersize=size * (1.5 if text else 1.0),
                markeredgecolor=colour if text else "white",
                markeredgewidth=0.0 if text else 0.3,
                label=None if layer else f"{kind or 'none'} ({len(mine)})",
            )
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title=name, markerscale=1.3)
    legend.set_alignment("left")


def _styles(classes: np.ndarray) -> dict[str, tuple[str, str]]:
    """Marker and colour of each class that is told apart, in their order; the grey ones first, under the others."""
    kinds, counts = np.unique(classes[classes != ""], return_counts=True)
    if len(kinds) > MOST_CLASSES:
        kinds = kinds[np.argsort(-counts, kind="stable")[: MOST_CLASSES - 1]]
    named = sorted(kinds.tolist(), key=_natural)
    short = all(len(kind) <= 2 and kind.isascii() and kind.isalnum() for kind in named)
    styles = {
        kind: (f"$\\mathbf{{{kind}}}$" if short else _MARKERS[i], CLASS_COLOURS[i]) for i, kind in enumerate(named)
    }
    grey = [
        kind
        for kind, any_left in (("", (classes == "").any()), (_OTHERS, len(named) < len(set(classes) - {""})))
        if any_left
    ]
    return styles | dict.fromkeys(grey, (".", _EMPTY))


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers by their size, before other names."""
    return (False, float(name), "") if name.lstrip("-").isdecimal() else (True, 0.0, name)


def plot_landscapes(images: Rows, *, names: Sequence[str] | None = None, most: int = 9) -> np.ndarray:
    """Draw columns as landscapes over the map: at each node the value of its image, in the data's units.

    Args:
        images: (node, input), nodes of a square grid, the last coordinate running fastest.
        names: one per column; numbers without it.
        most: only the first so many columns are drawn.

    Returns:
        The axes, one for each column; u_1 to the right, u_2 upwards.

    Raises:
        ValueError: the nodes are no square grid.
    """
    sheet = to_rows("images", images)
    side = math.isqrt(len(sheet))
    if side**2 != len(sheet):
        raise ValueError(f"images: expected the nodes of a square grid, got {len(sheet)} of them")
    titles = column_names(names, sheet.shape[1])[:most]
    across = math.ceil(math.sqrt(len(titles)))
    down = math.ceil(len(titles) / across)
    panels = new_axes(down, across, (2.9 * across + 0.4, 2.5 * down + 0.4))
    for panel, column, title in zip(panels, sheet.T, titles, strict=False):
        picture = panel.imshow(column.reshape(side, side).T, **_over_the_map(side))
        panel.set_title(title if len(title) <= 24 else title[:21] + "...", fontsize="medium")
        panel.figure.colorbar(picture, ax=panel, shrink=0.9)
        _bare(panel)
    for panel in panels[len(titles) :]:
        panel.remove()
    return panels[: len(titles)]


def plot_magnification(factors: Rows, places: Rows | None = None, *, axes: Axes | None = None) -> Axes:
    """Draw how far the sheet is stretched at each place of the map: ridges part what lies apart in data space.

    Args:
        factors: (node,), of a square grid over the map, the last coordinate running fastest.
        places: (batch, 2), rows to draw on it.
        axes: where to draw; a new figure without it.

    Raises:
        ValueError: the factors are not those of a square grid.
    """
    values = to_numpy(factors).ravel()
    side = math.isqrt(len(values))
    if side**2 != len(values) or not side:
        raise ValueError(f"factors: expected those of a square grid, got {len(values)} of them")
    if axes is None:
        axes = new_axes(1, 1, (6.4, 5.3))[0]
    positive = values[values > 0]
    usual = float(np.exp(np.log(positive).mean())) if len(positive) else 1.0
    levels = np.log2(np.maximum(values / usual, 2.0**-6)).reshape(side, side)
    picture = axes.imshow(
        levels.T, **_over_the_map(side) | {"vmin": max(-4.0, levels.min()), "interpolation": "bilinear"}
    )
    axes.figure.colorbar(picture, ax=axes, shrink=0.85, label="log2(magnification / its geometric mean)")
    if places is not None:
        axes.plot(*to_rows("places", places).T, ".", color="white", markersize=2.5, markeredgewidth=0.25, mec="black")
    axes.set(xlabel="$u_1$", ylabel="$u_2$")
    return axes


def plot_likelihood_curve(log_likelihood: Sequence[float] | np.ndarray, *, axes: Axes | None = None) -> Axes:
    """Draw the mean log-likelihood of a row, in nats, against the iteration.

    Args:
        log_likelihood: one value for each iteration.
        axes: where to draw; a new figure without it.

    Raises:
        ValueError: there is no value.
    """
    values = np.asarray(log_likelihood, dtype=float)
    if not values.size:
        raise ValueError("log_likelihood: expected at least one iteration, got none")
    if axes is None:
        axes = new_axes(1, 1, (6.5, 3.6))[0]
    steps = np.arange(1, len(values) + 1)
    axes.plot(steps, values, "-" if len(values) > 1 else "o", color=DATA_COLOUR, linewidth=1.4)
    last = f"{values[-1]:.2f}".replace("-", "\N{MINUS SIGN}")
    axes.plot(steps[-1], values[-1], "o", color=MODEL_COLOUR, label=f"iteration {steps[-1]}: {last} nats")
    axes.set(xlabel="iteration of EM", ylabel="mean log-likelihood (nats)")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, loc="lower right")
    return axes


def _over_the_map(side: int) -> dict[str, Any]:
    """How a picture of the nodes' values, u_1 first, covers the map: each node in the middle of its patch."""
    end = 1 + (1 / (side - 1) if side > 1 else 1)
    return {"origin": "lower", "extent": (-end, end, -end, end), "cmap": "cividis"}


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
