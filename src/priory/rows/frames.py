"""Rows of AnnData and of pandas data frames, without importing pandas."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from priory._support.messages import first_few
from priory.rows.arrays import (
    ArrayRows,
    SparseMatrix,
    array_rows,
    dense,
    float_dtype,
    require_real,
    sparse_rows,
)
from priory.rows.protocol import Rows
from priory.rows.stored import SlicedMatrix, StoredRows


@runtime_checkable
class Frame(Protocol):
    """A pandas data frame, recognized by its attribute `iloc`."""

    @property
    def iloc(self) -> Any: ...


@runtime_checkable
class AnnotatedData(Protocol):
    """AnnData, recognized by its attribute `obs_names`."""

    @property
    def obs_names(self) -> Any: ...


def frame_rows(frame: Any, argument: str) -> ArrayRows:
    """Return the rows of a data frame of numbers; missing cells become NaN."""
    require_numbers(frame, argument)
    dtype = np.result_type(*(float_dtype(_numpy_type(each)) for each in frame.dtypes))
    return ArrayRows(frame.to_numpy(dtype=dtype, na_value=np.nan), ids=frame.index, columns=frame.columns)


def require_numbers(frame: Any, argument: str) -> None:
    """Raise a ValueError that names the columns that are not real numbers."""
    others = [f"{name!r} ({dtype})" for name, dtype in frame.dtypes.items() if dtype.kind not in "biuf"]
    if others:
        raise ValueError(
            f"{argument}: expected columns of numbers, got {first_few(others)}; convert them (frame.astype(float)), or "
            'leave them out: frame.select_dtypes(["number", "bool"])'
        )


def _numpy_type(dtype: Any) -> np.dtype:
    """Return the type of the values of a column; pandas' nullable and sparse types wrap it."""
    return np.dtype(getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", dtype)))


def annotated_rows(data: Any, argument: str) -> Rows:
    """Return the rows of AnnData's matrix X; if its file is open (`backed`), they are read batch by batch."""
    x = data.X
    if x is None:
        layers = ", ".join(map(repr, data.layers)) or "no layers"
        raise ValueError(f"{argument}: expected AnnData with a matrix X, got none; set X to one of the layers {layers}")
    if data.isbacked:
        require_real(x.dtype, argument)
        if data.is_view:
            return BackedRows(data)
        require_stored_by_rows(x, argument)
        return StoredRows(annotated_matrix(x), ids=data.obs_names)
    make = sparse_rows if isinstance(x, SparseMatrix) else array_rows
    return make(x, argument, ids=data.obs_names)


def annotated_matrix(x: Any) -> SlicedMatrix:
    """Return a matrix of AnnData in a file: an HDF5 or zarr array, or AnnData's object for a sparse matrix."""
    if not hasattr(x, "format"):
        return SlicedMatrix(x)
    number = x.group["indices"].shape[0]
    size = x.dtype.itemsize + x.group["indices"].dtype.itemsize
    return SlicedMatrix(x, row_bytes=max(1.0, number * size / max(1, x.shape[0])), is_sparse=True)


def require_stored_by_rows(x: Any, argument: str) -> None:
    """Raise a ValueError if a sparse matrix of AnnData in a file is stored by columns."""
    if getattr(x, "format", None) == "csc":
        raise ValueError(
            f"{argument}: expected a matrix that is stored by rows (CSR), got one stored by columns (CSC); write it "
            "again with adata.X = adata.X.tocsr()"
        )


class BackedRows(Rows):
    """Some rows of AnnData whose matrix stays in its file."""

    def __init__(self, data: Any) -> None:
        self.data, self.ids = data, data.obs_names
        self.dtype = float_dtype(data.X.dtype)

    def __len__(self) -> int:
        return int(self.data.n_obs)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return dense(self.data[positions.cpu().numpy()].X, self.dtype), positions
