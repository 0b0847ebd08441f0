"""The curves of a training run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from priory.plots.figure import DATA_COLOR, MODEL_COLOR, Axes, new_axes, two_axes


def plot_training_curve(
    history: Mapping[str, Iterable[Any]],
    *,
    input_noise: float = 0.0,
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw the ELBO and, below it, the KL divergence against the epoch.

    Two epochs are marked: the best one, argmax of `valid_objective` (without it, `valid_elbo`) among epochs with beta =
    1, and the end of the KL warm-up, from which beta stays 1. If an epoch of the warm-up has a higher value, the legend
    states that it does not count. Values far outside the bulk, such as those of the first epochs, do not stretch the
    axes; a note counts the values outside.

    Args:
        history: columns of equal length, NaN for a missing value: `epoch` and any of `train_elbo`, `valid_elbo`,
            `train_kl`, `valid_kl`, `valid_objective` (nats per datum), `beta`.
        input_noise: standard deviation of noise that the encoder's input has only in training, for the legend.
        axes: two axes to draw in; None makes a new figure.

    Returns:
        The two axes: ELBO, KL.

    Raises:
        ValueError: `epoch` or both ELBO columns are missing, or lengths differ.

    >>> panels = plot_training_curve({"epoch": [1, 2], "train_elbo": [-540.0, -200.0], "train_kl": [3.0, 9.0]})
    >>> panels[0].get_ylabel()
    'ELBO (nats)'
    """
    columns = _history_columns(history)
    epoch = columns["epoch"]
    upper, lower = pair = two_axes(axes, 2, 1, (8.6, 5.0))
    training = f"training, with noise {input_noise:.2g}\non the encoder's input" if input_noise else "training"
    for panel, quantity in ((upper, "elbo"), (lower, "kl")):
        _draw_curve(panel, epoch, columns.get(f"train_{quantity}"), DATA_COLOR, "-", training)
        _draw_curve(panel, epoch, columns.get(f"valid_{quantity}"), MODEL_COLOR, "--", "validation")
    _mark_epochs(upper, lower, columns)
    _limit(upper, "below")
    _limit(lower, "above")
    upper.set_ylabel("ELBO (nats)")
    lower.set(ylabel="KL (nats)", xlabel="epoch", xlim=(epoch.min() - 0.5, epoch.max() + 0.5))
    lower.xaxis.get_major_locator().set_params(integer=True)
    upper.figure.align_ylabels(list(pair))
    upper.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return pair


def plot_likelihood_curve(
    log_likelihood: Sequence[float] | np.ndarray,
    *,
    held_out: Sequence[float] | np.ndarray | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the mean log-likelihood of a row, in nats, against the iteration.

    Args:
        log_likelihood: of training rows, one value for each iteration.
        held_out: the same for rows held out.
        axes: axes to draw in; None makes a new figure.

    Raises:
        ValueError: there is no value.
    """
    values = np.asarray(log_likelihood, dtype=float)
    if not values.size:
        raise ValueError("log_likelihood: expected at least one iteration, got none")
    axes = axes or new_axes(1, 1, (6.5, 3.6))[0]
    steps = np.arange(1, len(values) + 1)
    style = "-" if len(values) > 1 else "o"
    axes.plot(steps, values, style, color=DATA_COLOR, linewidth=1.4, label=f"training rows: {_nats(values[-1])}")
    if held_out is not None:
        last = _nats(np.asarray(held_out)[-1])
        axes.plot(steps, held_out, style, color=MODEL_COLOR, linewidth=1.4, label=f"rows held out: {last}")
    axes.set(xlabel="iteration of EM", ylabel="mean log-likelihood (nats)")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    return axes


def _nats(value: float) -> str:
    return f"{value:.2f} nats".replace("-", "\N{MINUS SIGN}")


def _history_columns(history: Mapping[str, Iterable[Any]]) -> dict[str, np.ndarray]:
    names = ("epoch", "train_elbo", "valid_elbo", "train_kl", "valid_kl", "valid_objective", "beta")
    columns = {name: np.asarray(list(history[name]), dtype=float) for name in names if name in history}
    if "epoch" not in columns or not {"train_elbo", "valid_elbo"} & columns.keys():
        raise ValueError(f"history: expected 'epoch' and 'train_elbo' or 'valid_elbo', got columns {list(history)}")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or lengths["epoch"] == 0:
        raise ValueError(f"history: expected columns of one length, at least 1, got {lengths}")
    return columns


def _draw_curve(axes: Axes, epoch: np.ndarray, values: np.ndarray | None, color: str, style: str, label: str) -> None:
    if values is not None and np.isfinite(values).any():
        seen = np.isfinite(values)  # validation may run only every few epochs
        marker = "o" if seen.sum() == 1 else ""
        axes.plot(
            epoch[seen], values[seen], style, color=color, marker=marker, markersize=4, linewidth=1.4, label=label
        )


def _mark_epochs(upper: Axes, lower: Axes, columns: dict[str, np.ndarray]) -> None:
    epoch = columns["epoch"]
    full = np.isclose(columns["beta"], 1.0) if "beta" in columns else np.ones(len(epoch), dtype=bool)
    partial = np.flatnonzero(~full)
    if len(partial) and partial[-1] + 1 < len(epoch):
        for panel in (upper, lower):
            panel.axvline(epoch[partial[-1] + 1], color="0.45", linestyle=":", linewidth=1.2, label="KL warm-up ends")
    elbo = columns.get("valid_elbo", np.full(len(epoch), np.nan))
    bound = columns.get("valid_objective", elbo)
    valid = np.where(full, bound, np.nan)
    if np.isfinite(valid).any():
        best = int(np.nanargmax(valid))
        value = f"{valid[best]:.2f}".replace("-", "\N{MINUS SIGN}")
        higher_before = bool((bound[~full] > valid[best]).any())  # without this note, the mark would look wrong
        label = f"best epoch{' after the warm-up' if higher_before else ''}: {epoch[best]:g} ({value} nats"
        label += ")" if valid[best] == elbo[best] else " of the objective)"
        upper.plot(epoch[best], elbo[best], "o", markersize=9, color="black", markerfacecolor="none", label=label)


def _limit(axes: Axes, side: str) -> None:
    """Cut off values on one side if they would take up more than half of the axis.

    The cut is at the middle 80 % of the values or at 3 interquartile ranges, whichever is further out.
    """
    curves = [line.get_ydata() for line in axes.lines if str(line.get_label()).startswith(("training", "validation"))]
    if not curves:
        return
    values = np.concatenate([np.asarray(curve, dtype=float) for curve in curves])
    tenth, first, third, ninth = np.quantile(values, [0.1, 0.25, 0.75, 0.9])
    low = full_low = values.min()
    high = full_high = values.max()
    if side == "below":
        low = max(low, min(tenth, first - 3 * (third - first)))
    else:
        high = min(high, max(ninth, third + 3 * (third - first)))
    if high - low > (full_high - full_low) / 2:
        low, high = full_low, full_high
    border = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - border, high + border)
    beyond = int(((values < low - border) | (values > high + border)).sum())
    if beyond:
        axes.set_title(f"{beyond} of {len(values)} values lie {side} the axis", loc="right", fontsize="small")
