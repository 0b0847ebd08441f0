"""Checksums of the rows that a run was fitted to, to detect whether a file still contains these rows.

CRC-32 detects accidental changes and is three times as fast as SHA-256, about as fast as reading a cached `.npy` file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import numpy as np

from priory._support.messages import shortened
from priory.workbench.data.reading.matrices import Matrix, compact, is_sparse
from priory.workbench.data.splits import SPLITS

_BLOCK_VALUES = 1 << 18  # few enough to convert a block within the processor's cache
_FIRST = 64  # values of a block; if it has fractions, these almost always show it
_EXACT = 2.0**53  # above it, not every whole number is a float64


@dataclass(frozen=True)
class Fingerprint:
    """The number of rows, and checksums of their values and ids, in order.

    They do not depend on labels or on the dtype in the file. `sparse` is true if the matrix was read in sparse form.
    `files` is a checksum of the names, sizes and times of the files of streamed rows, else empty: as long as it is
    unchanged, the values need not be read again for comparison.
    """

    rows: int
    values: str
    ids: str
    sparse: bool
    files: str = field(default="", compare=False)


@dataclass(frozen=True)
class Recorded:
    """The data that a run was fitted to, used to refuse a changed file."""

    run: str  # names the run in messages
    columns: tuple[str, ...]  # in their order
    fingerprint: Fingerprint

    def require_number(self, rows: int, origin: str) -> None:
        """Refuse another number of rows.

        Raises:
            ValueError: there are more or fewer rows.
        """
        if rows != self.fingerprint.rows:
            self._refuse(str(rows), origin)

    def require_same(self, x: Matrix, ids: np.ndarray, origin: str) -> None:
        """Refuse rows in memory with other values or ids, or in another order.

        Raises:
            ValueError: the rows are not those that the run was fitted to.
        """
        self.require_number(len(ids), origin)
        self.require_equal(fingerprint_of(in_form(x, self.fingerprint.sparse), ids), origin)

    def require_equal(self, other: Fingerprint, origin: str) -> None:
        """Refuse rows with another fingerprint.

        Raises:
            ValueError: the rows are not those that the run was fitted to.
        """
        self.require_number(other.rows, origin)
        changed = [name for name in ("values", "ids") if getattr(other, name) != getattr(self.fingerprint, name)]
        if changed:
            self._refuse(f"rows with other {' and '.join(changed)}", origin)

    def _refuse(self, difference: str, origin: str) -> None:
        raise ValueError(
            f"{origin}: expected the {self.fingerprint.rows} rows that {shortened(self.run, 300)} was trained with, "
            f"got {difference}: the file has changed since; restore it, or name it as new data"
        )


def in_form(x: Matrix, sparse: bool) -> Matrix:
    """Convert the matrix to sparse or dense form."""
    if is_sparse(x) == sparse:
        return x
    if not sparse:
        return x.toarray()
    from scipy.sparse import csr_matrix

    return csr_matrix(x)


def fingerprint_of(x: Matrix, ids: np.ndarray) -> Fingerprint:
    """Return the fingerprint of rows in memory, (rows, columns), and their ids."""
    checksum = RowsChecksum()
    checksum.add(x)
    return checksum.fingerprint(ids)


class RowsChecksum:
    """The checksum of the values of rows, computed block by block; it does not depend on the block boundaries.

    >>> x, ids = np.arange(6.0).reshape(3, 2), np.array(["a", "b", "c"])
    >>> checksum = RowsChecksum()
    >>> for block in (x[:1], x[1:]):
    ...     checksum.add(block)
    >>> checksum.fingerprint(ids) == fingerprint_of(x, ids)
    True
    """

    def __init__(self) -> None:
        self.shape, self.is_sparse = (0, 0), False
        self._values = _Stream()  # for a sparse matrix, the non-zero values
        self._pointers, self._indices = _Stream(raw=True), _Stream(raw=True)

    def add(self, block: Matrix) -> None:
        """Add the next rows, a NumPy array or a CSR matrix."""
        self.is_sparse = is_sparse(block)
        if self.is_sparse:
            if not block.has_sorted_indices or np.count_nonzero(block.data) < len(block.data):
                block = block.sorted_indices()  # a copy
                block.eliminate_zeros()
            if not self.shape[0]:
                self._pointers.add(np.zeros(1, dtype=np.int64))
            self._pointers.add(block.indptr[1:].astype(np.int64) + self._indices.length)
            self._indices.add(block.indices.astype(np.int64))
        self._values.add((block.data if self.is_sparse else block).reshape(-1))
        self.shape = (self.shape[0] + block.shape[0], block.shape[1])

    def fingerprint(self, ids: np.ndarray) -> Fingerprint:
        """Return the fingerprint of all rows added so far, with these ids."""
        checksum = checksum_of(np.array(self.shape))
        for stream in (self._pointers, self._indices, self._values) if self.is_sparse else (self._values,):
            checksum = stream.after(checksum)
        return Fingerprint(self.shape[0], f"{checksum:08x}", f"{_checksum_of_ids(ids):08x}", self.is_sparse)


class _Stream:
    """The checksum of a long vector that arrives in pieces.

    Values are read in blocks of equal size, each in its smallest dtype; raw values, int64, are read unchanged.
    """

    def __init__(self, *, raw: bool = False) -> None:
        self.raw, self.length = raw, 0
        self._since = self._bytes = 0
        self._rest: list[np.ndarray] = []

    def add(self, piece: np.ndarray) -> None:
        self.length += len(piece)
        if self.raw:
            self._read(piece)
            return
        while len(piece):
            missing = _BLOCK_VALUES - sum(map(len, self._rest))
            self._rest.append(piece[:missing])
            if len(piece) >= missing:
                self._end_block()
            piece = piece[missing:]

    def _end_block(self) -> None:
        block = _smallest(self._rest[0] if len(self._rest) == 1 else np.concatenate(self._rest))
        self._read_bytes(_header(block.dtype, block.shape))
        self._read(block)
        self._rest = []

    def _read(self, values: np.ndarray) -> None:
        self._read_bytes(np.ascontiguousarray(values).data)

    def _read_bytes(self, content: bytes | memoryview) -> None:
        self._since = crc32(content, self._since)
        self._bytes += memoryview(content).nbytes

    def after(self, checksum: int) -> int:
        """Return the checksum of earlier content, continued with this vector."""
        if self._rest:
            self._end_block()
        if self.raw:
            checksum = crc32(_header(np.dtype(np.int64), (self.length,)), checksum)
        return _joined(checksum, self._since, self._bytes)


def _joined(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two concatenated texts from the CRC-32 of each and the bytes of the second.

    A CRC is a polynomial over GF(2). The first is multiplied by x^n, with n the number of bits of the second text.

    >>> _joined(crc32(b"one"), crc32(b"two"), 3) == crc32(b"onetwo")
    True
    """
    power, square, bits = 1 << 31, 1 << 30, 8 * length  # x^0 and x^1: the highest bit is the lowest power
    while bits:
        power = _product(square, power) if bits & 1 else power
        square, bits = _product(square, square), bits >> 1
    return _product(power, first) ^ second


