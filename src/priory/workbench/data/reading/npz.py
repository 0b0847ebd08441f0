"""`.npz` archives: one matrix, named splits, bit-packed rows, sparse matrices."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from priory._support.optional import require
from priory.workbench.data.reading.arrays import Arrays, read_arrays
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.matrices import Matrix, as_rows
from priory.workbench.data.reading.table import Table, listed
from priory.workbench.data.splits import SPLITS, consecutive

_SPLIT_NAMES = {"train": "train", "test": "test"} | dict.fromkeys(("valid", "validation", "val", "dev"), "valid")
_LABEL_KEYS = ("label", "labels", "y", "target")
_COLUMN_KEYS = ("columns", "feature_names", "var_names", "gene_names")
_ID_KEYS = ("ids", "obs_names")
_CSR_KEYS = {"data", "indices", "indptr"}
# A wider 2-D array next to the matrix is another data set, not a few label columns.
_MOST_SIDE_COLUMNS = 20


def read_npz(path: Path, as_written: Collection[str]) -> Table:
    """Read one matrix (or `x` with `y`), `*_x` splits, scipy's sparse format, or CSR parts with `matrix_shape`."""
    arrays = read_arrays(path, is_needed=_is_needed)
    if {"format", "shape", "data"} <= arrays.keys():
        return _scipy_table(arrays, path.name)
    if arrays.keys() >= _CSR_KEYS:
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        matrix = _sparse_matrix("csr", parts, _sparse_shape(arrays, path.name), path.name)
        rest = {key: a for key, a in arrays.items() if key not in {*_CSR_KEYS, "matrix_shape", "shape"}}
        return _with_side(matrix, None, rest, path.name)
    by_split = _by_split(arrays)
    if any("x" in part for part in by_split.values()):
        return _split_table(by_split, arrays, path.name)
    return _single_table(arrays, path.name)


def _is_needed(key: str) -> bool:
    return not {"x", "data", "arr", *_LABEL_KEYS}.isdisjoint(key.lower().split("_")) or key in _ID_KEYS


def _scipy_table(arrays: Arrays, name: str) -> Table:
    """Read the output of `scipy.sparse.save_npz`: csr, csc, bsr, coo or dia."""
    kind = str(arrays["format"].astype(str)) if arrays["format"].ndim == 0 else "?"
    parts = {"coo": ("row", "col"), "dia": ("offsets",)}.get(kind, ("indices", "indptr"))
    shape = _sparse_shape(arrays, name)
    if kind not in ("csr", "csc", "bsr", "coo", "dia") or not arrays.keys() >= set(parts):
        raise ValueError(
            f"{name}: expected the output of scipy.sparse.save_npz, got {listed(arrays)}; write it with that function"
        )
    indices = [arrays[part] for part in parts]
    content = (arrays["data"], tuple(indices)) if kind == "coo" else (arrays["data"], *indices)
    return Table(_sparse_matrix(kind, content, shape, name))


def _sparse_matrix(kind: str, content: tuple[Any, ...], shape: tuple[int, int], name: str) -> Matrix:
    sparse = require("scipy.sparse", "tables", "reading a sparse matrix")
    with foreign(name, "the parts of a sparse matrix that fit each other", "write it with scipy.sparse.save_npz"):
        return getattr(sparse, f"{kind}_matrix")(content, shape=shape)


def _sparse_shape(arrays: Arrays, name: str) -> tuple[int, int]:
    shape = arrays.get("matrix_shape", arrays.get("shape"))
    if shape is None or shape.shape != (2,) or shape.dtype.kind not in "iu" or not (shape > 0).all():
        raise ValueError(
            f"{name}: expected an array 'matrix_shape' (rows, columns) beside data, indices and indptr, "
            f"got {listed(arrays)}; or write the file with scipy.sparse.save_npz"
        )
    return int(shape[0]), int(shape[1])


def _by_split(arrays: Arrays) -> dict[str, Arrays]:
    """Group arrays by names such as train_x, x_train, val_y: {'train': {'x': ..., 'y': ...}, ...}."""
    by_split: dict[str, Arrays] = {}
    for key, array in arrays.items():
        for split, canonical in _SPLIT_NAMES.items():
            if match := re.fullmatch(rf"{split}_(.+)|(.+)_{split}", key, flags=re.IGNORECASE):
                what = match[1] or match[2]
                by_split.setdefault(canonical, {})["x" if what in {"X", "x"} else what] = array
    return by_split


def _split_table(by_split: dict[str, Arrays], arrays: Arrays, name: str) -> Table:
    parts = {split: by_split[split] for split in SPLITS if "x" in by_split.get(split, {})}
    unpacked = {split: _images(part["x"], arrays, f"{name}, {split}_x") for split, part in parts.items()}
    widths = {split: matrix.shape[1] for split, (matrix, _) in unpacked.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"{name}: expected the same number of columns in all splits, got {widths}")
    lengths = {split: len(matrix) for split, (matrix, _) in unpacked.items()}
    matrix = np.concatenate([matrix for matrix, _ in unpacked.values()])
    side = _joined_side(parts, lengths, name)
    ids = np.array([f"{split}-{i}" for split, length in lengths.items() for i in range(length)])
    image_shape = next(iter(unpacked.values()))[1]
    columns = _column_names(arrays, matrix.shape[1])
    return Table(matrix, columns, side, _default_labels(side), ids, consecutive(lengths), image_shape)


