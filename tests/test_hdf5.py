"""Damage of HDF5 files that their library reads for ever or falls over: refused before it reads it."""

import re
import struct
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest

from command_line import MATRIX, write
from priory.workbench.data import load_dataset
from priory.workbench.data.reading import hdf5

h5py = pytest.importorskip("h5py")
anndata = pytest.importorskip("anndata")

GLOBAL_HEAP, LOCAL_HEAP = b"GCOL\x01", b"HEAP\x00"
VARYING_TEXT = bytes.fromhex("19010100 10000000")  # a type of UTF-8 text of any length, 16 bytes each
HEADER = 16  # of a global heap, and of each object in it


def text_without_bytes(content: bytearray) -> None:
    """Free space whose size is 0: what damage of one object's size led HDF5 to."""
    first = content.index(GLOBAL_HEAP) + HEADER
    content[first : first + HEADER] = bytes(HEADER)


def text_around_the_numbers(content: bytearray) -> None:
    """A size that makes 0 of 64 bits with the header."""
    size = content.index(GLOBAL_HEAP) + HEADER + 8
    content[size : size + 8] = struct.pack("<Q", 2**64 - HEADER)


def names_in_a_circle(content: bytearray) -> None:
    """A free block among the names that leads to itself."""
    heap = content.index(LOCAL_HEAP)
    _, _, place = struct.unpack_from("<QQQ", content, heap + 8)
    struct.pack_into("<Q", content, heap + 16, 8)
    struct.pack_into("<QQ", content, place + 8, 8, 16)


def no_type(content: bytearray) -> None:
    """What varies in length is a text or a sequence, 1 or 0."""
    content[content.index(VARYING_TEXT) + 1] = 6


DAMAGES = {
    text_without_bytes: "a text that takes no bytes, in the heap at byte ",
    text_around_the_numbers: "a text that takes no bytes, in the heap at byte ",
    names_in_a_circle: "free blocks that lead in a circle, in the heap at byte ",
    no_type: "a type that HDF5 does not have, in '",
}

CHILD = """
import faulthandler, resource, sys
from priory.workbench.data import load_dataset
faulthandler.dump_traceback_later(60, exit=True)
resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000,) * 2)
for path in sys.argv[1:]:
    try:
        load_dataset(path)
    except ValueError as error:
        print(error, flush=True)
"""


def test_what_hdf5_does_not_come_back_from_is_refused(tmp_path):
    """In a process of its own, which ends where ours would not."""
    content = write(tmp_path / "x.h5ad", MATRIX).read_bytes()
    for damage in DAMAGES:
        damaged = bytearray(content)
        damage(damaged)
        (tmp_path / f"{damage.__name__}.h5ad").write_bytes(damaged)
    paths = [str(tmp_path / f"{damage.__name__}.h5ad") for damage in DAMAGES]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *paths], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    for (damage, found), said in zip(DAMAGES.items(), done.stdout.splitlines(), strict=True):
        assert said.startswith(f"{damage.__name__}.h5ad: expected a complete .h5ad file, got a damaged one ({found}")
        assert said.endswith("; write it again with anndata, or fetch it again")


def test_lengths_that_h5py_does_not_write_are_refused(tmp_path):
    access = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_sizes(4, 4)
    h5py.h5f.create(str(tmp_path / "x.h5ad").encode(), fcpl=access).close()
    with pytest.raises(ValueError, match=r"got a damaged one \(places and lengths of \(4, 4\) bytes, not 8\)"):
        load_dataset(tmp_path / "x.h5ad")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("userblock", [0, 512])