def _product(one: int, other: int) -> int:
    """Return the product of two polynomials modulo the CRC-32 polynomial."""
    product = 0
    for bit in range(31, -1, -1):
        product ^= other if one >> bit & 1 else 0
        other = other >> 1 ^ (0xEDB88320 if other & 1 else 0)
    return product


def _checksum_of_ids(ids: np.ndarray) -> int:
    """Return the checksum of ids as text; whole numbers become text block by block."""
    blocks = [ids[start : start + _BLOCK_VALUES] for start in range(0, len(ids), _BLOCK_VALUES)]
    # without the padding, which depends on the source of the ids
    used = np.any([_letters(block).any(axis=0) for block in blocks], axis=0)
    checksum = crc32(_header(np.dtype(np.uint32), (len(ids), int(used.sum()))))
    for block in blocks:
        checksum = crc32(np.ascontiguousarray(_letters(block)[:, used]).data, checksum)
    return checksum


def _letters(ids: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(ids.astype(str)).view(np.uint32).reshape(len(ids), -1)


def checksum_of_files(files: Sequence[Path]) -> str:
    """Return the checksum of the names, sizes and times of files below their common folder."""
    base = os.path.commonpath([file.parent for file in files])
    states = [(file.relative_to(base).as_posix(), file.stat()) for file in files]
    lines = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    return f"{crc32(chr(10).join(lines).encode()):08x}"


def checksum_of_split(splits: Mapping[str, np.ndarray]) -> str:
    """Return the checksum of the row indices of each split."""
    return f"{checksum_of(*(splits[name] for name in SPLITS)):08x}"


def checksum_of(*arrays: np.ndarray, since: int = 0) -> int:
    """Return the checksum of the arrays' dtypes, shapes and values, continued from `since`."""
    for array in arrays:
        since = crc32(np.ascontiguousarray(array).data, crc32(_header(array.dtype, array.shape), since))
    return since


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    return f"{dtype.str} {shape}".encode()


def _smallest(block: np.ndarray) -> np.ndarray:
    """Convert values to the smallest dtype that represents all exactly: an integer type, float32 or float64."""
    if block.dtype.kind != "f":
        return block if block.dtype == np.uint8 else compact(block)
    if _whole(block[:_FIRST]) and _whole(block):
        return compact(block.astype(np.int64))
    with np.errstate(over="ignore", invalid="ignore"):
        single = block.astype(np.float32, copy=False)
    return single if single is block or np.array_equal(single, block, equal_nan=True) else block


def _whole(values: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):  # signaling NaN
        return bool(((np.rint(values) == values) & (np.abs(values) < _EXACT)).all())
