"""Matrices that stay in their files; their rows are read block by block."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from mmap import mmap
from typing import Any

import numpy as np
import torch
from torch import Tensor

from priory.rows.arrays import BLOCK_BYTES, dense, float_dtype
from priory.rows.protocol import Blocks, Rows


class StoredMatrix(ABC):
    """A matrix (N, D) in files; blocks of consecutive rows are decoded one at a time.

    A subclass defines `decode`.

    Attributes:
        shape: (N, D).
        dtype: type of the values in the files.
        bounds: row numbers where blocks begin, and N at the end, (blocks + 1,).
        row_bytes: memory of a decoded row.
        is_sparse: whether blocks are CSR matrices of scipy.
        held_as: function applied to everything that is decoded, for example to keep it in a smaller type.

    >>> matrix = SlicedMatrix(np.arange(12).reshape(6, 2), step=4)
    >>> matrix.bounds.tolist(), matrix[np.array([5, 0])].tolist()
    ([0, 4, 6], [[10, 11], [0, 1]])
    >>> matrix[:, [1]][4:].tolist()
    [[9], [11]]
    """

    is_sparse = False

    def __init__(self, shape: Sequence[int], dtype: np.dtype, bounds: np.ndarray, row_bytes: float) -> None:
        self.shape, self.dtype, self.bounds, self.row_bytes = tuple(map(int, shape)), dtype, bounds, row_bytes
        self.held_as: Callable[[Any], Any] = lambda values: values

    @abstractmethod
    def decode(self, block: int) -> Any:
        """Return the rows of a block with the chosen columns, after `held_as`."""

    @abstractmethod
    def with_columns(self, which: Sequence[int]) -> "StoredMatrix":
        """Return the same rows with these columns; nothing is read."""

    def column(self, index: int) -> np.ndarray:
        """Return all values of a column, numbers or text."""
        values = self.with_columns([index])[:]
        return np.asarray(values.toarray() if self.is_sparse else values).ravel()

    def holding(self, held_as: Callable[[Any], Any]) -> "StoredMatrix":
        """Return the same matrix with this function as `held_as`."""
        other = copy(self)
        other.held_as = held_as
        return other

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            return self.with_columns(key[1])
        rows = np.arange(*key.indices(len(self))) if isinstance(key, slice) else np.asarray(key)
        [values] = self.gather(lambda: iter([rows]))
        return values

    def blocks(self) -> Iterator[Any]:
        """Return all blocks in order."""
        return map(self.decode, range(len(self.bounds) - 1))

    def gather(self, chunks: Callable[[], Iterator[np.ndarray]]) -> Iterator[Any]:
        """Return the rows at these numbers, chunk by chunk; a block stays in memory from its first to its last row.

        Args:
            chunks: returns an iterator over arrays of row numbers; called twice.
        """
        left = np.zeros(len(self.bounds) - 1, dtype=np.int64)  # rows of each block that are not read yet
        for rows in chunks():
            left += np.bincount(self._block_of(rows), minlength=len(left))
        held: dict[int, Any] = {}
        for rows in chunks():
            block_of = self._block_of(rows)
            parts, order = [], np.argsort(block_of, kind="stable")
            for block, places in zip(*_runs(block_of[order], order), strict=True):
                if block not in held:
                    held[block] = _in_own_pages(self.decode(block))
                parts.append(held[block][rows[places] - self.bounds[block]])
                left[block] -= len(places)
                if not left[block]:
                    del held[block]
            yield _stacked(parts, self.is_sparse)[np.argsort(order, kind="stable")] if parts else self._no_rows()

    def _block_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.bounds, rows, side="right") - 1

    def _no_rows(self) -> np.ndarray:
        return np.empty((0, *self.shape[1:]), self.dtype)


def _runs(values: np.ndarray, places: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Return the distinct values of a sorted array, and the entries of `places` for each."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    return values[starts].tolist(), np.split(places, starts[1:])


def _in_own_pages(block: Any) -> Any:
    """Copy a dense block into memory pages of its own, which return to the system when the block is freed.

    Otherwise the heap of the process keeps holes between the blocks of a window: a quarter of all memory in use.
    """
    if not isinstance(block, np.ndarray) or not block.nbytes:
        return block
    copied: np.ndarray = np.frombuffer(mmap(-1, block.nbytes), block.dtype).reshape(block.shape)
    copied[:] = block
    return copied


def _stacked(parts: list[Any], is_sparse: bool) -> Any:
    if not is_sparse:
        return np.concatenate(parts)
    from scipy.sparse import vstack

    return vstack(parts, format="csr")


class SlicedMatrix(StoredMatrix):
    """A matrix that is read by slices: HDF5, zarr, AnnData's sparse matrices, a memory map.

    Args:
        array: has a shape and a dtype; array[start:stop] is an array or a CSR matrix.
        step: rows of a block; None uses whole chunks of the file of at least 4 MB.
        row_bytes: memory of a row; None takes that of a dense row.
        is_sparse: whether slices are CSR matrices.
    """

    def __init__(
        self, array: Any, *, step: int | None = None, row_bytes: float | None = None, is_sparse: bool = False
    ) -> None:
        if row_bytes is None:
            row_bytes = float(np.prod(array.shape[1:])) * array.dtype.itemsize
        step = step or _whole_chunks(max(1, int(BLOCK_BYTES / max(1.0, row_bytes))), array)
        bounds = np.append(np.arange(0, array.shape[0], step, dtype=np.int64), array.shape[0])
        super().__init__(array.shape, array.dtype, bounds, row_bytes)
        self.array, self.is_sparse = array, is_sparse
        self._which: np.ndarray | None = None

    def decode(self, block: int) -> Any:
        values = self.array[int(self.bounds[block]) : int(self.bounds[block + 1])]
        values = values if self.is_sparse else np.asarray(values)
        return self.held_as(values if self._which is None else values[:, self._which])

    def with_columns(self, which: Sequence[int]) -> "SlicedMatrix":
        other = copy(self)
        other._which = np.asarray(which) if self._which is None else self._which[np.asarray(which)]
        other.shape = (self.shape[0], len(which))
        other.row_bytes = self.row_bytes * len(which) / self.shape[1]
        return other


def _whole_chunks(rows: int, array: Any) -> int:
    """Round a number of rows up to whole chunks of the file."""
    chunk = (getattr(array, "chunks", None) or (1,))[0]
    return -(-rows // chunk) * chunk


class StoredRows(Rows):
    """The rows of a stored matrix. Training shuffles them within windows of blocks (see `fit`).

    >>> rows = StoredRows(SlicedMatrix(np.arange(6, dtype=np.uint8).reshape(3, 2), step=2))
    >>> rows.batch(torch.tensor([2, 0])), rows.blocks.bounds
    ((tensor([[4., 5.], [0., 1.]]), tensor([2, 0])), tensor([0, 2, 3]))
    """

    def __init__(self, matrix: StoredMatrix, *, ids: Any = None, columns: Any = None) -> None:
        self.matrix, self.ids, self.columns = matrix, ids, columns
        self.dtype = float_dtype(matrix.dtype)
        self.blocks = Blocks(torch.from_numpy(matrix.bounds), matrix.row_bytes)

    def __len__(self) -> int:
        return len(self.matrix)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return dense(self.matrix[positions.cpu().numpy()], self.dtype), positions

    def read(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches at these positions; a block stays in memory while more of its rows are needed."""
        chunks = list(chunks)
        values = self.matrix.gather(lambda: (positions.cpu().numpy() for positions in chunks))
        for positions, rows in zip(chunks, values, strict=True):
            yield dense(rows, self.dtype), positions
