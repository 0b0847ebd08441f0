"""Pictures of rows that are not images."""

from collections.abc import Sequence

import numpy as np
import torch

from priory.plots.figure import (
    DATA_COLOR,
    MODEL_COLOR,
    Axes,
    TensorOrArray,
    all_as_drawn,
    check_rows,
    check_same_shape,
    column_names,
    new_axes,
    to_numpy,
    two_axes,
)


def plot_rows(
    originals: TensorOrArray,
    reconstructions: TensorOrArray,
    *,
    names: Sequence[str] | None = None,
    max_columns: int = 200,
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw a table and its reconstruction side by side as heat maps.

    Both are standardized by the originals: (value - mean) / standard deviation, column by column; the color scale ends
    at +-2.5. If there are more than `max_columns` columns, those with the largest variance in the originals are drawn,
    and the title states this.

    Args:
        originals: shape (batch, input); some tens of rows are legible.
        reconstructions: as `originals`, in the same order.
        names: one per column; None uses numbers.
        max_columns: largest number of columns to draw.
        axes: two axes to draw in; None makes a new figure.

    Returns:
        The two axes, originals first.

    Raises:
        ValueError: shapes disagree, or there is nothing to draw.
    """
    check_rows("originals", originals)
    check_same_shape("reconstructions", reconstructions, "originals", originals)
    labels = column_names(names, originals.shape[1])
    columns, part = _most_variable(originals, max_columns)
    data, model = (to_numpy(table[:, columns]) for table in (originals, reconstructions))
    labels = [labels[i] for i in columns]
    across = "column, counted among these" if part else "column"
    pair = two_axes(axes, 1, 2, (7.5, 4.0))
    for panel, values, title in zip(pair, _standardized(data, data, model), ("data", "reconstruction"), strict=True):
        image = panel.imshow(values, cmap="cividis", vmin=-2.5, vmax=2.5, aspect="auto", interpolation="nearest")
        image.set_extent((0.5, data.shape[1] + 0.5, len(data) + 0.5, 0.5))  # rows and columns are counted from one
        panel.set(title=title, xlabel=across, ylabel="row" if panel is pair[0] else "")
        if len(labels) <= 20:
            panel.set_xticks(range(1, len(labels) + 1), all_as_drawn(labels), rotation=90, fontsize="small")
    bar = pair[0].figure.colorbar(image, ax=list(pair), extend="both")
    bar.set_label("value, in standard deviations of these rows")
    if part:
        pair[0].figure.suptitle(part, fontsize="medium")
    return pair


def plot_samples(
    data: TensorOrArray,
    samples: TensorOrArray,
    *,
    names: Sequence[str] | None = None,
    max_columns: int = 20,
    axes: Axes | None = None,
) -> Axes:
    """Compare samples with data column by column: median, middle 50 % (thick) and middle 90 % (thin).

    Values are standardized by the data: (value - mean) / standard deviation. If there are more than `max_columns`
    columns, those with the largest variance in the data are drawn, in their order, and the title states this.

    Args:
        data: shape (batch, input).
        samples: shape (any number, input).
        names: one per column; None uses numbers.
        max_columns: largest number of columns to draw.
        axes: axes to draw in; None makes a new figure.

    Raises:
        ValueError: shapes disagree, or there is nothing to draw.
    """
    check_rows("data", data)
    check_rows("samples", samples)
    if samples.shape[1] != data.shape[1]:
        raise ValueError(f"samples: expected {data.shape[1]} columns as in data, got shape {tuple(samples.shape)}")
    labels = column_names(names, data.shape[1])
    columns, part = _most_variable(data, max_columns)
    shown = len(columns)
    axes = axes or new_axes(1, 1, (6.0, 1.6 + 0.32 * shown))[0]
    real, model = to_numpy(data[:, columns]), to_numpy(samples[:, columns])
    real, model = _standardized(real, real, model)
    _draw_ranges(axes, real, -0.16, DATA_COLOR, "o", f"data ({len(real)} rows)")
    _draw_ranges(axes, model, 0.16, MODEL_COLOR, "D", f"samples ({len(model)} rows)")
    axes.set_yticks(range(shown), all_as_drawn([labels[i] for i in columns]))
    axes.set(ylim=(shown - 0.5, -0.5), xlabel="value, in standard deviations of the data from its mean")
    axes.set_title("\n".join(filter(None, [part, "median, middle 50 % and 90 %"])), fontsize="medium")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return axes


def _most_variable(table: TensorOrArray, most: int) -> tuple[np.ndarray, str]:
    """Return the columns with the largest variance, at most so many and in their order, and a note for the title."""
    if most < 1:
        raise ValueError(f"max_columns: expected at least 1, got {most}")
    total = table.shape[1]
    if total <= most:
        return np.arange(total), ""
    values = torch.as_tensor(table)  # not converted to float64: a table of 20 000 columns is large
    variance = to_numpy((values if values.is_floating_point() else values.double()).var(dim=0, correction=0))
    chosen = np.sort(np.argsort(-variance, kind="stable")[:most])
    return chosen, f"the {most} of {total} columns with the largest variance"


def _draw_ranges(axes: Axes, values: np.ndarray, offset: float, color: str, marker: str, label: str) -> None:
    height = np.arange(values.shape[1]) + offset
    columns = np.ascontiguousarray(values.T)  # for a million rows, quantiles take half the time
    low, first, median, third, high = np.quantile(columns, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
    axes.hlines(height, low, high, colors=color, linewidths=1.0)
    axes.hlines(height, first, third, colors=color, linewidths=3.5)
    axes.plot(median, height, marker, color=color, markerfacecolor="white", markersize=5, label=label)


def _standardized(data: np.ndarray, *tables: np.ndarray) -> list[np.ndarray]:
    """Return (value - mean) / standard deviation, both of the data, by column; a constant column is only shifted."""
    scale = data.std(axis=0)
    return [(table - data.mean(axis=0)) / np.where(scale > 0, scale, 1.0) for table in tables]
