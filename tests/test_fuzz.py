"""Damaged files: every reader, and the reader of configurations, returns data or raises an error of ours.

The quick tests draw a few hundred files; the slow ones run in a process with little memory. There are no damaged .h5ad
files: HDF5 reads some of them for ever, or crashes.
"""

import gzip
import json
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from command_line import MATRIX, write
from priory.training import History
from priory.training.states import read_state, write_state
from priory.workbench.data import load_dataset, read_arrays, require_complete
from priory.workbench.runs.vae_run import Config, Run
from priory.workbench.settings.base import checked, with_options
from priory.workbench.settings.run import RunSettings

DAMAGED = ("csv", "tsv", "csv.gz", "npy", "npz", "parquet", "idx", "idx.gz")
DEADLINE = 60_000  # milliseconds: other processes may use the machine too
FIXED = {"suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}
quick = settings(max_examples=25, deadline=DEADLINE, **FIXED)
Change = Callable[[bytes], bytes]


@st.composite
def mutations(draw: st.DrawFn, size: int) -> Change:
    """Return the content with a few bytes flipped, cut out, doubled, moved or overwritten."""
    at, other = draw(st.integers(0, size)), draw(st.integers(0, size))
    low, high = sorted((at, other))
    noise = draw(st.binary(min_size=1, max_size=8))
    kind = draw(st.sampled_from(("flip", "overwrite", "cut", "truncate", "double", "splice", "number")))
    number = draw(st.sampled_from((0, 1, 255, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1)))
    return {
        "flip": lambda b: b[:at] + bytes(c ^ 255 for c in b[at : at + 1]) + b[at + 1 :],
        "overwrite": lambda b: b[:at] + noise + b[at + len(noise) :],
        "cut": lambda b: b[:low] + b[high:],
        "truncate": lambda b: b[:at],
        "double": lambda b: b[:high] + b[low:],
        "splice": lambda b: b[:low] + noise + b[low:],
        "number": lambda b: b[:at] + struct.pack("<Q", number) + b[at + 8 :],
    }[kind]


def valid_files(folder: Path) -> dict[str, bytes]:
    """Return one small file of each format and of each sparse format."""
    files = {ending: write(folder / f"x.{ending}", MATRIX).read_bytes() for ending in DAMAGED if ending != "idx.gz"}
    files["idx.gz"] = gzip.compress(files["idx"])
    counts = sparse.random(30, 20, 0.2, format="csr", random_state=0)
    for kind in SPARSE:
        sparse.save_npz(folder / f"{kind}.npz", counts.asformat(kind))
        files[f"{kind}.npz"] = (folder / f"{kind}.npz").read_bytes()
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    return valid_files(tmp_path_factory.mktemp("valid"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def error_of(read: Callable[..., object], *arguments: object) -> str | None:
    """Return the message of a reader's own error, or None if there is no error; other errors are raised."""
    try:
        read(*arguments)
    except UnicodeError:  # a ValueError, but not an error of this package
        raise
    except (ValueError, OSError) as error:
        return str(error)
    return None


def use(path: Path) -> None:
    data = load_dataset(path)
    data.summary()
    require_complete(data)
    data.all_rows().tensor()


def look(path: Path, content: bytes) -> None:
    """Read a file; an error must be one of this package, in one line that names the file."""
    path.write_bytes(content)
    message = error_of(use, path) or path.name
    assert path.name in message or "columns" in message or "rows" in message, message
    assert "\n" not in message


SPARSE = ("csr", "csc", "coo", "bsr", "dia")


def name_of(kind: str) -> str:
    first, _, rest = kind.partition(".")
    return f"x.{rest if first in SPARSE else kind}"


@pytest.mark.parametrize("ending", [*DAMAGED, "h5ad"])
def test_files_of_random_bytes_are_read_or_refused(ending, place):
    @quick
    @given(st.binary(max_size=300))
    def check(content: bytes) -> None:
        look(place / f"x.{ending}", content)

    check()


KINDS = (*DAMAGED, *(f"{kind}.npz" for kind in SPARSE))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind, files, place):
    content = files[kind]

    @quick
    @given(st.lists(mutations(len(content)), min_size=1, max_size=3))
    def check(changes: list[Change]) -> None:
        damaged = content
        for change in changes:
            damaged = change(damaged)
        look(place / name_of(kind), damaged)

    check()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("npz")])
