"""From a file to a table: which reader a file's name calls for, and the readers of plain arrays."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from priory.datasets.matrices import as_rows
from priory.datasets.npz import no_objects, read_npz
from priory.datasets.table import Claims, Table, default_columns
from priory.datasets.table_files import read_delimited, read_h5ad, read_parquet

FORMATS = (".npy", ".npz", ".csv", ".tsv", ".parquet", ".h5ad", "-ubyte", ".idx")

Reader = Callable[[Path, Claims], Table]

# The types of an IDX file, big-endian, by the third byte of its header (LeCun's description of MNIST).
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def plain_name(path: Path) -> str:
    """The file's name in lower case without '.gz'."""
    return path.name.lower().removesuffix(".gz")


def read_table(path: Path, claims: Claims) -> Table:
    """Read a file of any known format."""
    reader = reader_of(path)
    if claims.layer is not None and reader is not read_h5ad and "layer" not in claims.optional:
        raise ValueError(f"layer: expected an .h5ad file, got {path.name!r}; leave --layer out")
    try:
        return reader(path, claims)
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path.name}: expected a complete file, got one that ends early ({error})") from None


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
    """A matrix, or grey images, as NumPy saves them."""
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ValueError(f"{path.name}: expected a NumPy array, got other content; write it with numpy.save")
        file.seek(0)
        with no_objects(path.name):
            array = np.lib.format.read_array(file, allow_pickle=False)
    matrix, image_shape = as_rows(array, path.name)
    return Table(matrix, default_columns(matrix.shape[1]), image_shape=image_shape)


def read_idx(path: Path, claims: Claims) -> Table:
    """IDX, MNIST's own format; labels come from the file beside it that has 'labels-idx1' for 'images-idx3'."""
    matrix, image_shape = as_rows(idx_array(path), path.name)
    labels_path = path.with_name(re.sub(r"images([-.])idx\d", r"labels\1idx1", path.name))
    side = {}
    if labels_path != path and labels_path.exists():
        side["label"] = idx_array(labels_path).astype(np.int64)
        if side["label"].shape != (len(matrix),):
            raise ValueError(
                f"{labels_path.name}: expected {len(matrix)} labels, one an image of {path.name}, "
                f"got shape {side['label'].shape}; move the file away if it belongs to other images"
            )
    return Table(matrix, default_columns(matrix.shape[1]), side, tuple(side), image_shape=image_shape)


def idx_array(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not: two zeros, type, number of axes, lengths, values; big-endian."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{path.name}: expected an IDX file, got a header of {content[:4]!r}; see docs/data.md")
    axes, dtype = content[3], np.dtype(_IDX_TYPES[content[2]])
    start = 4 + 4 * axes
    if len(content) < start:
        raise ValueError(f"{path.name}: expected a header of {start} bytes, got {len(content)}; fetch the file again")
    shape = struct.unpack(f">{axes}I", content[4:start])
    expected = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if len(content) != expected:
        raise ValueError(
            f"{path.name}: expected {expected} bytes for shape {shape}, got {len(content)}; fetch the file again"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
