"""Models in the plane of rate and distortion."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from priory.plots.classes import MARKERS
from priory.plots.figure import DATA_COLOR, LONGEST_NAME, Axes, all_as_drawn, new_axes


def plot_rate_distortion(
    points: Mapping[str, Sequence[float]],
    *,
    errors: Mapping[str, Sequence[float]] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw models, or the priors of one model, by rate and distortion, with lines of equal ELBO.

        ELBO = -(distortion + rate)

    On one line, a model further to the right encodes more information about each datum. The legend names the models.

    Args:
        points: for each name the rate E[KL(q(z|x) || p(z))] and the distortion -E[log p(x|z)], nats per datum.
        errors: for some names, the standard errors of both; drawn as bars.
        axes: axes to draw in; None makes a new figure.

    Raises:
        ValueError: there is no model, a number is not finite, or errors have other names.

    Reference: Alemi et al. 2018, "Fixing a broken ELBO", arXiv:1711.00464, sec. 2.

    >>> axes = plot_rate_distortion({"normal": (20.0, 80.0), "vamp": (22.0, 75.0)})
    >>> axes.get_xlabel()
    'rate (nats)'
    """
    errors = errors or {}
    places, bars = _numbers(points, errors)
    axes = axes or new_axes(1, 1, (6.8 + 0.08 * min(max(map(len, points)), LONGEST_NAME), 5.0))[0]
    for i, (name, place, bar) in enumerate(zip(all_as_drawn(points), places, bars, strict=True)):
        look: dict[str, Any] = {
            "fmt": MARKERS[i % len(MARKERS)],
            "markerfacecolor": "white" if i % 2 else DATA_COLOR,
            "label": name,
        }
        look |= {"color": DATA_COLOR, "markersize": 6, "elinewidth": 1.0, "capsize": 2.5, "zorder": 3}
        if name in errors:  # the legend would also show a bar of length zero
            look |= {"xerr": bar[0], "yerr": bar[1]}
        axes.errorbar(place[:1], place[1:], **look)
    low, high = (places - bars).min(axis=0), (places + bars).max(axis=0)
    border = np.maximum(0.15 * (high - low), 0.5)
    axes.set(xlim=(low[0] - border[0], high[0] + border[0]), ylim=(low[1] - border[1], high[1] + border[1]))
    axes.set(xlabel="rate (nats)", ylabel="distortion (nats)")
    bars_too = "; bars: ± standard error" if errors else ""
    axes.set_title(f"gray lines: equal ELBO; lower left is better{bars_too}", fontsize="medium")
    _draw_iso_lines(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.09, 1.0), frameon=False)  # beside the numbers of the lines
    return axes


def _numbers(
    points: Mapping[str, Sequence[float]], errors: Mapping[str, Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the models and half the lengths of their error bars, (model, 2) each."""
    places = np.array([tuple(pair) for pair in points.values()], dtype=float)
    if places.shape != (len(points), 2) or not len(places) or not np.isfinite(places).all():
        raise ValueError(f"points: expected name -> (rate, distortion), finite numbers, got {dict(points)}")
    if errors.keys() - points.keys():
        raise ValueError(f"errors: expected names of points, got also {sorted(errors.keys() - points.keys())}")
    bars = np.array([tuple(errors.get(name, (0.0, 0.0))) for name in points], dtype=float)
    if bars.shape != places.shape or not (bars >= 0).all():
        raise ValueError(f"errors: expected name -> two standard errors of at least 0, got {dict(errors)}")
    return places, bars


def _draw_iso_lines(axes: Axes) -> None:
    """Draw lines rate + distortion = constant at round numbers; the ELBO is written at their lower right ends."""
    from matplotlib.ticker import MaxNLocator

    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for total in MaxNLocator(9, steps=[1, 2, 5, 10]).tick_values(left + bottom, right + top):
        first, last = max(left, total - top), min(right, total - bottom)
        if first >= last:
            continue
        axes.plot([first, last], [total - first, total - last], "-", color="0.75", linewidth=0.8, zorder=1)
        text = f"{-total:g}".replace("-", "\N{MINUS SIGN}")
        at_side = last == right
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
