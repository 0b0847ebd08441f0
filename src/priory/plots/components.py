"""How much the data use the components of a mixture prior."""

from typing import Any

import numpy as np

from priory.plots.figure import DATA_COLOR, MANY_DOTS, MODEL_COLOR, Axes, TensorOrArray, new_axes, to_numpy

_UNUSED = 0.1  # relative to the weight of the component, as in `priory.evaluate`
_SMALLEST = 1e-4  # relative to an equal share: smaller shares are drawn at this value, as an arrow downwards


def plot_component_use(weights: TensorOrArray, usage: TensorOrArray, *, axes: Axes | None = None) -> Axes:
    """Draw the mixing weights and the aggregate posterior's use of the components, in the order of the weights.

    A line shows the weights pi_k, dots show the usage r_k = E_q(z) [p(k|z)]; equal weights are ordered by usage. The
    legend has the perplexities exp(-sum_k s_k log s_k) of both, between 1 and K, and the number of components whose
    usage is less than a tenth of their weight.

    Args:
        weights: (component,), at least 0, with sum 1 up to rounding.
        usage: (component,), likewise.
        axes: axes to draw in; None makes a new figure.

    Raises:
        ValueError: weights and usage are not shares, or differ in length.

    >>> plot_component_use([0.5, 0.5], [1.0, 0.0]).get_title()
    '1 of 2 components get less than a tenth of their weight'
    """
    shares, used = _shares("weights", weights), _shares("usage", usage)
    if len(shares) != len(used):
        raise ValueError(f"usage: expected {len(shares)} shares, one per weight, got {len(used)}")
    order = np.lexsort((-used, -np.round(np.log(np.maximum(shares, 1e-300)), 5)))
    shares, used = shares[order], used[order]
    floor = _SMALLEST / len(shares)
    axes = axes or new_axes(1, 1, (6.5, 3.8))[0]
    rank, seen = np.arange(1, len(shares) + 1), used >= floor
    label = f"mixing weights: perplexity {_perplexity(shares):.1f} of {len(shares)}"
    axes.step(rank, np.maximum(shares, floor), where="mid", color=DATA_COLOR, linewidth=1.4, label=label)
    size = 4.0 if len(used) <= 200 else 2.5
    look: dict[str, Any] = {"color": MODEL_COLOR, "markeredgewidth": 0.0, "rasterized": len(used) > MANY_DOTS}
    label = f"use by the aggregate posterior: perplexity {_perplexity(used):.1f}"
    axes.plot(rank[seen], used[seen], "o", markersize=size, label=label, **look)
    if not seen.all():
        label = f"components with less than {floor:.0e}: {(~seen).sum()}"
        axes.plot(rank[~seen], np.full((~seen).sum(), floor), "v", markersize=size + 1, label=label, **look)
    axes.set_yscale("log")
    axes.set(xlabel="component, in the order of its mixing weight", ylabel="share", xlim=(0.2, len(shares) + 0.8))
    axes.locator_params(axis="x", integer=True)
    drawn = np.maximum(np.concatenate([shares, used]), floor)
    middle, half = np.sqrt(drawn.min() * drawn.max()), max(np.sqrt(drawn.max() / drawn.min()) * 1.5, 10**0.5)
    axes.set_ylim(middle / half, middle * half)  # at least a factor of ten, so that small differences look small
    few = int((used < _UNUSED * shares).sum())
    axes.set_title(f"{few} of {len(shares)} components get less than a tenth of their weight", fontsize="medium")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return axes


def _perplexity(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))


def _shares(name: str, values: TensorOrArray) -> np.ndarray:
    shares = to_numpy(values)
    if shares.ndim != 1 or not shares.size or not (shares >= 0).all() or not np.isclose(shares.sum(), 1.0, atol=1e-3):
        raise ValueError(
            f"{name}: expected shares (component,) of at least 0 with sum 1, got shape {shares.shape}, "
            f"sum {shares.sum():.4g}"
        )
    return shares / shares.sum()
