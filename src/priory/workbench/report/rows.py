"""Read arrays, tensors and sparse matrices by blocks and by columns; compute moments of columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

_BLOCK_VALUES = 1 << 22  # values made dense at a time, 32 MB


class ColumnMoments(NamedTuple):
    """Mean, standard deviation, minimum and maximum of each column, (D,), without missing values."""

    mean: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray


def as_matrix(x: Any) -> Any:
    """Return x as a NumPy array or a scipy CSR matrix, without a copy if possible."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        return x.numpy() if x.dtype.itemsize > 2 or not x.is_floating_point() else x.float().numpy()
    return x.tocsr() if hasattr(x, "tocsr") else np.asarray(x)


def dense(x: Any, index: np.ndarray | slice) -> np.ndarray:
    """Return some rows as float64, (n, D)."""
    rows = x[index]
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, dtype=np.float64)


def columns(x: Any, which: np.ndarray) -> Iterator[np.ndarray]:
    """Iterate over these columns, float64 (N,)."""
    by_column = x.tocsc() if hasattr(x, "tocsc") else x
    for column in which:
        values = by_column[:, [column]].toarray()[:, 0] if by_column is not x else x[:, column]
        yield np.asarray(values, dtype=np.float64)


def column_moments(x: Any) -> ColumnMoments:
    """Return mean, standard deviation and range of each column; zeros for a column without any value.

    Sums of deviations from the mean of the first block keep the precision of large values.
    """
    if hasattr(x, "tocsc") and np.isfinite(x.data).all():
        x = x.astype(np.float64)
        mean = np.asarray(x.mean(axis=0)).ravel()
        squares = np.asarray(x.multiply(x).mean(axis=0)).ravel()
        low, high = (ends.toarray().ravel() for ends in (x.min(axis=0), x.max(axis=0)))
        return ColumnMoments(mean, np.sqrt(np.maximum(squares - mean**2, 0.0)), low, high)
    number = total = squares = np.zeros(x.shape[1])
    low, high = np.full(x.shape[1], np.inf), np.full(x.shape[1], -np.inf)
    origin: np.ndarray | None = None
    step = max(1, _BLOCK_VALUES // max(1, x.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # from huge values; the results are made finite
        for start in range(0, x.shape[0], step):
            block = dense(x, slice(start, start + step))
            there = np.isfinite(block)
            if origin is None:
                origin = np.nan_to_num(np.where(there, block, 0.0).sum(0) / np.maximum(there.sum(0), 1))
            gap = np.where(there, block - origin, 0.0)
            number, total, squares = number + there.sum(0), total + gap.sum(0), squares + np.square(gap).sum(0)
            low = np.minimum(low, np.where(there, block, np.inf).min(0))
            high = np.maximum(high, np.where(there, block, -np.inf).max(0))
    assert origin is not None
    share = total / np.maximum(number, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.maximum(squares / np.maximum(number, 1) - share**2, 0.0)
    moments = (origin + share, np.sqrt(variance), low, high)
    return ColumnMoments(*(np.where(number == 0, 0.0, np.nan_to_num(each)) for each in moments))
