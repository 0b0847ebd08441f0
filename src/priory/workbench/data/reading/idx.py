"""IDX files, the format of MNIST."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from priory._support.memory import require_memory
from priory.workbench.data.reading.foreign import foreign, open_bytes
from priory.workbench.data.reading.matrices import as_rows
from priory.workbench.data.reading.table import Table

# The types of an IDX file, big-endian, by the third byte of its header (LeCun's description of MNIST).
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_COMPRESSION = 1032  # the maximum ratio of deflate, which gzip uses


def read_idx(path: Path, as_written: Collection[str]) -> Table:
    """Read IDX; labels come from the file in the same folder with 'labels-idx1' for 'images-idx3' in its name."""
    matrix, image_shape = as_rows(_array(path), path.name)
    labels_path = path.with_name(re.sub(r"images([-.])idx\d", r"labels\1idx1", path.name))
    side = {}
    if labels_path != path and labels_path.is_file():
        side["label"] = _array(labels_path).astype(np.int64)
        if side["label"].shape != (len(matrix),):
            raise ValueError(
                f"{labels_path.name}: expected {len(matrix)} labels, one an image of {path.name}, "
                f"got shape {side['label'].shape}; move the file away if it belongs to other images"
            )
    return Table(matrix, side=side, default_labels=tuple(side), image_shape=image_shape)


def _array(path: Path) -> np.ndarray:
    """Read the array of an IDX file, gzipped or not: two zeros, type, number of axes, lengths, values; big-endian."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with open_bytes(path, zipped=zipped) as file:
        shape, dtype = _header(file, path.name)
        size = dtype.itemsize * prod(shape)
        possible = min(size, path.stat().st_size * (_MOST_COMPRESSION if zipped else 1))
        require_memory(possible, path.name)
        content = _read(file, possible + 1, path.name)
    if len(content) != size:
        number = "more" if len(content) > size else len(content)
        raise ValueError(
            f"{path.name}: expected {size} bytes of values for shape {shape}, got {number}; fetch the file again"
        )
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    start = _read(file, 4, name)  # at most four axes: (N, 1, H, W)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not 1 <= start[3] <= 4:
        raise ValueError(
            f"{name}: expected an IDX file, got a header of {start!r}; fetch the file again, or see docs/data.md"
        )
    lengths = _read(file, 4 * start[3], name)
    if len(lengths) < 4 * start[3]:
        raise ValueError(f"{name}: expected a header of {4 + 4 * start[3]} bytes, got fewer; fetch the file again")
    return struct.unpack(f">{start[3]}I", lengths), np.dtype(_TYPES[start[2]])


def _read(file: IO[bytes], size: int, name: str) -> bytes:
    with foreign(name, "a complete IDX file", "fetch the file again"):
        return file.read(size)
