"""Checksums of the rows that a run was fitted to: they tell whether a file still holds these rows.

CRC-32 detects accidents, and reads three times as many bytes a second as SHA-256: an `.npy` file comes from memory at
the same rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from priory._support.messages import shortened
from priory.workbench.data.reading.matrices import Matrix, compact, is_sparse
from priory.workbench.data.splits import SPLITS

_BLOCK_VALUES = 1 << 18  # few enough for the processor's cache, where a block may be converted
_FIRST = 64  # values of a block: most real values show in these that they are not whole numbers
_EXACT = 2.0**53  # from here on, not every whole number is a float


@dataclass(frozen=True)
class Fingerprint:
    """The number of rows, and checksums of their values and ids, in their order.

    The type in which a file stores the values does not count. Labels do not count. `sparse` says which form of the
    matrix was read.
    """

    rows: int
    values: str
    ids: str
    sparse: bool


@dataclass(frozen=True)
class Recorded:
    """The data that a run was fitted to, by which a changed file is refused."""

    run: str  # names the run in messages
    columns: tuple[str, ...]  # in their order
    fingerprint: Fingerprint

    def require_same(self, x: Matrix, ids: np.ndarray, origin: str) -> None:
        """Refuse rows with other values or ids, or in another order.

        Raises:
            ValueError: the rows are not those that the run was fitted to.
        """
        was = self.fingerprint
        if len(ids) != was.rows:
            difference = str(len(ids))
        else:
            found = fingerprint_of(_in_form(x, was.sparse), ids)
            changed = [name for name in ("values", "ids") if getattr(found, name) != getattr(was, name)]
            difference = f"rows with other {' and '.join(changed)}" if changed else ""
        if difference:
            raise ValueError(
                f"{origin}: expected the {was.rows} rows that {shortened(self.run, 300)} was trained with, got "
                f"{difference}: the file has changed since; put it back as it was, or name it as new data"
            )


def _in_form(x: Matrix, sparse: bool) -> Matrix:
    """The matrix as it would be if it had been stored sparse, or dense."""
    if is_sparse(x) == sparse:
        return x
    if not sparse:
        return x.toarray()
    from scipy.sparse import csr_matrix

    return csr_matrix(x)


def fingerprint_of(x: Matrix, ids: np.ndarray) -> Fingerprint:
    """The fingerprint of rows, (rows, columns), and their ids."""
    values, checksum = x, checksum_of(np.array(x.shape))
    if is_sparse(x):
        if not x.has_sorted_indices or np.count_nonzero(x.data) < len(x.data):
            x = x.sorted_indices()  # a copy
            x.eliminate_zeros()
        values, checksum = x.data, checksum_of(x.indptr.astype(np.int64), x.indices.astype(np.int64), since=checksum)
    flat = values.reshape(-1)
    for start in range(0, len(flat), _BLOCK_VALUES):
        checksum = checksum_of(_smallest(flat[start : start + _BLOCK_VALUES]), since=checksum)
    letters = np.ascontiguousarray(ids.astype(str)).view(np.uint32).reshape(len(ids), -1)
    letters = letters[:, letters.any(axis=0)]  # without the padding, which depends on where ids come from
    return Fingerprint(x.shape[0], f"{checksum:08x}", f"{checksum_of(letters):08x}", is_sparse(x))


def checksum_of_split(splits: Mapping[str, np.ndarray]) -> str:
    """The checksum of the row indices of each split."""
    return f"{checksum_of(*(splits[name] for name in SPLITS)):08x}"


def checksum_of(*arrays: np.ndarray, since: int = 0) -> int:
    """The checksum of the arrays' types, shapes and values; `since` is that of the arrays before them."""
    for array in arrays:
        since = crc32(np.ascontiguousarray(array).data, crc32(f"{array.dtype.str} {array.shape}".encode(), since))
    return since


def _smallest(block: np.ndarray) -> np.ndarray:
    """The values in the smallest type that holds them all exactly: an integer, float32 or float64."""
    if block.dtype.kind != "f":
        return block if block.dtype == np.uint8 else compact(block)
    if _whole(block[:_FIRST]) and _whole(block):
        return compact(block.astype(np.int64))
    with np.errstate(over="ignore", invalid="ignore"):
        single = block.astype(np.float32, copy=False)
    return single if single is block or np.array_equal(single, block, equal_nan=True) else block


def _whole(values: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):  # of NaN that are to be signaled
        return bool(((np.rint(values) == values) & (np.abs(values) < _EXACT)).all())
