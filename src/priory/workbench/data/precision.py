"""Columns with distinct values that are equal in float32."""

from __future__ import annotations

import shlex

import numpy as np

from priory._support.messages import shortened
from priory.workbench.data.dataset import Dataset
from priory.workbench.data.reading.matrices import crowded_columns, is_sparse

_LARGEST_LOSS = 0.5  # share of a column's distinct values; after a larger loss, a model would learn the rounding
_SHOWN_COLUMNS = 5


def require_float32(dataset: Dataset) -> None:
    """Refuse columns of which half of the distinct values or more are lost in float32, the type of the networks."""
    lost = {name: left for name, left in _distinct(dataset).items() if left[1] <= _LARGEST_LOSS * left[0]}
    if lost:
        drop = " ".join(f"--drop {shlex.quote(name)}" for name in list(lost)[:_SHOWN_COLUMNS])
        raise ValueError(
            f"{dataset.origin}: expected columns that differ in the first seven digits, the precision of networks "
            f"(float32), got {_described(lost)}; subtract a constant from these columns, or use other units; or leave "
            f"them out ({drop}), or fit a map, which keeps all digits: priory gtm fit"
        )


def lost_digits(dataset: Dataset) -> str:
    """Return a note on the columns that lose distinct values in float32; '' if there are none."""
    lost = _distinct(dataset)
    return f"float32, the precision of networks, loses digits of {_described(lost)}" if lost else ""


def _distinct(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Return the numbers of distinct values in the data and in float32, for the columns with a difference."""
    numbers = {}
    known = dataset.known
    for i in crowded_columns(dataset.x) if known is None else known.crowded:
        column = dataset.x[:, [i]].toarray() if is_sparse(dataset.x) else dataset.x[:, [i]][:]
        values = np.unique(column[~np.isnan(column)])
        numbers[dataset.columns[i]] = (len(values), len(np.unique(values.astype(np.float32))))
    return numbers


def _described(numbers: dict[str, tuple[int, int]]) -> str:
    shown = [f"{shortened(name)!r} ({left} of {all_} distinct values left)" for name, (all_, left) in numbers.items()]
    return ", ".join(shown[:_SHOWN_COLUMNS]) + (f", ... ({len(shown)} columns)" if len(shown) > _SHOWN_COLUMNS else "")
