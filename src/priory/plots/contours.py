"""A two-dimensional prior and the encoded data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priory.plots.figure import MANY_DOTS, Axes, new_axes, to_numpy
from priory.plots.maps import check_labels, draw_labeled, width_with_legend
from priory.plots.regions import Density, adaptive_grid, draw, mass_thresholds, square_window

CONTOUR_COLOR = "#1f4e79"


def plot_prior_contours(
    prior: Density,
    points: Float[Tensor, "batch latent"],
    *,
    classes: Sequence[str] | np.ndarray | None = None,
    values: Sequence[float] | np.ndarray | None = None,
    name: str | None = None,
    axes: Axes | None = None,
    levels: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99),
    margin: float = 0.08,
    window: tuple[np.ndarray, np.ndarray] | None = None,
) -> Axes:
    """Draw a two-dimensional prior as contours, and encoded data as dots, or styled by class or number.

    Contour m bounds the highest-density region {z : p(z) >= t_m} with integral of p over it = m. Contours at linear
    steps of the density would show only the narrowest component of a mixture. The grid is refined where p changes.

    Args:
        prior: density over z in R^2, e.g. `vae.latent_prior()`; `log_prob` maps (n, 2) to (n,), in nats.
        points: encoded data, e.g. posterior means, shape (batch, 2); the grid has their device and dtype.
        classes: one text for each point, '' for none; it determines marker and color, as in `plot_map`.
        values: one number for each point instead; NaN for none.
        name: name of the classes or values.
        axes: axes to draw in; None makes a new figure.
        levels: enclosed masses, between 0 and 1; levels that do not fit in the window are left out.
        margin: empty border on every side, as a fraction of the window's side.
        window: lower left and upper right corner, (2,) each, to show the same part of the plane in several pictures; by
            default a square with at least 99 % of the points and of the prior's samples.

    Returns:
        The axes.

    Raises:
        ValueError: the latent space is not two-dimensional, or an argument is invalid.

    Reference: Tomczak, *Deep Generative Modeling*, figures 4.11 and 4.12; Hyndman 1996 (highest-density regions).

    >>> import torch
    >>> from torch.distributions import Independent, Normal
    >>> prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    >>> axes = plot_prior_contours(prior, torch.randn(100, 2), levels=[0.5, 0.9])
    >>> axes.get_xlabel()
    'latent 1'
    """
    _check_contour_arguments(prior, points, levels, margin, window)
    check_labels(len(points), classes, values)
    points = points.detach()
    with torch.no_grad():
        samples = draw(prior, points)
        clouds = [to_numpy(cloud) for cloud in (points, samples) if cloud is not None]
        low, high = square_window(clouds, margin) if window is None else window
        x, y, log_density = adaptive_grid(prior, points, low, high, None if samples is None else clouds[1])
    drawn, thresholds = mass_thresholds(x, y, log_density, levels)
    labeled = classes is not None or values is not None
    if axes is None:
        width = 5.0 if not labeled else 6.2 if classes is None else width_with_legend(classes, name)
        axes = new_axes(1, 1, (width, 5.3))[0]
    draw_contours(axes, x, y, log_density, thresholds, filled=not labeled)  # colors are easier to distinguish on white
    dots, many = clouds[0], len(points) > MANY_DOTS
    if labeled:
        draw_labeled(axes, dots, classes, values, name, (low, high))
    else:
        size = 2.2 if len(dots) <= 1000 else 0.9 if many else 1.4
        look: dict[str, Any] = {"color": "black", "markersize": size, "markeredgewidth": 0, "rasterized": many}
        axes.plot(*dots.T, "o", **look, label="encoded points")
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="latent 1", ylabel="latent 2")
    axes.set_aspect("equal", adjustable="box")
    outside = int(((dots < low) | (dots > high)).any(axis=1).sum())
    masses = ", ".join(f"{100 * level:g}" for level in drawn)
    note = f"{'markers' if labeled else 'dots'}: {len(dots)} encoded points" + (
        f" ({outside} outside the window)" if outside else ""
    )
    axes.set_title(f"contours enclose {masses} % of the prior's mass\n{note}", fontsize="medium")
    return axes


def _check_contour_arguments(
    prior: Density, points: Tensor, levels: Sequence[float], margin: float, window: tuple[np.ndarray, np.ndarray] | None
) -> None:
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"points: expected shape (N, 2), got {tuple(points.shape)}. Contours need a latent space of two "
            "dimensions; for any other, use a prior with a grid (GTM, GTM-VampPrior) and draw its map (priory.maps)"
        )
    if len(points) == 0 or not points.is_floating_point() or not points.isfinite().all():
        raise ValueError(f"points: expected at least one row of finite floats, got {len(points)} rows, {points.dtype}")
    if isinstance(prior, torch.distributions.Distribution) and (prior.batch_shape, prior.event_shape) != ((), (2,)):
        raise ValueError(
            f"prior: expected batch shape () and event shape (2,), got {tuple(prior.batch_shape)} and "
            f"{tuple(prior.event_shape)}; for independent dimensions wrap it in torch.distributions.Independent(..., 1)"
        )
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels: expected enclosed masses between 0 and 1, such as [0.5, 0.9], got {list(levels)}")
    if not margin >= 0:
        raise ValueError(f"margin: expected a fraction >= 0 of the window's side, got {margin}")
    if window is not None and not (np.asarray(window[0]) < np.asarray(window[1])).all():
        raise ValueError(f"window: expected the lower left and the upper right corner, got {window}")


def draw_contours(
    axes: Axes, x: np.ndarray, y: np.ndarray, log_density: np.ndarray, thresholds: np.ndarray, *, filled: bool = True
) -> None:
    heights = np.unique(thresholds)  # on a plateau, several masses have one height
    floor = np.maximum(log_density, heights[0] - 20)  # contours cannot interpolate towards -inf
    if filled:
        light, dark = np.array([0.92, 0.95, 0.99]), np.array([0.45, 0.65, 0.85])  # darker colors would hide black dots
        fills = list(light + (dark - light) * np.linspace(0, 1, len(heights))[:, None])
        axes.contourf(x, y, floor, levels=[*heights, max(floor.max(), heights[-1]) + 1], colors=fills)
    axes.contour(x, y, floor, levels=heights, colors=CONTOUR_COLOR, linewidths=0.7, linestyles="solid", zorder=1.9)
