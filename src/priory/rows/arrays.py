"""Rows of NumPy arrays, memory maps and scipy's sparse matrices."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from priory.rows.protocol import Blocks, Rows

BLOCK_BYTES = 2**22  # size of a block of rows if the file has no blocks, or smaller ones
_CURES = {
    "c": "give real and imaginary parts as columns",
    "U": "leave columns of text out",
    "S": "leave columns of text out",
    "M": "convert dates to numbers, such as days since the first one",
    "m": "convert durations to numbers, such as seconds",
}


@runtime_checkable
class SparseMatrix(Protocol):
    """A sparse matrix or array of scipy, recognized by its methods, because scipy is optional."""

    def tocsr(self, copy: bool = ...) -> Any: ...

    def toarray(self) -> Any: ...


class ArrayRows(Rows):
    """The rows of an array (N, D) or (N, *input), a memory map or a CSR matrix; a batch copies only its own rows.

    >>> ArrayRows(np.array([[1, 2], [3, 4]], dtype=np.int8)).batch(torch.tensor([1]))
    (tensor([[3., 4.]]), tensor([1]))
    """

    def __init__(self, array: Any, *, ids: Any = None, columns: Any = None) -> None:
        self.array, self.ids, self.columns = array, ids, columns
        self.in_memory = not isinstance(array, np.memmap)
        self.dtype = float_dtype(array.dtype)
        if not self.in_memory:
            row_bytes = array.nbytes / max(1, len(array))
            step = max(1, int(BLOCK_BYTES / max(1.0, row_bytes)))
            self.blocks = Blocks(torch.tensor([*range(0, len(array), step), len(array)]), row_bytes)

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return dense(self.array[positions.cpu().numpy()], self.dtype), positions


def array_rows(data: Any, argument: str, *, ids: Any = None) -> ArrayRows:
    """Return the rows of an array, or of an object that NumPy converts to an array."""
    array = np.asanyarray(data)
    require_real(array.dtype, argument)
    if np.ma.isMaskedArray(array):
        array = np.ma.filled(array.astype(float_dtype(array.dtype)), np.nan)
    return ArrayRows(array, ids=ids)


def sparse_rows(matrix: SparseMatrix, argument: str, *, ids: Any = None) -> ArrayRows:
    """Return the rows of a sparse matrix, which is converted to CSR once."""
    csr = matrix.tocsr()
    require_real(csr.dtype, argument)
    return ArrayRows(csr, ids=ids)


def dense(values: Any, dtype: np.dtype) -> Tensor:
    """Convert an array or a sparse matrix to a tensor."""
    array = values.toarray() if isinstance(values, SparseMatrix) else np.asarray(values)
    return torch.from_numpy(array.astype(dtype, copy=False))


def float_dtype(dtype: np.dtype) -> np.dtype:
    """Return the type itself for float16, float32 and float64; else float32 if it holds all its values, else float64.

    >>> [str(float_dtype(np.dtype(name))) for name in (">f2", "bool", "uint16", "int32")]
    ['float16', 'float32', 'float32', 'float64']
    """
    if dtype.kind == "f":
        return np.dtype(f"f{min(dtype.itemsize, 8)}")
    return np.promote_types(dtype, np.float32)


def require_real(dtype: np.dtype, argument: str) -> None:
    """Raise a ValueError if the values are not real numbers."""
    if dtype.kind not in "biuf":
        cure = _CURES.get(dtype.kind, "convert them: x.astype('float32')")
        raise ValueError(f"{argument}: expected numbers, got values of type {dtype}; {cure}")
