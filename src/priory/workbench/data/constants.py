"""Columns that have the same value in all rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from priory.workbench.data.dataset import DatasetRows
from priory.workbench.data.reading.matrices import Matrix, is_sparse

_BLOCK_ROWS = 4096
_LISTED_COLUMNS = 5


def constant_columns(rows: DatasetRows) -> dict[str, float]:
    """Find the columns that have one value in all of these rows, in float32 as models read them; give that value too.

    Missing cells do not count.

    >>> from priory.workbench.data import load_dataset
    >>> list(constant_columns(load_dataset("digits").rows("train")))
    ['x0', 'x32', 'x39']
    """
    x = rows.dataset.x
    low, high = _extremes(x[rows.indices]) if is_sparse(x) else _dense_extremes(x, rows.indices)
    constant = np.flatnonzero(low == high)
    return {rows.dataset.columns[i]: float(low[i]) for i in constant}


def _extremes(matrix: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each column of a sparse matrix, zeros included."""
    low, high = (part.toarray().ravel().astype(np.float32) for part in (matrix.nanmin(axis=0), matrix.nanmax(axis=0)))
    return low, high


def _dense_extremes(x: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low = high = x[indices[0]]
    for start in range(0, len(indices), _BLOCK_ROWS):
        block = x[indices[start : start + _BLOCK_ROWS]]
        low, high = np.fmin(low, np.fmin.reduce(block)), np.fmax(high, np.fmax.reduce(block))
    return low.astype(np.float32), high.astype(np.float32)


def describe_constants(constants: Mapping[str, float]) -> str:
    """List columns and their values for a message.

    >>> describe_constants({"a": 0.0, "b": 2.5})
    "'a' = 0, 'b' = 2.5"
    """
    shown = ", ".join(f"{name!r} = {value:g}" for name, value in list(constants.items())[:_LISTED_COLUMNS])
    return shown + (", ..." if len(constants) > _LISTED_COLUMNS else "")
