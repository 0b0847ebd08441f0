"""HDF5 files, looked through before their values are read: damage that the library would not come back from, and links.

HDF5 follows lists in its files by what they say, up to 2.0 at least: over the objects of a global heap (texts of any
length) by their sizes, over the free blocks of a local heap (names) by the place of the next. A size of nothing, or a
block that leads back, and it goes on for ever, in C, where Python hears no signal, or until no memory is left. A few
bytes of a valid file are enough for either, so both are walked here first. Objects and free blocks take 16 bytes each
and no two of them overlap, so a file has room for so many: heaps that lead to more, all into the same, are refused too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from priory._support.memory import require_memory
from priory._support.optional import require
from priory.workbench.data.reading.arrays import FEWER
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.table import listed

H5AD = ("a complete .h5ad file", "write it again with anndata, or fetch it again")

# HDF5 File Format Specification 3.0, III.D and III.E. Signatures with the version; numbers are little-endian.
_GLOBAL_HEAP, _LOCAL_HEAP = b"GCOL\x01", b"HEAP\x00"
_SIZE = struct.Struct("<8xQ")  # of a global heap
_OBJECT = struct.Struct("<H6xQ")  # of a global heap: index, 0 for free space, and size
_NAMES = struct.Struct("<8xQQQ")  # a local heap: size of its data, first free block, place of its data
_FREE = struct.Struct("<Q")  # a free block: the next one
_LAST_FREE = 1
_LENGTH_BYTES = 8  # of a size in the file; HDF5 can write others, h5py does not
_BYTES_A_STEP = 8  # half of what an object takes: what deleted heaps have left may lead into others
_BLOCK_BYTES = 1 << 20
_SEQUENCE = 0  # a kind of what varies in length, beside text


def check_h5(path: Path) -> None:
    """Refuse a file that HDF5 would read for ever, claims more than fits, or names others to take its values from.

    Raises:
        ValueError: it is no HDF5 file, is damaged, or links to other files.
        NotEnoughMemoryError: it would not fit.
    """
    h5py = require("h5py", "anndata", "reading .h5ad files")
    with foreign(path.name, *H5AD), h5py.File(path, "r") as file:  # which reads no heap
        lengths, base = file.id.get_create_plist().get_sizes(), file.userblock_size
    _check_heaps(path, lengths, base)
    _check_content(path, h5py)


def _check_heaps(path: Path, lengths: tuple[int, int], base: int) -> None:
    if set(lengths) != {_LENGTH_BYTES}:
        raise _damaged(path, f"places and lengths of {lengths} bytes, not {_LENGTH_BYTES}")
    with path.open("rb") as file:
        reader = _Reader(path, file)
        for signature, place in _places(file):
            if signature == _GLOBAL_HEAP and _is_endless(reader, place):
                raise _damaged(path, f"a text that takes no bytes, in the heap at byte {place}")
            if signature == _LOCAL_HEAP and _is_cyclic(reader, place, base):
                raise _damaged(path, f"free blocks that lead in a circle, in the heap at byte {place}")


def _damaged(path: Path, found: str) -> ValueError:
    return ValueError(f"{path.name}: expected {H5AD[0]}, got a damaged one ({found}); {H5AD[1]}")


class _Reader:
    """Numbers from anywhere in a file, None behind its end."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        self.size = path.stat().st_size
        self._steps = self.size // _BYTES_A_STEP  # of all walks together

    def __call__(self, form: struct.Struct, place: int) -> tuple[int, ...] | None:
        if place + form.size > self.size:
            return None
        self._file.seek(place)
        content = self._file.read(form.size)
        return form.unpack(content) if len(content) == form.size else None

    def step(self, form: struct.Struct, place: int) -> tuple[int, ...] | None:
        """The same for what a heap leads to.

        Raises:
            ValueError: heaps have led to more than the file has room for, so the next ones could do so for hours.
        """
        self._steps -= 1
        if self._steps < 0:
            raise _damaged(self._path, f"heaps that lead into one another, at byte {place}")
        return self(form, place)


def _places(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Where heaps may be: five bytes of other data look like one once in 10^12, and then hardly lead on."""
    start, kept = 0, b""
    while block := _block_at(file, start):
        known = kept + block
        for signature in (_GLOBAL_HEAP, _LOCAL_HEAP):
            found = known.find(signature)
            while found >= 0:
                yield signature, start - len(kept) + found
                found = known.find(signature, found + 1)
        start += len(block)
        kept = known[1 - len(_GLOBAL_HEAP) :]


def _block_at(file: IO[bytes], place: int) -> bytes:
    file.seek(place)  # whoever takes the places reads elsewhere
    return file.read(_BLOCK_BYTES)


def _is_endless(read: _Reader, start: int) -> bool:
    """Would HDF5 find the same object again behind an object of this global heap?"""
    header = read(_SIZE, start)
    if header is None or start + header[0] > read.size:
        return False  # HDF5 refuses it
    end, place = start + header[0], start + _OBJECT.size
    while place + _OBJECT.size <= end and (found := read.step(_OBJECT, place)):
        index, size = found
        step = (_OBJECT.size + _aligned(size)) % 2**64 if index else size  # free space counts its header
        if not step:
            return True
        place += step
    return False


def _aligned(size: int) -> int:
    """As HDF5 computes it, in 64 bits."""
    return (size + 7) % 2**64 // 8 * 8


def _is_cyclic(read: _Reader, start: int, base: int) -> bool:
    """Does a free block of this local heap lead to an earlier one?"""
    header = read(_NAMES, start)
    if header is None:
        return False
    size, block, place = header
    seen: set[int] = set()
    while block != _LAST_FREE and block < size:
        if block in seen:
            return True
        seen.add(block)
        found = read.step(_FREE, base + place + block)
        if found is None:
            return False
        (block,) = found
    return False


def _check_content(path: Path, h5py: Any) -> None:
    outside: list[str] = []
    unsound: list[str] = []
    sizes: list[int] = []

    def look(name: str, node: Any) -> None:
        kinds = [node.attrs.get_id(key).get_type() for key in node.attrs]
        if isinstance(node, h5py.Dataset):
            kinds.append(node.id.get_type())
            sizes.append(node.size * node.dtype.itemsize if node.size else 0)
            if node.is_virtual or node.external:
                outside.append(name)
        if not all(_is_sound(kind, h5py) for kind in kinds):
            unsound.append(name)

    def look_at_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            outside.append(name)

    with foreign(path.name, *H5AD), h5py.File(path, "r") as file:
        file.visititems_links(look_at_link)
        look("/", file)
        file.visititems(look)
    if outside:
        raise ValueError(
            f"{path.name}: expected an .h5ad file that holds its values, got links to other files ({listed(outside)}); "
            "write it again with anndata"
        )
    if unsound:
        raise _damaged(path, f"a type that HDF5 does not have, in {listed(unsound)}")
    require_memory(sum(sizes), path.name, FEWER)


def _is_sound(kind: Any, h5py: Any) -> bool:
    """HDF5 up to 2.0 takes any type of what varies in length, and falls over those that there are not (its #6395)."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        return all(_is_sound(kind.get_member_type(i), h5py) for i in range(kind.get_nmembers()))
    if isinstance(kind, h5py.h5t.TypeArrayID):
        return _is_sound(kind.get_super(), h5py)
    if isinstance(kind, h5py.h5t.TypeVlenID):  # text is another class
        return kind.encode()[3] & 15 == _SEQUENCE and _is_sound(kind.get_super(), h5py)
    return True
