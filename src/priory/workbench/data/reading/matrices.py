"""Matrices of data: a NumPy array or a scipy CSR matrix, in the smallest dtype that represents the values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, TypeAlias

import numpy as np

from priory.workbench.data.reading.foreign import foreign

# np.ndarray, scipy.sparse.csr_matrix, or a StoredMatrix of `priory.rows`. The type is Any, because scipy
# is optional, `priory.rows` imports torch, and a type needs neither import.
Matrix: TypeAlias = Any

# Values per block: enough for vectorized passes, and few enough not to double a large data set in memory.
_BLOCK_VALUES = 1 << 22
_BLOCK_ROWS = 4096
_LEAST_DIFFERENCE = 1e-5  # between two values of a column, in units of its spread
_ROUNDING = 8  # in units in the last place of float64; smaller differences count as rounding errors
_SAMPLE_ROWS = 1000
_TESTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"missing": np.isnan, "infinite": np.isinf}


def is_sparse(matrix: Matrix) -> bool:
    """Return whether it is a sparse matrix in memory."""
    return not isinstance(matrix, np.ndarray) and not is_stored(matrix)


def is_stored(matrix: Matrix) -> bool:
    """Return whether it is a `StoredMatrix`, which stays in its files."""
    return hasattr(matrix, "bounds")


def compact(values: np.ndarray, what: str = "data", *, precise: bool = False) -> np.ndarray:
    """Convert numbers to the smallest dtype that torch can index: uint8, int16, int32, int64, or float32.

    With `precise`, real numbers become float64 instead of float32.

    >>> compact(np.array([[0, 255]])).dtype, compact(np.array([[0.5]])).dtype, compact(np.array([[True]])).dtype
    (dtype('uint8'), dtype('float32'), dtype('uint8'))
    """
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.uint8)
    if kind == "f":
        with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, which require_complete reports
            single = values.astype(np.float32, copy=False)
        return np.where(np.isinf(single), single, values).astype(np.float64) if precise else single
    if kind in "iu":
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        for dtype in (np.uint8, np.int16, np.int32, np.int64):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return values.astype(dtype, copy=False)
        return values.astype(np.float64)  # uint64 beyond int64
    raise ValueError(
        f"{what}: expected numbers, got dtype {values.dtype}; save real numbers, integers or booleans instead, "
        "for example x.astype('float32')"
    )


def compact_matrix(matrix: Matrix, what: str, *, precise: bool = False) -> Matrix:
    """`compact` for dense and sparse matrices; uses float64, too, if float32 would merge values of a column.

    A sparse matrix becomes a CSR matrix without duplicates.
    """
    if not is_sparse(matrix):
        return compact(matrix, what, precise=precise or bool(crowded_columns(matrix).size))
    from scipy.sparse import csr_matrix

    matrix = csr_matrix(matrix)
    matrix.sum_duplicates()
    data = compact(matrix.data, what, precise=precise or bool(crowded_columns(matrix).size))
    return csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def compacted(block: Matrix, what: str, *, precise: bool = False) -> Matrix:
    """`compact` for a block of a stored matrix, dense or CSR; changes a sparse block in place."""
    if not is_sparse(block):
        return compact(block, what, precise=precise)
    block.sum_duplicates()
    block.data = compact(block.data, what, precise=precise)
    return block


def crowded_columns(matrix: Matrix) -> np.ndarray:
    """Find the columns in which float32 merges distinct values: their spread is small relative to their magnitude.

    Differences below 1e-5 of the spread do not count.

    >>> crowded_columns(np.array([[1.6e9, 0.1], [1.6e9 + 1, 0.2], [1.6e9 + 2, 0.3]]))
    array([0])
    """
    if not may_be_crowded(matrix.dtype):
        return np.empty(0, dtype=np.int64)
    if is_sparse(matrix):  # the spread of a column with a zero is as large as its values
        full = np.flatnonzero(matrix.getnnz(axis=0) == matrix.shape[0])
        return full[crowded_columns(matrix[:, full].toarray())] if full.size else full
    low, high = (ends.reduce(matrix, axis=0).astype(np.float64) for ends in (np.fmin, np.fmax))
    return crowded_between(low, high, matrix[sample_rows(len(matrix))])


def may_be_crowded(dtype: np.dtype) -> bool:
    """Return whether float32 cannot represent all values of the type."""
    return dtype.kind in "fiu" and dtype.itemsize >= 4 and dtype != np.float32


def sample_rows(rows: int) -> np.ndarray:
    """Return the rows in which `crowded_between` compares values: at most 1000, evenly spaced."""
    return np.linspace(0, rows - 1, min(rows, _SAMPLE_ROWS)).astype(np.int64)


def crowded_between(low: np.ndarray, high: np.ndarray, sample: Matrix) -> np.ndarray:
    """`crowded_columns` from the range of each column, `low` to `high`, and the rows at `sample_rows`."""
    with np.errstate(invalid="ignore", over="ignore"):
        spread, size = high - low, np.maximum(abs(low), abs(high))
        near = np.flatnonzero(
            ~is_one_value(low, high) & (spread * _LEAST_DIFFERENCE < np.spacing(size.astype(np.float32)))
        )
        some = sample[:, near]
        some = np.sort((some.toarray() if is_sparse(some) else some).astype(np.float64), axis=0)
        steps, left = np.diff(some, axis=0), np.diff(some.astype(np.float32), axis=0)
        lost = ((steps > spread[near] * _LEAST_DIFFERENCE) & (left == 0)).any(axis=0)
        one = low[near].astype(np.float32) == high[near].astype(np.float32)  # independently of the sample
    return near[lost | one]


def ends_of(matrix: Matrix, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum and the maximum of each column over these rows, in float64, without missing cells."""
    if is_sparse(matrix):
        low, high = (ends(axis=0).toarray().ravel() for ends in (matrix[rows].nanmin, matrix[rows].nanmax))
    else:
        low = high = matrix[rows[0]]
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = matrix[rows[start : start + _BLOCK_ROWS]]
            low, high = np.fmin(low, np.fmin.reduce(block)), np.fmax(high, np.fmax.reduce(block))
    return low.astype(np.float64), high.astype(np.float64)