def test_damaged_archives_with_correct_checksums_are_read_or_refused(kind, files, place):
    """Flipped bytes alone would fail the checks of checksums."""
    with zipfile.ZipFile(BytesIO(files[kind])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sizes = {name: len(content) for name, content in members.items()}

    @quick
    @given(st.sampled_from(sorted(sizes)).flatmap(lambda name: st.tuples(st.just(name), mutations(sizes[name]))))
    def check(choice: tuple[str, Change]) -> None:
        name, change = choice
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for other, content in members.items():
                archive.writestr(other, change(content) if other == name else content)
        look(place / "x.npz", buffer.getvalue())

    check()


cells = st.one_of(
    st.floats(allow_nan=True).map(str),
    st.integers().map(str),
    st.sampled_from(
        ["", "NA", "nan", "inf", "-", '"', '""', '"a,b"', "\0", "\ufeff", "é", "1e999", "0x10", "1_000", "#", "\\"]
    ),
    st.text(max_size=6),
)


@quick
@given(
    st.lists(st.lists(cells, max_size=5), max_size=14),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_random_tables_of_text_are_read_or_refused(place, rows, delimiter, newline):
    text = newline.join(delimiter.join(row) for row in rows)
    look(place / "x.csv", text.encode("utf-8", "replace"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


def paths(tree: dict[str, object], *parents: str) -> list[tuple[str, ...]]:
    """Return the paths of all branches and leaves of a tree."""
    result: list[tuple[str, ...]] = []
    for name, value in tree.items():
        result.append((*parents, name))
        result += paths(value, *parents, name) if isinstance(value, dict) else []
    return result


CONFIG = {
    "priory": "0",
    "settings": RunSettings().model_dump(mode="json"),
    "facts": {"num_inputs": 3, "num_rows": 9, "num_train_rows": 9, "image_shape": None},
    "columns": ["a", "b", "c"],
    "constants": {},
    "binarize_scale": None,
}


NAMES = [".".join(path) for path in paths(RunSettings().model_dump())]


@settings(max_examples=300, deadline=DEADLINE, **FIXED)
@given(st.sampled_from(paths(CONFIG)), json_values, st.booleans())
def test_random_configurations_are_read_or_refused(place, path, value, rename):
    tree = json.loads(json.dumps(CONFIG))
    *parents, name = path
    branch = tree
    for parent in parents:
        branch = branch[parent]
    if rename:
        branch[str(value)[:20]] = branch.pop(name)
    else:
        branch[name] = value
    (place / "config.json").write_text(json.dumps(tree))
    message = error_of(Run.open, place) or str(place / "config.json")
    assert message.startswith(str(place / "config.json"))
    assert len(message) < 1500


@quick
@given(st.binary(max_size=100) | json_values.map(lambda tree: json.dumps(tree).encode()))
def test_random_bytes_as_a_configuration_are_refused(place, content):
    (place / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        Run.open(place)


@quick
@given(json_values)
def test_random_trees_of_settings_are_read_or_refused(tree):
    for kind in (Config, RunSettings):
        assert (error_of(checked, kind, tree, "here") or "here: ").startswith("here: ")


@quick
@given(
    st.sampled_from([".".join(path) for path in paths(RunSettings().model_dump())]) | st.text(max_size=12),
    st.text(max_size=12),
)
def test_random_assignments_are_read_or_refused(name, value):
    message = error_of(with_options, RunSettings(), {}, [f"{name}={value}"]) or "--set"
    assert "settings: " in message or "--set" in message


def test_damaged_states_splits_and_histories_are_read_or_refused(place):
    write_state(place / "s.safetensors", {"a": {"b": a_tensor()}, "c": [1, 2.5, "x"]})
    np.savez_compressed(place / "splits.npz", train=np.arange(5), valid=np.arange(2), test=np.arange(3))
    (place / "history.csv").write_text("epoch,train_elbo\n0,1.0\n")
    readers = {"s.safetensors": read_state, "splits.npz": read_arrays, "history.csv": History.read}
    for name, reader in readers.items():
        content = (place / name).read_bytes()

        @quick
        @given(mutations(len(content)) | st.binary(max_size=200).map(lambda noise: lambda b: noise))
        def check(change: Change) -> None:
            damaged = place / f"damaged-{name}"  # noqa: B023 (called in the loop)
            damaged.write_bytes(change(content))  # noqa: B023
            assert name in (error_of(reader, damaged) or name)  # noqa: B023

        check()


def a_tensor():
    import torch

    return torch.arange(6.0)


def test_headers_of_many_equal_names_are_read_quickly(place):
    names = ",".join(["a"] * 30_000)
    values = ",".join(["1"] * 30_000)
    (place / "x.csv").write_text(f"{names}\n{values}\n")
    assert load_dataset(place / "x.csv").columns[-1] == "a.29999"


# --- in a process with little memory ----------------------------------------------------------------------------------

LIMITED = """
import faulthandler, random, resource, signal, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_fuzz
place = Path({place!r})
files = test_fuzz.valid_files(place)
for kind, content in files.items():                      # libraries are loaded before memory becomes scarce
    test_fuzz.look(place / test_fuzz.name_of(kind), content)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 600_000_000,) * 2)
faulthandler.enable()
faulthandler.register(signal.SIGALRM, chain=True)        # says where, even from within a library's loop, and ends
generator = random.Random({seed})
deadline = time.monotonic() + {seconds}
numbers = [0, 2**31 - 1, 2**32, 2**63 - 1, 2**64 - 1]
number = 0
while time.monotonic() < deadline:
    kind = generator.choice(test_fuzz.KINDS)
    damaged = bytearray(files[kind])
    for _ in range(generator.choice([1, 1, 2, 4, 16])):
        at = generator.randrange(len(damaged) + 1)
        how = generator.randrange(5)
        if how == 0: damaged[at:at + 1] = bytes([generator.randrange(256)])
        if how == 1: del damaged[at:at + generator.randrange(64)]
        if how == 2: damaged[at:at] = damaged[at:at + generator.randrange(64)]
        if how == 3: damaged[at:at + 8] = generator.choice(numbers).to_bytes(8, "little")
        if how == 4: damaged[at:at + 4] = generator.randbytes(4)
        damaged = damaged or bytearray(b"x")
    (place / "current").write_text(kind)
    (place / "last").write_bytes(damaged)
    signal.alarm({longest})                              # for the last one, the process's end is in it
    test_fuzz.look(place / test_fuzz.name_of(kind), bytes(damaged))
    number += 1
print(number, "files")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_damaged_files_cause_neither_hang_nor_crash(seed, tmp_path):
    """Thousands of damaged files in a process with 600 MB cause no other error, no hang and no crash."""
    if not Path("/proc/self/statm").exists() or not hasattr(resource, "RLIMIT_AS"):
        pytest.skip("the limit is Linux's")
    code = LIMITED.format(tests=str(Path(__file__).parent), place=str(tmp_path), seed=seed, seconds=60, longest=20)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    read = f"{(tmp_path / 'current').read_text()}, its bytes are in {tmp_path / 'last'}"
    assert done.returncode == 0, f"{read}: {done.stderr[:4000]}"
    assert int(done.stdout.split()[0]) > 100


@pytest.mark.slow
def test_a_zip_bomb_is_refused_without_much_memory(tmp_path):
    """A file of a megabyte contains images with a gigabyte of zeros; the process has 300 MB."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = b"\0\0\x08\x02" + struct.pack(">II", 30_000, 30_000)
    block = bytes(10_000_000)
    (tmp_path / "x.idx.gz").write_bytes(
        b"".join([bomb.compress(head), *(bomb.compress(block) for _ in range(90)), bomb.flush()])
    )
    code = f"""
import resource
from pathlib import Path
import priory._support.memory
from priory.workbench.data import load_dataset
priory._support.memory._of_the_system = lambda: 200_000_000
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
try:
    load_dataset({str(tmp_path / "x.idx.gz")!r})
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "x.idx.gz: would take about 900 MB of memory, this machine has 200 MB free" in done.stdout, done.stderr