def test_whole_files_pass(libver, userblock, tmp_path):
    """Texts of all lengths, some deleted, names that were taken out again, sequences, compounds and references."""
    with h5py.File(tmp_path / "x.h5", "w", libver=libver, userblock_size=userblock) as file:
        texts = file.create_dataset("texts", 2000, h5py.string_dtype())
        texts[:] = ["x" * (i % 37) for i in range(2000)]
        texts[:500] = ["y" * 5000] * 500
        for i in range(50):
            file.create_group(f"a group with a long name {i}")
        for i in range(0, 50, 2):
            del file[f"a group with a long name {i}"]
        sequences = file.create_dataset("sequences", 3, h5py.vlen_dtype(np.int32))
        sequences[:] = [np.arange(i) for i in range(3)]
        row = np.dtype([("name", h5py.string_dtype()), ("values", h5py.vlen_dtype(np.float32)), ("pair", "i4", 2)])
        file.create_dataset("rows", 3, row)
        file.attrs["to"] = file.ref
        file.create_dataset("shortest", 20_000, h5py.string_dtype())[:] = ["x"] * 20_000  # heaps fill the file
    hdf5.check_h5(tmp_path / "x.h5")


def test_heaps_within_an_object_of_a_heap_pass(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.create_dataset("texts", 20_000, h5py.string_dtype())[:] = ["x"] * 20_000
    with h5py.File(tmp_path / "y.h5", "w", libver="latest") as file:
        file.create_dataset("file", 1, h5py.vlen_dtype(np.uint8))[0] = np.fromfile(tmp_path / "x.h5", np.uint8)
    hdf5.check_h5(tmp_path / "y.h5")


def global_heaps_into_one_run(number: int) -> bytes:
    """Headers of heaps whose first object ends at the same small objects."""
    heads = HEADER * 2 * number
    content = b""
    for start in range(0, heads, 2 * HEADER):
        jump = heads - start - 2 * HEADER
        content += GLOBAL_HEAP + bytes(3) + struct.pack("<QH6xQ", heads + HEADER * number - start, 1, jump)
    return content + struct.pack("<H6xQ", 0, HEADER) * number


def local_heaps_into_one_run(number: int) -> bytes:
    """Headers of heaps that have the same free blocks."""
    head = LOCAL_HEAP + bytes(3) + struct.pack("<QQQ", 2**62, 0, 32 * number)
    blocks = [struct.pack("<QQ", HEADER * (i + 1), HEADER) for i in range(number - 1)]
    return head * number + b"".join(blocks) + struct.pack("<QQ", 1, HEADER)


@pytest.mark.parametrize("made", [global_heaps_into_one_run, local_heaps_into_one_run])
def test_heaps_that_lead_into_one_another_are_not_walked_for_each(made, tmp_path, monkeypatch):
    """5 MB of them took hours."""
    path = tmp_path / "x.h5ad"
    path.write_bytes(made(1))
    hdf5._check_heaps(path, (8, 8), 0)
    reads = []
    read = hdf5._Reader.__call__
    monkeypatch.setattr(hdf5._Reader, "__call__", lambda self, *place: reads.append(place) or read(self, *place))
    path.write_bytes(made(1000))
    with pytest.raises(ValueError, match="got a damaged one \\(heaps that lead into one another, at byte"):
        hdf5._check_heaps(path, (8, 8), 0)
    assert len(reads) < path.stat().st_size / 4


@pytest.mark.parametrize("block_bytes", [4, 5, 7, 1000])
def test_heaps_are_found_across_blocks(block_bytes, monkeypatch):
    monkeypatch.setattr(hdf5, "_BLOCK_BYTES", block_bytes)
    content = np.random.default_rng(0).bytes(200).join([GLOBAL_HEAP, LOCAL_HEAP, b"GCOL", b"HEAP\0GCOL\1", b"\0GCOL\1"])
    expected = [(match[0], match.start()) for match in re.finditer(b"GCOL\1|HEAP\0", content)]
    assert len(expected) == 5
    assert sorted(hdf5._places(BytesIO(content)), key=lambda found: found[1]) == expected


def test_a_heap_that_is_cut_off_is_left_to_hdf5(tmp_path):
    content = write(tmp_path / "x.h5ad", MATRIX).read_bytes()
    for end in (content.index(GLOBAL_HEAP) + 5, content.index(GLOBAL_HEAP) + 40, content.index(LOCAL_HEAP) + 5):
        (tmp_path / "x.h5ad").write_bytes(content[:end])
        with pytest.raises(ValueError, match="truncated file"):
            load_dataset(tmp_path / "x.h5ad")
        hdf5._check_heaps(tmp_path / "x.h5ad", (8, 8), 0)
