"""From a file to a table: which reader a file's name calls for, and the readers of plain arrays."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from priory._support.memory import require_memory
from priory.workbench.data.reading.arrays import FEWER, read_array
from priory.workbench.data.reading.foreign import foreign, open_bytes
from priory.workbench.data.reading.h5ad import read_h5ad
from priory.workbench.data.reading.matrices import as_rows
from priory.workbench.data.reading.npz import read_npz
from priory.workbench.data.reading.table import Claims, Table, default_columns
from priory.workbench.data.reading.table_files import MOST_COMPRESSION, read_delimited, read_parquet

FORMATS = (".npy", ".npz", ".csv", ".tsv", ".parquet", ".h5ad", "-ubyte", ".idx")

Reader = Callable[[Path, Claims], Table]

# The types of an IDX file, big-endian, by the third byte of its header (LeCun's description of MNIST).
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 4  # (N, 1, H, W)


def plain_name(path: Path) -> str:
    """The file's name in lower case without '.gz'."""
    return path.name.lower().removesuffix(".gz")


def read_table(path: Path, claims: Claims) -> Table:
    """Read a file of any known format."""
    reader = reader_of(path)
    if claims.layer is not None and reader is not read_h5ad and "layer" not in claims.optional:
        raise ValueError(f"layer: expected an .h5ad file, got {path.name!r}; leave --layer out")
    return reader(path, claims)


def reader_of(path: Path) -> Reader:
    name = plain_name(path)
    by_suffix: dict[str, Reader] = {
        ".npy": read_npy,
        ".npz": read_npz,
        ".csv": read_delimited,
        ".tsv": read_delimited,
        ".parquet": read_parquet,
        ".h5ad": read_h5ad,
    }
    compressed = path.name.lower().endswith(".gz")
    suffix = Path(name).suffix
    if suffix in by_suffix and (not compressed or suffix in {".csv", ".tsv"}):
        return by_suffix[suffix]
    if re.search(r"[-.](idx\d-)?ubyte$|\.idx$", name):
        return read_idx
    raise ValueError(
        f"{path.name}: expected a file whose name ends in {', '.join(FORMATS)} (.csv, .tsv and IDX also with .gz), "
        f"got the ending {path.suffix!r}; convert the file to one of these formats"
    )


def read_npy(path: Path, claims: Claims) -> Table:
    """A matrix, or gray images, as NumPy saves them."""
    matrix, image_shape = as_rows(read_array(path), path.name)
    return Table(matrix, default_columns(matrix.shape[1]), image_shape=image_shape)


def read_idx(path: Path, claims: Claims) -> Table:
    """IDX, MNIST's own format; labels come from the file beside it that has 'labels-idx1' for 'images-idx3'."""
    matrix, image_shape = as_rows(idx_array(path), path.name)
    labels_path = path.with_name(re.sub(r"images([-.])idx\d", r"labels\1idx1", path.name))
    side = {}
    if labels_path != path and labels_path.is_file():
        side["label"] = idx_array(labels_path).astype(np.int64)
        if side["label"].shape != (len(matrix),):
            raise ValueError(
                f"{labels_path.name}: expected {len(matrix)} labels, one an image of {path.name}, "
                f"got shape {side['label'].shape}; move the file away if it belongs to other images"
            )
    return Table(matrix, default_columns(matrix.shape[1]), side, tuple(side), image_shape=image_shape)


def idx_array(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not: two zeros, type, number of axes, lengths, values; big-endian.

    Raises:
        ValueError: it is no such file, or has fewer or more bytes than its header says.
        NotEnoughMemoryError: it would not fit.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with open_bytes(path, zipped=zipped) as file:
        shape, dtype = _idx_header(file, path.name)
        size = dtype.itemsize * prod(shape)
        possible = min(size, path.stat().st_size * (MOST_COMPRESSION if zipped else 1))
        require_memory(possible, path.name, FEWER)
        content = _read(file, possible + 1, path.name)
    if len(content) != size:
        found = "more" if len(content) > size else len(content)
        raise ValueError(
            f"{path.name}: expected {size} bytes of values for shape {shape}, got {found}; fetch the file again"
        )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _idx_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    start = _read(file, 4, name)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES or not 1 <= start[3] <= _MOST_AXES:
        raise ValueError(
            f"{name}: expected an IDX file, got a header of {start!r}; fetch the file again, or see docs/data.md"
        )
    lengths = _read(file, 4 * start[3], name)
    if len(lengths) < 4 * start[3]:
        raise ValueError(f"{name}: expected a header of {4 + 4 * start[3]} bytes, got fewer; fetch the file again")
    return struct.unpack(f">{start[3]}I", lengths), np.dtype(_IDX_TYPES[start[2]])


def _read(file: IO[bytes], size: int, name: str) -> bytes:
    with foreign(name, "a complete IDX file", "fetch the file again"):
        return file.read(size)
