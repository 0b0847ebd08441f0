"""Models in the plane of rate and distortion."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from priory.plots.figure import DATA_COLOR, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox
else:
    Axes = Text = Bbox = Any

_MARKERS = "os^DvPX*<>hd"
# where a name may stand, in points from its model: to the right first, then further and further away
_DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
_DISTANCES = (8, 20, 34, 50, 70)


def plot_rate_distortion(
    points: Mapping[str, Sequence[float]],
    *,
    errors: Mapping[str, Sequence[float]] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw models, or one model's priors, by rate and distortion, with lines of equal ELBO.

        ELBO = -(distortion + rate)

    On one line, a model further to the right tells more about each datum in its code. About 8 names find room.

    Args:
        points: of each name the rate E[KL(q(z|x) || p(z))] and the distortion -E[log p(x|z)], nats per datum.
        errors: of some names, the standard errors of both; drawn as bars.
        axes: where to draw; a new figure without it.

    Raises:
        ValueError: there is no model, a number is not finite, or errors have other names.

    Reference: Alemi et al. 2018, "Fixing a broken ELBO", arXiv:1711.00464, sec. 2.

    >>> axes = plot_rate_distortion({"normal": (20.0, 80.0), "vamp": (22.0, 75.0)})
    >>> axes.get_xlabel()
    'rate (nats)'
    """
    places, bars = _numbers(points, errors or {})
    if axes is None:
        axes = new_axes(1, 1, (6.2, 5.0))[0]
    for i, (place, bar) in enumerate(zip(places, bars, strict=True)):
        look: dict[str, Any] = {
            "fmt": _MARKERS[i % len(_MARKERS)],
            "markerfacecolor": "white" if i % 2 else DATA_COLOR,
        }
        look |= {"color": DATA_COLOR, "markersize": 6, "elinewidth": 1.0, "capsize": 2.5, "zorder": 3}
        axes.errorbar(place[:1], place[1:], xerr=bar[0], yerr=bar[1], **look)
    low, high = (places - bars).min(axis=0), (places + bars).max(axis=0)
    border = np.maximum(0.15 * (high - low), 0.5)
    axes.set(xlim=(low[0] - border[0], high[0] + border[0]), ylim=(low[1] - border[1], high[1] + border[1]))
    axes.set(xlabel="rate (nats)", ylabel="distortion (nats)")
    axes.set_title("gray lines: equal ELBO; lower left is better", fontsize="medium")
    taken = _draw_iso_lines(axes)
    figure: Any = axes.figure
    figure.draw_without_rendering()  # the layout, on which the names' room depends
    _place_names(axes, list(points), places, bars, taken)
    return axes


def _numbers(
    points: Mapping[str, Sequence[float]], errors: Mapping[str, Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Places and half lengths of their bars, (model, 2) each."""
    places = np.array([tuple(pair) for pair in points.values()], dtype=float)
    if places.shape != (len(points), 2) or not len(places) or not np.isfinite(places).all():
        raise ValueError(f"points: expected name -> (rate, distortion), finite numbers, got {dict(points)}")
    if errors.keys() - points.keys():
        raise ValueError(f"errors: expected names of points, got also {sorted(errors.keys() - points.keys())}")
    bars = np.array([tuple(errors.get(name, (0.0, 0.0))) for name in points], dtype=float)
    if bars.shape != places.shape or not (bars >= 0).all():
        raise ValueError(f"errors: expected name -> two standard errors of at least 0, got {dict(errors)}")
    return places, bars


def _draw_iso_lines(axes: Axes) -> "Sequence[Text]":
    """Lines rate + distortion = constant at round numbers, named where they leave the axes below or to the right."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    names: list[Text] = []
    for total in MaxNLocator(9, steps=[1, 2, 5, 10]).tick_values(left + bottom, right + top):
        first, last = max(left, total - top), min(right, total - bottom)
        if first >= last:
            continue
        axes.plot([first, last], [total - first, total - last], "-", color="0.75", linewidth=0.8, zorder=1)
        text = f"{-total:g}".replace("-", "\N{MINUS SIGN}")
        at_side = last == right
        names.append(
            axes.annotate(
                text,
                (last, total - last),
                xytext=(4, 0) if at_side else (0, 3),
                textcoords="offset points",
                ha="left" if at_side else "center",
                va="center" if at_side else "bottom",
                color="0.35",
                fontsize="small",
                annotation_clip=False,
                bbox=None if at_side else {"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
        )
    return names


def _place_names(axes: Axes, names: list[str], places: np.ndarray, bars: np.ndarray, iso: "Sequence[Text]") -> None:
    """Each name at the first place at which it covers no other name, model, bar or number, within the axes."""
    point = axes.figure.dpi / 72
    taken = [text.get_window_extent() for text in iso] + _bar_boxes(axes, places, bars, 4 * point)
    for name, place in zip(names, places, strict=True):
        probe = axes.text(place[0], place[1], name)
        size = np.array(probe.get_window_extent().size)
        probe.remove()
        offset, box = _room(axes.transData.transform(place), size, point, taken, axes.get_window_extent())
        taken.append(box)
        far = np.hypot(*offset) > 1.01 * _DISTANCES[0]
        line = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 4}
        across, up = np.sign(np.round(offset)).astype(int)
        look: dict[str, Any] = {"ha": ("center", "left", "right")[across], "va": ("center", "bottom", "top")[up]}
        look |= {"textcoords": "offset points", "annotation_clip": False, "arrowprops": line if far else None}
        axes.annotate(name, (place[0], place[1]), xytext=(offset[0], offset[1]), zorder=4, **look)


def _bar_boxes(axes: Axes, places: np.ndarray, bars: np.ndarray, dot: float) -> "list[Bbox]":
    """Where the models and their bars are, in pixels."""
    from matplotlib.transforms import Bbox

    low, center, high = (axes.transData.transform(corner) for corner in (places - bars, places, places + bars))
    across = [
        np.array([[x - dot, y - dot], [z + dot, y + dot]])
        for (x, _), (_, y), (z, _) in zip(low, center, high, strict=True)
    ]
    up = [np.array([[x - dot, y], [x + dot, z]]) for (_, y), (x, _), (_, z) in zip(low, center, high, strict=True)]
    return [Bbox(corners) for corners in across + up]


def _room(
    center: np.ndarray, size: np.ndarray, point: float, taken: "list[Bbox]", window: "Bbox"
) -> "tuple[np.ndarray, Bbox]":
    """Offset in points from the model, and the box in pixels, at the place of least overlap, the nearest of several."""
    from matplotlib.transforms import Bbox

    found: list[tuple[float, int, np.ndarray, Bbox]] = []
    for distance in _DISTANCES:
        for direction in np.array(_DIRECTIONS):
            offset = distance * direction / np.hypot(*direction)
            corner = center + offset * point + (direction - 1) / 2 * size
            box = Bbox([corner, corner + size]).padded(1.0)
            found.append((_overlap(box, taken, window), len(found), offset, box))
            if found[-1][0] == 0:
                return offset, box
    return min(found)[2:]


def _overlap(box: "Bbox", taken: "list[Bbox]", window: "Bbox") -> float:
    from matplotlib.transforms import Bbox

    shared = [Bbox.intersection(box, other) for other in taken]
    inside = Bbox.intersection(box, window)
    outside = box.width * box.height - (0.0 if inside is None else inside.width * inside.height)
    return sum(part.width * part.height for part in shared if part is not None) + max(0.0, outside - 1e-6)
