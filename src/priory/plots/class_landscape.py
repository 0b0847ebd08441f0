"""The most probable class at each node of a map, and its probability."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from priory.plots.classes import MOST_STYLES, NOTHING, OTHERS, class_styles, counted, styled_classes
from priory.plots.figure import (
    LONGEST_NAME,
    Axes,
    TensorOrArray,
    all_as_drawn,
    as_drawn,
    column_names,
    new_axes,
    to_rows,
)
from priory.plots.landscapes import check_square, draw_sheet, finish_map, on_square

_UNDECIDED = ""
_UNSURE, _SURE = 0.94, 0.6  # lightness, from the threshold to certainty: black letters are legible on all of it
_LUMA = np.array([299, 587, 114]) / 1000  # ITU-R BT.601, the usual conversion to gray


def plot_class_landscape(
    probabilities: TensorOrArray,
    names: Sequence[str],
    *,
    name: str | None = None,
    decided: float = 0.5,
    places: TensorOrArray | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the most probable class of each node by color and letter or marker, and its probability by lightness.

    Equal probabilities are equally light in all colors, so the picture is also correct in gray. Nodes without finite
    probabilities, or whose most probable class has less than `decided`, are white with a small gray cross. If there are
    many classes, only those that win most nodes have their own style.

    Args:
        probabilities: (node, class), of a square grid over the map, in the order in which the last coordinate changes
            fastest.
        names: one per class.
        name: name of the label.
        decided: smallest probability of a class that is drawn, at least 0 and below 1.
        places: (batch, 2), positions of rows to draw on top.
        axes: axes to draw in; None makes a new figure.

    Returns:
        The axes; u_1 to the right, u_2 upwards.

    Raises:
        ValueError: shapes disagree, or an argument is invalid.

    >>> axes = plot_class_landscape([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.0, 1.0]], ["a", "b"], decided=0.6)
    >>> axes.get_legend().get_title().get_text(), [text.get_text() for text in axes.get_legend().get_texts()]
    ('nodes', ['a (1)', 'b (2)', 'undecided (1)'])
    """
    shares = to_rows("probabilities", probabilities)
    side = check_square("probabilities", len(shares))
    labels = np.array(column_names(names, shares.shape[1]))
    if not 0 <= decided < 1:
        raise ValueError(f"decided: expected a probability of at least 0 and below 1, got {decided}")
    surest = np.where(np.isfinite(shares).all(axis=1), shares.max(axis=1), -1.0)
    winners = np.where(surest >= decided, labels[shares.argmax(axis=1)], _UNDECIDED)
    styles = class_styles(styled_classes(labels if len(labels) <= MOST_STYLES else winners))
    winners = np.array([each if each in styles or each == _UNDECIDED else OTHERS for each in winners.tolist()])
    lightness = np.where(surest >= decided, _UNSURE + (_SURE - _UNSURE) * (surest - decided) / (1 - decided), 1.0)
    if axes is None:
        longest = max(map(len, [name or "", "undecided", *labels.tolist()]))
        axes = new_axes(1, 1, (6.2 + 0.1 * min(longest, LONGEST_NAME) + 0.6, 6.0))[0]
    draw_sheet(axes, _patches(winners, styles, lightness))
    _draw_markers(axes, winners, styles, side, name)
    _draw_scale(axes, decided)
    return finish_map(axes, places)


def _patches(winners: np.ndarray, styles: dict[str, tuple[str, str]], lightness: np.ndarray) -> np.ndarray:
    """Return the colors of the nodes, (side, side, 3), with the given lightness."""
    from matplotlib.colors import to_rgb

    hues = {kind: np.array(to_rgb(color)) for kind, (_, color) in styles.items()}
    colors = [
        at_lightness(hues.get(kind, np.ones(3)), light)
        for kind, light in zip(winners.tolist(), lightness.tolist(), strict=True)
    ]
    return np.stack([on_square("probabilities", channel) for channel in np.transpose(colors)], axis=-1)


def at_lightness(color: np.ndarray, lightness: float) -> np.ndarray:
    """Mix a color with white or black until its luma equals the lightness."""
    luma = float(_LUMA @ color)
    if luma >= lightness:
        return color * lightness / luma
    return color + (1 - color) * (lightness - luma) / (1 - luma)


def _draw_markers(
    axes: Axes, winners: np.ndarray, styles: dict[str, tuple[str, str]], side: int, name: str | None
) -> None:
    line = np.linspace(-1, 1, side) if side > 1 else np.zeros(1)
    nodes = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    size = min(9.0, 150 / side)  # half of a patch on a map of 4.3 inches
    rest = {OTHERS: (".", "black"), _UNDECIDED: ("x", NOTHING)}
    listed = [kind for kind in styles | rest if (winners == kind).any()]
    for kind, text in zip(listed, all_as_drawn(listed), strict=True):
        mine, (marker, color) = nodes[winners == kind], (styles | rest)[kind]
        axes.plot(
            *mine.T,
            linestyle="",
            marker=marker,
            color="black" if kind in styles else color,
            markersize=size if kind in styles else 0.6 * size,
            markeredgewidth=0.0 if kind in styles else 0.8,
            label=f"{text or 'undecided'} ({len(mine)})",
        )
    title = counted(as_drawn(name or ""), "nodes")
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title=title)
    legend.set_alignment("left")
    handles: list[Any] = legend.legend_handles
    for handle, kind in zip(handles, listed, strict=True):
        handle.set(markersize=9.0, **({"color": styles[kind][1]} if kind in styles else {}))


def _draw_scale(axes: Axes, decided: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    grays = LinearSegmentedColormap.from_list("sureness", [str(_UNSURE), str(_SURE)])
    scale = ScalarMappable(Normalize(decided, 1.0), grays)
    bar = axes.figure.colorbar(scale, ax=axes, location="bottom", shrink=0.6, aspect=30)
    bar.set_label("probability of the class")
