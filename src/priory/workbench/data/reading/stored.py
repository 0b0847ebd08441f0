"""Files that are read block by block, so that rows stay in them: Parquet, .npy, .h5ad, zarr.

This module imports torch, which takes a second; import it only if rows are streamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from priory._support.messages import first_few
from priory._support.optional import require
from priory.rows.arrow import is_number
from priory.rows.frames import annotated_matrix, require_stored_by_rows
from priory.rows.parquet import ParquetMatrix
from priory.rows.stored import SlicedMatrix
from priory.workbench.data.reading.arrays import header_of
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.h5ad import H5AD, check_content
from priory.workbench.data.reading.matrices import image_shape_of
from priory.workbench.data.reading.parquet import PARQUET
from priory.workbench.data.reading.table import Table, as_values
from priory.workbench.data.reading.zarr import ZARR


def stored_table(path: Path, files: Sequence[Path]) -> Table:
    """Return the content of a file, or of .parquet files, as a table whose matrix is a `StoredMatrix`."""
    if files[0].suffix.lower() == ".parquet":
        return _parquet(files, path)
    if path.suffix.lower() == ".npy":
        return _npy(path)
    if path.suffix.lower() == ".h5ad":
        check_content(path)
        with foreign(path.name, *H5AD):
            file = require("h5py", "anndata", "reading .h5ad files").File(path)
        return _annotated(file, path.name, H5AD)
    with foreign(path.name, *ZARR):
        store = require("zarr", "anndata", "reading zarr").open(path, mode="r")
    if not hasattr(store, "shape"):
        return _annotated(store, path.name, ZARR)
    image_shape = image_shape_of(store.shape, path.name)
    return Table(SlicedMatrix(_Flat(store) if store.ndim > 2 else store), image_shape=image_shape)


def _parquet(files: Sequence[Path], path: Path) -> Table:
    with foreign(path.name, *PARQUET):
        matrix = ParquetMatrix(files, path if path.is_dir() else None)
    matrix.require_same_columns()
    with foreign(path.name, *PARQUET):
        index = [
            name for name in (matrix.schema.pandas_metadata or {}).get("index_columns", []) if name in matrix.names
        ]
        ids = as_values(matrix.column(matrix.names.index(index[0]))) if len(index) == 1 else None
    rest = [i for i, name in enumerate(matrix.names) if ids is None or name not in index]
    matrix = matrix.with_columns(rest)
    return Table(matrix, tuple(matrix.names), ids=ids)


def require_columns_of_numbers(matrix: Any, where: str) -> None:
    """Refuse columns of Parquet files that do not contain numbers."""
    if isinstance(matrix, ParquetMatrix):
        others = [name for name in matrix.names if not is_number(matrix.schema.field(name).type)]
        if others:
            raise ValueError(
                f"{where}: expected columns of numbers, got others: {first_few(others)}. Declare these columns: "
                "--labels COLUMN for labels, --ids COLUMN for row names, --drop COLUMN to leave one out"
            )


def _npy(path: Path) -> Table:
    shape, column_major, dtype, start = header_of(path)
    image_shape = image_shape_of(shape, path.name)
    if column_major:
        raise ValueError(
            f"{path.name}: expected an array that is stored row by row, to read it in parts, got one stored column by "
            "column; save np.ascontiguousarray(x)"
        )
    return Table(
        SlicedMatrix(_NumpyFile(path, (shape[0], int(np.prod(shape[1:]))), dtype, start)), image_shape=image_shape
    )


class _NumpyFile:
    """An array in a .npy file. It is read, not mapped, so that its pages do not count as memory in use."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype, start: int) -> None:
        self.path, self.shape, self.dtype, self.start = path, shape, dtype, start

    def __getitem__(self, rows: slice) -> np.ndarray:
        offset = self.start + rows.start * self.shape[1] * self.dtype.itemsize
        number = (rows.stop - rows.start) * self.shape[1]
        return np.fromfile(self.path, self.dtype, number, offset=offset).reshape(-1, self.shape[1])


class _Flat:
    """Images in zarr, flattened to rows."""

    def __init__(self, array: Any) -> None:
        self.array, self.dtype, self.chunks = array, array.dtype, array.chunks
        self.shape = (array.shape[0], int(np.prod(array.shape[1:])))

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.array[rows].reshape(-1, self.shape[1])


def _annotated(store: Any, where: str, expected: tuple[str, str]) -> Table:
    """Read AnnData from an HDF5 file or a zarr folder, except the matrices, which stay there."""
    io = require("anndata.io", "anndata", "reading AnnData")
    with foreign(where, *expected):
        obs, var = io.read_elem(store["obs"]), io.read_elem(store["var"])
        stored = store.get("layers", {})
        x = _element(io, store["X"]) if "X" in store else None
        layers = {name: _element(io, stored[name]) for name in stored}
        shapes = [(each, tuple(each.shape)) for each in (x, *layers.values()) if each is not None]
    for element, shape in shapes:
        _require_shape(shape, (len(obs), len(var)), where)
        require_stored_by_rows(element, where)
    with foreign(where, *expected):
        return Table(
            None if x is None else annotated_matrix(x),
            tuple(map(str, var.index)),
            side={str(name): obs[name] for name in obs.columns},
            ids=as_values(obs.index),
            layers={name: annotated_matrix(each) for name, each in layers.items()},
        )


def _element(io: Any, element: Any) -> Any:
    return element if hasattr(element, "shape") else io.sparse_dataset(element)


def _require_shape(shape: tuple[int, ...], expected: tuple[int, int], where: str) -> None:
    """Refuse a matrix whose shape differs from the shape that obs and var imply."""
    if shape != expected:
        raise ValueError(
            f"{where}: expected a matrix of {expected[0]} rows x {expected[1]} columns, like obs and var, got one of "
            f"{' x '.join(map(str, shape))}; write it again with anndata"
        )
