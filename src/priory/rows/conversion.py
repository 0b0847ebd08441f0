"""Convert data in any common form to rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from priory.rows.arrays import SparseMatrix, array_rows, require_real, sparse_rows
from priory.rows.arrow import ArrowTable, arrow_rows
from priory.rows.frames import AnnotatedData, Frame, annotated_rows, frame_rows
from priory.rows.loaders import dataset_rows, loader_rows
from priory.rows.parquet import parquet_rows
from priory.rows.protocol import Rows
from priory.rows.stored import SlicedMatrix, StoredMatrix, StoredRows
from priory.rows.tensors import tensor_rows

RowsLike: TypeAlias = (
    Tensor
    | NDArray[Any]
    | list[Any]
    | Frame
    | ArrowTable
    | SparseMatrix
    | AnnotatedData
    | Dataset
    | DataLoader
    | str
    | Path
    | Rows
)

# Kinds of data in the order in which they are tried: a data frame also has Arrow's interface.
_KINDS: tuple[tuple[Any, Callable[[Any, str], Rows]], ...] = (
    (Tensor, tensor_rows),
    (Rows, lambda rows, argument: rows),
    (np.ndarray | list, array_rows),
    (Frame, frame_rows),
    (AnnotatedData, annotated_rows),
    (SparseMatrix, sparse_rows),
    (StoredMatrix, lambda matrix, argument: StoredRows(matrix)),
    (ArrowTable, arrow_rows),
    (DataLoader, loader_rows),
    (Dataset, dataset_rows),
    (str | Path, parquet_rows),
)
_EXPECTED = (
    "a tensor or array (N, D) or (N, *input), a data frame, a sparse matrix, AnnData, a Dataset, a DataLoader, a "
    "folder of .parquet files or a pattern, or an object with __len__, batch(positions) and batches(batch_size)"
)


def as_rows(data: RowsLike, argument: str) -> Rows:
    """Return the rows of data in any common form; data that can be read batch by batch are never copied as a whole.

    Values that are float16, float32, float64 or bfloat16 keep their type; values of other real types become float32 if
    it holds all values of the type, else float64.

    Rows of a memory map, an HDF5 or zarr array, AnnData with an open file, or Parquet files stay there and are read
    block by block (see `Blocks`).

    Args:
        data: a tensor, an array or a list of rows (N, D) or (N, *input), such as images (N, C, H, W); a memory map; a
            pandas data frame or a table with Arrow's interface (polars, pyarrow), of numbers, whose missing cells
            become NaN; a sparse matrix of scipy; an HDF5 or zarr array; AnnData, whose X is read, from its file if that
            is open; a map-style `Dataset`; a `DataLoader`, whose dataset, `collate_fn` and workers are used, but not
            its order; a folder of .parquet files, or a pattern such as 'shards/*.parquet'; `Rows`.
        argument: the name of the data in errors.

    Raises:
        TypeError: the data are of another kind.
        ValueError: they have no rows or no columns, are one-dimensional, or are not real numbers.
        ImportError: pyarrow is not installed; Parquet, polars and Arrow need it.

    >>> x, numbers = as_rows(np.array([[0, 1], [2, 3], [4, 5]], dtype=np.uint8), "x").batch(torch.tensor([2, 0]))
    >>> x, numbers
    (tensor([[4., 5.],
             [0., 1.]]), tensor([2, 0]))
    """
    if isinstance(data, list):
        data = _array_of(data, argument)
    shape = getattr(data, "shape", None)
    if isinstance(shape, tuple):
        _require_matrix(tuple(shape), argument)
    make = next((make for kind, make in _KINDS if isinstance(data, kind)), None)
    if make is None and type(data).__module__.startswith(("h5py.", "zarr.")):
        make = _sliced_rows
    if make is None and hasattr(data, "__array__"):
        make = array_rows
    if make is None:
        raise TypeError(f"{argument}: expected {_EXPECTED}, got {type(data).__name__}; {_cure(data)}")
    rows = make(data, argument)
    if len(rows) == 0:
        raise ValueError(f"{argument}: expected at least one row, got none")
    return rows


def _sliced_rows(array: Any, argument: str) -> Rows:
    require_real(array.dtype, argument)
    return StoredRows(SlicedMatrix(array))


def _cure(data: Any) -> str:
    if isinstance(data, tuple):
        return "give the rows alone, without labels: data[0]"
    if hasattr(data, "rows"):  # the result of load_dataset
        return "give the rows of a split: data.rows('train')"
    return "call its method collect()" if hasattr(data, "collect") else "see priory.rows.Rows"


def _array_of(data: list[Any], argument: str) -> NDArray[Any]:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise ValueError(f"{argument}: expected a list of rows of one length, got rows of several lengths") from error


def _require_matrix(shape: tuple[int, ...], argument: str) -> None:
    if len(shape) < 2:
        raise ValueError(
            f"{argument}: expected rows of shape (N, D), got {shape}; a single row x is x[None], "
            "a single column x[:, None], a pandas Series s.to_frame()"
        )
    if 0 in shape[1:]:
        raise ValueError(f"{argument}: expected at least one column, got shape {shape}")
