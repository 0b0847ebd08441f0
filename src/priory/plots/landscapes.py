"""Landscapes of numbers over a map's nodes: columns of the images, a property, the magnification."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from priory.plots.colors import color_scale
from priory.plots.figure import (
    MANY_DOTS,
    Axes,
    TensorOrArray,
    all_as_drawn,
    as_drawn,
    column_names,
    new_axes,
    to_numpy,
    to_rows,
)

LOG_MAGNIFICATION = "log2(magnification / its geometric mean)"


def plot_node_values(
    values: TensorOrArray,
    name: str,
    *,
    low: float | None = None,
    high: float | None = None,
    places: TensorOrArray | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw one number for each node as a landscape over the map.

    Examples: a property's expected value or spread, the usage, the mixing weights, a density, or the mean distance to
    the neighbors (the U-matrix: ridges separate distant regions).

    Args:
        values: (node,), of a square grid over the map, the last coordinate changing fastest; nodes without a finite
            value are hatched.
        name: name of the number, with its unit.
        low: value drawn darkest; by default the smallest. Without `low` and `high`, skewed values are colored by their
            quantiles.
        high: value drawn lightest; by default the largest.
        places: (batch, 2), positions of rows to draw on top.
        axes: axes to draw in; None makes a new figure.

    Returns:
        The axes; u_1 to the right, u_2 upwards.

    Raises:
        ValueError: there is not one value for each node of a square grid.

    >>> plot_node_values(np.arange(9.0), "usage").images[0].get_array()[0].tolist()
    [0.0, 3.0, 6.0]
    """
    axes = axes or new_axes(1, 1, (6.4, 5.3))[0]
    heights = on_square("values", values)
    colors = color_scale(heights, low, high)
    sheet = draw_sheet(axes, heights, **colors.picture)
    axes.figure.colorbar(sheet, ax=axes, shrink=0.85, label=as_drawn(name) + colors.note, **colors.bar)
    return finish_map(axes, places)


def plot_landscapes(images: TensorOrArray, *, names: Sequence[str] | None = None, most: int = 9) -> np.ndarray:
    """Draw columns as landscapes over the map: the value of each node's image, in the data's units.

    Skewed columns are colored by the quantiles of their values, and their color bars state this.

    Args:
        images: (node, input), nodes of a square grid, the last coordinate changing fastest.
        names: one per column; None uses numbers.
        most: number of columns to draw, from the first one.

    Returns:
        The axes, one for each column; u_1 to the right, u_2 upwards.

    Raises:
        ValueError: the nodes are not a square grid.
    """
    sheet = to_rows("images", images)
    check_square("images", len(sheet))
    titles = all_as_drawn(column_names(names, sheet.shape[1])[:most], 24)
    across = math.ceil(math.sqrt(len(titles)))
    down = math.ceil(len(titles) / across)
    panels = new_axes(down, across, (2.9 * across + 0.4, 2.5 * down + 0.4))
    for panel, column, title in zip(panels, sheet.T, titles, strict=False):
        heights = on_square("images", column)
        colors = color_scale(heights)
        panel.set_title(title, fontsize="medium")
        panel.figure.colorbar(draw_sheet(panel, heights, **colors.picture), ax=panel, shrink=0.9, **colors.bar)
        if colors.note:
            panel.set_xlabel(colors.note.removeprefix(", "), fontsize="small")
        panel.set_xticks([])
        panel.set_yticks([])
    for panel in panels[len(titles) :]:
        panel.remove()
    return panels[: len(titles)]


def plot_magnification(
    factors: TensorOrArray,
    places: TensorOrArray | None = None,
    *,
    mean: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the magnification at each position of the map: ridges separate regions that are far apart in data space.

    The colors show log2(factor / geometric mean), at least -4.

    Args:
        factors: (node,), of a square grid over the map, the last coordinate changing fastest.
        places: (batch, 2), positions of rows to draw on top.
        mean: the geometric mean, if it is that of other positions, such as the nodes; by default that of the factors.
        axes: axes to draw in; None makes a new figure.

    Raises:
        ValueError: there is not one factor for each node of a square grid.
    """
    values = on_square("factors", factors)
    levels = np.maximum(log_magnification(values, mean), -6.0)  # -infinity for a sheet without stretch
    axes = axes or new_axes(1, 1, (6.4, 5.3))[0]
    low, below = max(-4.0, float(levels.min())), bool((levels < -4.0).any())
    sheet = draw_sheet(axes, levels, vmin=low, interpolation="bilinear")
    axes.figure.colorbar(sheet, ax=axes, shrink=0.85, label=LOG_MAGNIFICATION, extend="min" if below else "neither")
    return finish_map(axes, places)


def log_magnification(factors: TensorOrArray, mean: float | None = None) -> np.ndarray:
    """Return log2(factor / mean) of magnification factors; the default mean is their geometric mean."""
    values = to_numpy(factors)
    with np.errstate(divide="ignore"):
        return np.log2(values / (geometric_mean(values) if mean is None else mean))


def geometric_mean(values: TensorOrArray) -> float:
    """Return exp(mean of log) of the positive values; 1 if there are none."""
    numbers = to_numpy(values)
    positive = numbers[numbers > 0]
    return float(np.exp(np.log(positive).mean())) if len(positive) else 1.0


def check_square(name: str, count: int) -> int:
    """Return the number of nodes along each side of the square grid."""
    side = math.isqrt(count)
    if side**2 != count or not side:
        raise ValueError(f"{name}: expected the nodes of a square grid, got {count}")
    return side


def on_square(name: str, values: TensorOrArray) -> np.ndarray:
    """Return values (node,) as a picture with u_2 along its lines, upwards, and u_1 along its columns."""
    flat = to_numpy(values).ravel()
    side = check_square(name, len(flat))
    return flat.reshape(side, side).T


def draw_sheet(axes: Axes, heights: np.ndarray, *, interpolation: str = "nearest", **colors: Any) -> Any:
    """Cover the map with numbers (side, side) or colors (side, side, 3); each node is the center of its patch."""
    if not np.isfinite(heights).all():  # white hatches: cividis has no white
        axes.patch.set(hatch="////", edgecolor="0.6", linewidth=0.0)
    side = len(heights)
    end = 1 + (1 / (side - 1) if side > 1 else 1)
    return axes.imshow(
        np.ma.masked_invalid(heights),
        origin="lower",
        extent=(-end, end, -end, end),
        cmap="cividis",
        interpolation=interpolation,
        **colors,
    )


def finish_map(axes: Axes, places: TensorOrArray | None) -> Axes:
    """Draw rows as light dots with a dark edge, visible on light and dark colors, and name the axes."""
    if places is not None:
        rows = to_rows("places", places)
        axes.plot(
            *rows.T,
            ".",
            color="white",
            markersize=4.0 if len(rows) <= 1000 else 2.5,
            markeredgewidth=0.5 if len(rows) <= 1000 else 0.25,
            markeredgecolor="black",
            rasterized=len(rows) > MANY_DOTS,
        )
    axes.set(xlabel="$u_1$", ylabel="$u_2$")
    return axes