def is_one_value(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return whether minimum and maximum of a column are equal up to rounding in float64."""
    with np.errstate(invalid="ignore"):
        rounding = _ROUNDING * np.finfo(np.float64).eps * np.maximum(abs(low), abs(high))
        return (low == high) | (high - low <= rounding)


def checked_csr(matrix: Matrix, what: str) -> Matrix:
    """Check the indices of a sparse matrix, which scipy does not, and convert it to CSR."""
    from scipy.sparse import csr_matrix

    with foreign(what, "the parts of a sparse matrix that fit each other", "write it again with scipy.sparse.save_npz"):
        if hasattr(matrix, "indptr") and (np.diff(matrix.indptr) < 0).any():
            # check_format first cuts the matrix at its last pointer, and if that is 0 it skips the others
            raise ValueError("indptr must not decrease")
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)
        return csr_matrix(matrix)


def as_rows(array: np.ndarray, what: str) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Flatten images (N, H, W), (N, H, W, 1), (N, 1, H, W); return rows and image shape, which is None for (N, D)."""
    image_shape = image_shape_of(array.shape, what)
    return array.reshape(len(array), -1), image_shape


def image_shape_of(shape: tuple[int, ...], what: str) -> tuple[int, int] | None:
    """Return the shape of the images in an array of this shape; None for (N, D)."""
    if not prod(shape):
        raise ValueError(f"{what}: expected at least one row and one column, got {' x '.join(map(str, shape))} values")
    if len(shape) == 2:
        return None
    if len(shape) == 4 and 1 in (shape[1], shape[3]):
        return shape[1:3] if shape[3] == 1 else shape[2:]
    if len(shape) == 3:
        return shape[1:]
    cure = "x.reshape(-1, 1) if it is one column" if len(shape) < 2 else "x.reshape(len(x), -1) to flatten the rows"
    raise ValueError(
        f"{what}: expected a matrix (rows, columns) or gray images (rows, height, width), "
        f"got an array of shape {shape}; save {cure}"
    )


def stored_values(matrix: Matrix) -> Iterator[np.ndarray]:
    """Iterate over blocks of values: all of a dense matrix, the explicit values of a sparse matrix."""
    if is_sparse(matrix):
        for start in range(0, len(matrix.data), _BLOCK_VALUES):
            yield matrix.data[start : start + _BLOCK_VALUES]
        return
    rows = max(1, _BLOCK_VALUES // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), rows):
        yield matrix[start : start + rows]


def count_cells(matrix: Matrix, kind: str) -> tuple[np.ndarray, int]:
    """Count 'missing' or 'infinite' values in each column; find the first row with one (-1 if there is none)."""
    test = _TESTS[kind]
    if matrix.dtype.kind != "f":
        return np.zeros(matrix.shape[1], dtype=np.int64), -1
    if is_sparse(matrix):
        places = np.flatnonzero(test(matrix.data))
        counts = np.bincount(matrix.indices[places], minlength=matrix.shape[1])
        return counts, int(np.searchsorted(matrix.indptr, places[0], side="right")) - 1 if places.size else -1
    counts, first, start = np.zeros(matrix.shape[1], dtype=np.int64), -1, 0
    for block in stored_values(matrix):
        passing = test(block)
        counts += passing.sum(axis=0)
        if first < 0 and passing.any():
            first = start + int(passing.any(axis=1).argmax())
        start += len(block)
    return counts, first
