"""The prior and the aggregate posterior in pairs of dimensions."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from priory.plots.cells import cell_sums
from priory.plots.contours import CONTOUR_COLOR, draw_contours
from priory.plots.figure import DATA_COLOR, Axes, TensorOrArray, new_axes, to_numpy, to_rows
from priory.plots.regions import mass_thresholds

_PRIOR_SAMPLES = 30_000  # a flow draws them in a second
_PRIOR_CELLS = 80  # along each side of a panel, for the prior's density
_DOT_CELLS = 160  # if there are too many points for dots: a cell is about two pixels
_MANY_DOTS = 1500  # in a panel: more dots would merge into one black area
_LINES = 200  # places at which a one-dimensional density is drawn
_FILL = "#b9d4ea"


class Sampler(Protocol):
    def sample(self, sample_shape: Any = (), /) -> Tensor: ...


class Posteriors(Protocol):
    """Diagonal-normal posteriors of some rows, such as an `AggregatePosterior`: (batch, latent) each."""

    loc: Tensor
    scale: Tensor


Codes: TypeAlias = TensorOrArray | Posteriors


def plot_pairwise_marginals(
    prior: TensorOrArray | Sampler,
    codes: Codes,
    *,
    most: int = 6,
    levels: Sequence[float] = (0.25, 0.5, 0.75, 0.95),
    axes: np.ndarray | None = None,
) -> np.ndarray:
    """Draw the marginals of prior and aggregate posterior, for each pair of dimensions and each single dimension.

    Below the diagonal, contours bound the regions of highest density that hold `levels` of the prior's mass, and dots
    are the codes. More than 1500 codes are drawn as pixels below the contours, darker for more codes. The diagonal has
    both one-dimensional densities. Densities are smoothed samples. If there are many dimensions, those are drawn in
    which the codes (the posteriors' means, if they are known) vary most, because an unused dimension looks like the
    prior.

    Args:
        prior: samples (number, latent), or an object with a `sample` method, such as `vae.latent_prior()`; 30 000
            samples are drawn, and the state of torch's generator is restored.
        codes: encoded rows (batch, latent), or their posteriors, an `AggregatePosterior`, of which one draw each is
            shown.
        most: largest number of dimensions.
        levels: masses of the prior, between 0 and 1.
        axes: an array (d, d) of axes to draw in, d the number of dimensions shown; None makes a new figure.

    Returns:
        Array (d, d) of axes; those above the diagonal are empty.

    Raises:
        ValueError: shapes disagree, or an argument is invalid.

    Reference: Hoffman & Johnson 2016, "ELBO surgery", for why these two should agree.

    >>> panels = plot_pairwise_marginals(torch.randn(5000, 3), torch.randn(100, 3))
    >>> panels[2, 0].get_xlabel(), panels[2, 0].get_ylabel()
    ('latent 1', 'latent 3')
    """
    if most < 2:
        raise ValueError(f"most: expected at least 2 dimensions, got {most}")
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"levels: expected masses between 0 and 1, such as [0.5, 0.9], got {list(levels)}")
    cloud, spread, text = _drawn(codes)
    samples = _samples(prior, cloud.shape[1], codes)
    chosen = np.sort(np.argsort(-spread, kind="stable")[:most])
    panels = _panels(axes, len(chosen))
    windows = [_window(cloud[:, i], samples[:, i]) for i in chosen]
    for row, i in enumerate(chosen):
        _draw_densities(panels[row, row], samples[:, i], cloud[:, i], windows[row])
        for column, j in enumerate(chosen[:row]):
            pair, window = [j, i], np.array([windows[column], windows[row]])
            _draw_pair(panels[row, column], samples[:, pair], cloud[:, pair], window, levels)
    _name_axes(panels, chosen)
    masses = ", ".join(f"{100 * level:g}" for level in sorted(levels))
    panels[0, 0].figure.align_ylabels(panels[:, 0].tolist())
    legend = _draw_legend(panels, f"prior: contours around\n{masses} % of its mass", text)
    if len(chosen) < len(spread):
        legend.set_title(f"the {len(chosen)} of {len(spread)} dimensions\nwhose codes vary most")
    return panels


def _drawn(codes: Codes) -> tuple[np.ndarray, np.ndarray, str]:
    """Return points of the aggregate posterior, the variance of the codes by dimension, and the legend of the dots."""
    if isinstance(codes, Tensor | np.ndarray):
        points = centers = to_rows("codes", codes)
        text = f"codes of {len(points)} rows"
    else:
        with torch.random.fork_rng(devices=[codes.loc.device] if codes.loc.is_cuda else []):
            points = to_rows("codes", codes.loc + codes.scale * torch.randn_like(codes.scale))
        centers, text = to_numpy(codes.loc), f"aggregate posterior:\none draw for each of {len(points)} rows"
    if points.shape[1] < 2 or not np.isfinite(points).all():
        raise ValueError(f"codes: expected finite numbers (batch, latent) in 2 dimensions or more, got {points.shape}")
    return points, centers.var(axis=0), text


def _samples(prior: TensorOrArray | Sampler, latent_dim: int, codes: Codes) -> np.ndarray:
    if isinstance(prior, Tensor | np.ndarray):
        samples = to_rows("prior", prior)
    else:
        device = codes.device if isinstance(codes, Tensor) else getattr(getattr(codes, "loc", None), "device", None)
        with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
            samples = to_rows("prior", prior.sample(torch.Size((_PRIOR_SAMPLES,))))
    samples = samples[np.isfinite(samples).all(axis=1)]
    if not len(samples) or samples.shape[1] != latent_dim:
        raise ValueError(f"prior: expected samples (number, {latent_dim}), as the codes, got {samples.shape}")
    return samples


def _panels(axes: np.ndarray | None, size: int) -> np.ndarray:
    if axes is None:
        inches = max(5.0, min(9.0, 1.7 * size))
        return new_axes(size, size, (inches, inches), sharex=False).reshape(size, size)
    panels = np.asarray(axes, dtype=object)
    if panels.shape != (size, size):
        raise ValueError(f"axes: expected an array of {size} x {size} axes, got shape {panels.shape}")
    return panels


def _window(*clouds: np.ndarray) -> tuple[float, float]:
    """Return the ends of a window; each cloud loses at most 0.25 % on each side, before a margin is added."""
    low = min(np.quantile(cloud, 0.0025, method="lower") for cloud in clouds)
    high = max(np.quantile(cloud, 0.9975, method="higher") for cloud in clouds)
    margin = 0.08 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _draw_pair(
    axes: Axes, samples: np.ndarray, points: np.ndarray, window: np.ndarray, levels: Sequence[float]
) -> None:
    low, high = window.T
    edges = np.linspace(low, high, _PRIOR_CELLS + 1, axis=1)
    x, y = (edges[:, 1:] + edges[:, :-1]) / 2
    widths = [max(0.6 * _scale(samples[:, k]) * len(samples) ** (-1 / 6), edges[k, 1] - edges[k, 0]) for k in (0, 1)]
    counts = cell_sums(samples, low, high, _PRIOR_CELLS)
    density = _kernel(y, y, widths[1]) @ counts @ _kernel(x, x, widths[0]) / len(samples)
    log_density = np.log(np.maximum(density, np.finfo(float).tiny))
    few = len(points) <= _MANY_DOTS
    draw_contours(axes, x, y, log_density, mass_thresholds(x, y, log_density, levels)[1], filled=few)
    if few:
        axes.plot(*points.T, "o", color=DATA_COLOR, markersize=1.6 if len(points) <= 500 else 1.1, markeredgewidth=0)
    else:
        counts = cell_sums(points, low, high, _DOT_CELLS)
        picture = np.zeros((*counts.shape, 4))  # gray by the log of the count, lighter than the contours
        picture[..., 3] = np.where(counts > 0, 0.3 + 0.25 * np.log1p(counts) / max(np.log1p(counts).max(), 1e-9), 0.0)
        extent = (low[0], high[0], low[1], high[1])
        axes.imshow(picture, origin="lower", extent=extent, aspect="auto", interpolation="nearest", zorder=1)
    axes.set(xlim=window[0], ylim=window[1])


def _draw_densities(axes: Axes, samples: np.ndarray, points: np.ndarray, window: tuple[float, float]) -> None:
    x = np.linspace(*window, _LINES)
    # Two thirds of Silverman's width, which is too wide for several modes; both densities have the same width.
    width = max(0.6 * _scale(cloud) * len(cloud) ** -0.2 for cloud in (samples, points))
    prior, codes = (smoothed(cloud, x, width) for cloud in (samples, points))
    axes.fill_between(x, prior, facecolor=_FILL, edgecolor=CONTOUR_COLOR, linewidth=0.9)
    axes.plot(x, codes, color=DATA_COLOR, linewidth=1.3)
    axes.set(xlim=window, ylim=(0, 1.08 * max(prior.max(), codes.max())), yticks=[])


def smoothed(values: np.ndarray, x: np.ndarray, width: float) -> np.ndarray:
    """Return a density at evenly spaced x: a normal kernel of this width, applied to counts of the values in cells."""
    step = x[1] - x[0]
    edges = np.append(x - step / 2, x[-1] + step / 2)
    return _kernel(x, x, max(width, step)) @ np.histogram(values, edges)[0] / len(values)


def _scale(values: np.ndarray) -> float:
    """Return a standard deviation that is robust to tails and to a second mode."""
    first, third = np.quantile(values, [0.25, 0.75])
    return min(float(values.std()), (third - first) / 1.34) or float(values.std())


def _kernel(x: np.ndarray, centers: np.ndarray, width: float) -> np.ndarray:
    steps = (x[:, None] - centers) / width
    return np.exp(-(steps**2) / 2) / (width * np.sqrt(2 * np.pi))


def _name_axes(panels: np.ndarray, chosen: np.ndarray) -> None:
    size = len(chosen)
    for row, column in np.ndindex(size, size):
        panel: Any = panels[row, column]
        if column > row:
            panel.set_axis_off()
            continue
        panel.tick_params(labelsize="small", labelbottom=row == size - 1, labelleft=column == 0)
        panel.locator_params(nbins=4, axis="x" if row == column else "both")
        if row == size - 1:
            panel.set_xlabel(f"latent {chosen[column] + 1}")
        if column == 0:
            panel.set_ylabel(f"latent {chosen[row] + 1}" if row else "density")


def _draw_legend(panels: np.ndarray, prior: str, codes: str) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=_FILL, edgecolor=CONTOUR_COLOR, label=prior),
        Line2D([], [], color=DATA_COLOR, marker="o", markersize=2.5, linewidth=1.3, label=codes),
    ]
    legend = panels[0, -1].legend(handles=handles, loc="upper right", frameon=False, fontsize="small")
    legend.set_alignment("left")
    legend.set_in_layout(False)  # it may cover empty panels
    return legend
