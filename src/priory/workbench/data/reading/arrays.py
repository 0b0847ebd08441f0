"""NumPy files: arrays of numbers or text. Each header is checked before its values are read.

Arrays of Python objects are refused: they are pickles, and reading a pickle runs its code. NumPy allocates the size in
the header before it notices that the file is shorter.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from priory._support.memory import require_memory
from priory.workbench.data.reading.foreign import foreign

Arrays = dict[str, np.ndarray]

_ARRAY = ("a complete NumPy array", "save it again with numpy.save, or fetch it again")
_ARCHIVE = ("a complete .npz archive", "write it again with numpy.savez, or fetch it again")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class ObjectsError(ValueError):
    """An array of Python objects."""


def read_array(path: Path) -> np.ndarray:
    """Read a `.npy` file."""
    with path.open("rb") as file:
        _check_header(file, path.stat().st_size, path.name)
        file.seek(0)
        return _content(file, path.name)


def header_of(path: Path) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, whether the order is by columns, dtype and offset of the values of a `.npy` file."""
    with path.open("rb") as file:
        shape, column_major, dtype = _check_header(file, path.stat().st_size, path.name)
        return shape, column_major, dtype, file.tell()


def read_arrays(path: Path, is_needed: Callable[[str], bool] = lambda name: True) -> Arrays:
    """Read the arrays of an `.npz` archive in memory, without unpacking it to files.

    An array of Python objects raises an error if it is needed; otherwise it is left out.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected an .npz archive, got no regular file; put the file back")
    with foreign(path.name, *_ARCHIVE):
        archive = zipfile.ZipFile(path)
    with archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        require_memory(sum(member.file_size for member in members), path.name)
        arrays: Arrays = {}
        for member in members:
            key = member.filename.removesuffix(".npy")
            what = f"{path.name}, array {key!r}"
            with foreign(what, *_ARCHIVE):
                header, content = archive.open(member), archive.open(member)
            try:
                with header, content:
                    _check_header(header, member.file_size, what)
                    arrays[key] = _content(content, what)
            except ObjectsError:
                if is_needed(key):
                    raise
    return arrays


def _check_header(file: IO[bytes], size: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header; refuse Python objects, and a header that contradicts the size of the file."""
    with foreign(what, *_ARRAY):
        version = np.lib.format.read_magic(file)
        shape, column_major, dtype = _HEADERS[version](file)
        start = file.tell()
    if dtype.hasobject:
        raise ObjectsError(
            f"{what}: expected numbers, got Python objects (dtype object), which priory never reads because "
            "unpickling can run any code; save numbers, for example np.save(path, x.astype('float32'))"
        )
    expected = start + prod(shape) * dtype.itemsize
    if size != expected or min(shape, default=0) < 0:
        raise ValueError(
            f"{what}: expected a complete NumPy file of {expected} bytes for values of shape {shape} ({dtype}), got "
            f"{size}: it is damaged; save it again, or fetch it again"
        )
    return shape, column_major, dtype


def _content(file: IO[bytes], what: str) -> np.ndarray:
    with foreign(what, *_ARRAY):
        return np.lib.format.read_array(file, allow_pickle=False)