def _joined_side(parts: dict[str, Arrays], lengths: dict[str, int], name: str) -> Arrays:
    """Join `train_y`, `valid_y`, ... into one column `y`."""
    side: Arrays = {}
    for key in dict.fromkeys(key for part in parts.values() for key in part if key != "x"):
        if missing := [split for split in parts if key not in parts[split]]:
            raise ValueError(f"{name}: expected {key!r} for all splits, got none for {', '.join(missing)}; add it")
        for split, length in lengths.items():
            _check_length(parts[split][key], length, f"{name}, {split}_{key}")
        side |= _as_columns(key, np.concatenate([part[key] for part in parts.values()]))
    return side


def _single_table(arrays: Arrays, name: str) -> Table:
    chosen = [key for key in arrays if key in {"x", "X"}]
    if not chosen:
        matrices = (key for key, a in arrays.items() if a.ndim >= 2 and a.dtype.kind in "biuf")
        chosen = [key for key in matrices if key.lower() not in _LABEL_KEYS]
    if len(chosen) != 1:
        shapes = ", ".join(f"{key} {a.shape}" for key, a in arrays.items()) or "nothing"
        raise ValueError(
            f"{name}: expected one matrix, or splits named train_x, valid_x, test_x (with train_y, ... for labels), "
            f"got {shapes}; name the matrix x, or save it in a file of its own"
        )
    matrix, image_shape = _images(arrays[chosen[0]], arrays, f"{name}, {chosen[0]}")
    rest = {key: a for key, a in arrays.items() if key != chosen[0]}
    return _with_side(matrix, image_shape, rest, name)


def _with_side(matrix: Matrix, image_shape: tuple[int, int] | None, rest: Arrays, name: str) -> Table:
    """Make a table without splits; arrays with one value per row become side columns."""
    rows = matrix.shape[0]
    side: Arrays = {}
    ids = next((rest[key] for key in _ID_KEYS if key in rest), None)
    if ids is not None:
        _check_length(ids, rows, f"{name}, ids")
    for key, array in rest.items():
        if key.lower() in _LABEL_KEYS:
            _check_length(array, rows, f"{name}, {key}")
        if key not in {*_ID_KEYS, *_COLUMN_KEYS, "width", "shape"} and array.ndim and len(array) == rows:
            side |= _as_columns(key, array)
    columns = _column_names(rest, matrix.shape[1])
    return Table(matrix, columns, side, _default_labels(side), ids, image_shape=image_shape)


def _images(array: np.ndarray, arrays: Arrays, what: str) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Unpack packed bits and flatten images; an array `shape` contains the height and width of a row's image."""
    width = int(arrays["width"]) if "width" in arrays and arrays["width"].size == 1 else None
    packed = width is not None and array.ndim == 2 and array.dtype == np.uint8 and array.shape[1] != width
    if packed and width is not None and array.shape[1] == -(-width // 8):
        array = np.unpackbits(array, axis=1, count=width)
    matrix, image_shape = as_rows(array, what)
    shape = arrays.get("shape")
    if image_shape is None and shape is not None and shape.shape == (2,) and np.prod(shape) == matrix.shape[1]:
        image_shape = (int(shape[0]), int(shape[1]))
    return matrix, image_shape


def _as_columns(key: str, array: np.ndarray) -> Arrays:
    """Split an array into columns: a 1-D array is one; a narrow 2-D array becomes fractions_0, fractions_1, ..."""
    if array.ndim == 1 or array.shape[1:] == (1,):
        return {key: array.reshape(-1)}
    if array.ndim == 2 and array.shape[1] <= _MOST_SIDE_COLUMNS:
        return {f"{key}_{i}": array[:, i] for i in range(array.shape[1])}
    return {}


def _default_labels(side: Arrays) -> tuple[str, ...]:
    """Return side columns that have the name of a label, then all other columns of integers or text."""
    named = [key for key in side if key.lower() in _LABEL_KEYS]
    discrete = [key for key, a in side.items() if key not in named and a.dtype.kind in "iubUS"]
    return (*named, *discrete)


def _column_names(arrays: Arrays, count: int) -> tuple[str, ...] | None:
    for key in _COLUMN_KEYS:
        if key in arrays and arrays[key].shape == (count,) and arrays[key].dtype.kind == "U":
            return tuple(map(str, arrays[key]))
    return None


def _check_length(array: np.ndarray, rows: int, what: str) -> None:
    if array.ndim == 0 or len(array) != rows:
        raise ValueError(
            f"{what}: expected {rows} values, one a row, got shape {array.shape}; correct or remove the array"
        )
