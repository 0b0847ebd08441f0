"""The density of each context on one map, and its difference from the density over all contexts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from priory.plots.figure import Axes, TensorOrArray, all_as_drawn, new_axes, to_rows
from priory.plots.landscapes import check_square, draw_sheet, on_square

MOST_CONTEXTS = 12
CONTEXTS_IN_A_LINE = 5


def plot_conditions(
    densities: TensorOrArray,
    names: Sequence[str],
    *,
    nodes: TensorOrArray,
    overall: TensorOrArray | None = None,
    most: int = MOST_CONTEXTS,
) -> np.ndarray:
    """Draw p(u | c) of each context on the map, and below it the difference p(u | c) - p(u) from all contexts.

    Arrows show the shift from the mean position over all contexts, E[u], to that of the context, E[u | c]. All panels
    of a line have one color scale.

    Args:
        densities: (context, node), each line with sum one; nodes of a square grid, the last coordinate changing
            fastest.
        names: one for each context.
        nodes: (node, 2), coordinates of the nodes.
        overall: (node,), p(u); by default the mean of the densities.
        most: number of contexts to draw, from the first one.

    Returns:
        The axes, starting with the densities; u_1 to the right, u_2 upwards.

    Raises:
        ValueError: the nodes are not a square grid, or the numbers of contexts differ.

    >>> grid = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    >>> axes = plot_conditions([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]], ["a", "b"], nodes=grid)
    >>> len(axes), axes[1].get_title()
    (4, 'b')
    """
    p, places = to_rows("densities", densities), to_rows("nodes", nodes)
    check_square("nodes", len(places))
    if p.shape != (len(names), len(places)):
        raise ValueError(f"densities: expected shape ({len(names)}, {len(places)}), got {p.shape}")
    p_all = p.mean(0) if overall is None else np.asarray(overall, dtype=p.dtype)
    p, titles = p[:most], all_as_drawn(names[:most], 24)
    across = min(len(p), CONTEXTS_IN_A_LINE)
    lines = -(-len(p) // across)
    axes = new_axes(2 * lines, across, (2.4 * across + 1.0, 4.9 * lines)).reshape(lines, 2, across)
    upper, lower = axes[:, 0].ravel(), axes[:, 1].ravel()
    differences = p - p_all
    limit = float(np.abs(differences).max()) or 1.0
    start = p_all @ places
    for panel, below, density, difference, title in zip(upper, lower, p, differences, titles, strict=False):
        sheet = draw_sheet(panel, on_square("densities", density), vmin=0.0, vmax=float(p.max()))
        change: Any = draw_sheet(below, on_square("densities", difference), vmin=-limit, vmax=limit)
        change.set_cmap("RdBu")
        _arrow(below, start, density @ places)
        panel.set_title(title, fontsize="medium")
        for each in (panel, below):
            each.set(xticks=[], yticks=[])
    for line in range(lines):
        axes[line, 0, 0].set_ylabel("$p(u \\mid c)$")
        axes[line, 1, 0].set_ylabel("$p(u \\mid c) - p(u)$")
        for part, picture in enumerate((sheet, change)):
            upper[0].figure.colorbar(picture, ax=axes[line, part].tolist(), shrink=0.9)
    for each in (*upper[len(p) :], *lower[len(p) :]):
        each.remove()
    return np.concatenate([upper[: len(p)], lower[: len(p)]])


def _arrow(axes: Axes, start: np.ndarray, end: np.ndarray) -> None:
    axes.annotate(
        "", xy=tuple(end), xytext=tuple(start), arrowprops={"arrowstyle": "->", "color": "black", "linewidth": 1.5}
    )
    axes.plot(*start, "o", color="black", markersize=3.0)
