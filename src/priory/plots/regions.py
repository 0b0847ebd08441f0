"""Highest-density regions of a density over the plane, on a grid that is refined where the density changes."""

import warnings
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from priory.plots.figure import to_numpy

_FIRST_LINES, _MOST_LINES = 100, 600  # grid lines per axis: at the start, and at most (then about one per pixel)
_CHUNK = 2048  # grid points per call of log_prob: 4 MB of float32 at 500 components stay in the cache


@runtime_checkable
class Density(Protocol):
    """Any object with a normalized `log_prob`; an optional `sample` method helps to choose the window."""

    def log_prob(self, value: Tensor, /) -> Tensor: ...


def draw(prior: Density, points: Tensor) -> Tensor | None:
    """Return 4096 samples of the prior, or None if it has no `sample`; torch's generator keeps its state."""
    if not hasattr(prior, "sample"):
        return None
    with torch.random.fork_rng(devices=[points.device] if points.is_cuda else []):
        samples = prior.sample((4096,))
    return samples[samples.isfinite().all(dim=1)]


def square_window(clouds: list[np.ndarray], margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return lower left and upper right corner; each cloud loses at most 0.25 % of its points on each side."""
    low = np.min([np.quantile(cloud, 0.0025, axis=0, method="lower") for cloud in clouds], axis=0)
    high = np.max([np.quantile(cloud, 0.9975, axis=0, method="higher") for cloud in clouds], axis=0)
    half_side = (0.5 + margin) * (float((high - low).max()) or 1.0)
    center = (low + high) / 2
    return center - half_side, center + half_side


def adaptive_grid(
    prior: Density, like: Tensor, low: np.ndarray, high: np.ndarray, samples: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return grid lines x, y and the log-density at (y, x); gaps with a large trapezoidal error are halved."""
    lines = [np.linspace(low[axis], high[axis], _FIRST_LINES) for axis in (0, 1)]
    if samples is not None:  # they find components between the lines of a regular grid
        for axis in (0, 1):
            through = np.quantile(samples[:, axis], np.linspace(0.003, 0.997, _FIRST_LINES))
            lines[axis] = np.union1d(lines[axis], through.clip(low[axis], high[axis]))
    log_density = _log_density(prior, like, *lines)
    while True:
        density = np.exp(log_density)
        finer = [_refined(lines[0], lines[1], density), _refined(lines[1], lines[0], density.T)]
        if all(len(new) == len(old) for new, old in zip(finer, lines, strict=True)):
            return lines[0], lines[1], log_density
        known = np.full((len(finer[1]), len(finer[0])), np.nan)
        known[np.ix_(np.searchsorted(finer[1], lines[1]), np.searchsorted(finer[0], lines[0]))] = log_density
        lines, log_density = finer, _log_density(prior, like, finer[0], finer[1], known)


def _log_density(
    prior: Density, like: Tensor, x: np.ndarray, y: np.ndarray, known: np.ndarray | None = None
) -> np.ndarray:
    """Return the log-density at (y, x). It is computed only if `known` is NaN, because many components are slow."""
    log_density = np.full((len(y), len(x)), np.nan) if known is None else known
    missing = np.isnan(log_density)
    mesh = np.stack(np.meshgrid(x, y), axis=-1)[missing]
    chunks = torch.as_tensor(mesh).to(device=like.device, dtype=like.dtype).split(_CHUNK)
    values = torch.cat([prior.log_prob(chunk) for chunk in chunks])
    if values.shape != (len(mesh),) or values.isnan().any():
        raise ValueError(
            f"prior: expected a log_prob of one number per row, got shape {tuple(values.shape)} for {len(mesh)} rows, "
            f"with {int(values.isnan().sum())} NaN"
        )
    log_density[missing] = to_numpy(values)
    return log_density


def _refined(lines: np.ndarray, others: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Add the middles of intervals whose possible error is more than their share of a fifth of the mass.

    For a normal of scale s this ends at intervals of about s / 2.
    """
    gaps = np.diff(lines)
    error = _trapezoid_weights(others) @ np.abs(np.diff(density, axis=1)) * gaps / 2
    total = _trapezoid_weights(others) @ density @ _trapezoid_weights(lines)
    worst = np.argsort(-error)[: max(_MOST_LINES - len(lines), 0)]
    too_large = (error[worst] > 0.2 * total / len(gaps)) & (gaps[worst] > 1e-6 * gaps.sum())
    chosen = worst[too_large]
    return np.union1d(lines, lines[chosen] + gaps[chosen] / 2)


def _trapezoid_weights(lines: np.ndarray) -> np.ndarray:
    return np.convolve(np.diff(lines), [0.5, 0.5])


def mass_thresholds(
    x: np.ndarray, y: np.ndarray, log_density: np.ndarray, levels: Sequence[float]
) -> tuple[list[float], np.ndarray]:
    """Return the levels that fit in the window, ascending, and for each the log-density above which its mass lies."""
    order = np.argsort(-log_density, axis=None)
    mass = (np.exp(log_density) * np.outer(_trapezoid_weights(y), _trapezoid_weights(x))).ravel()[order].cumsum()
    total = float(mass[-1])
    if not 0.95 < total < 1.05:
        warnings.warn(
            f"the plotting window has {total:.3g} of the prior's mass where 1 is expected: its log_prob is not "
            "normalized, it has no sample method and extends beyond the points, or it is too narrow for the grid",
            stacklevel=3,
        )
    held = sorted(level for level in set(levels) if level <= total)
    if not held:
        raise ValueError(f"levels: the window holds {total:.3g} of the prior's mass, less than any of {list(levels)}")
    return held, np.interp(held, mass / max(total, 1.0), log_density.ravel()[order])
