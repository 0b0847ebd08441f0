"""Rows that stay in their files: same results as for rows in memory, a known order, little memory."""

import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import anndata
import h5py
import lightning.pytorch as pl
import numpy as np
import pyarrow
import pytest
import torch
import zarr
from pyarrow import parquet
from scipy import sparse

from command_line import must_be_refused, run_cli
from priory import VAE, GaussianDecoder, NormalEncoder, StandardNormal, mlp
from priory._support import memory
from priory.rows import Blocks, Rows, SlicedMatrix, StoredRows, as_rows
from priory.training import fit
from priory.training.batches import ShuffledBatches, shuffled_in_windows
from priory.workbench.data import load_dataset
from priory.workbench.data.fingerprint import RowsChecksum, fingerprint_of
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.run import RunSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*zarr.*")

ROWS, KINDS = 300, np.array(["a", "bb", "", "c"])
REALS = np.random.default_rng(0).normal(size=(ROWS, 4)).round(3)
COUNTS = np.random.default_rng(1).poisson(0.8, size=(ROWS, 4))
TIMES = 1.6e9 + np.arange(ROWS * 4.0).reshape(ROWS, 4)  # float32 cannot distinguish them


def shards(folder: Path, x: np.ndarray, files: int = 4, group: int = 30, **columns: list) -> Path:
    """Write Parquet files with these rows in order, and further columns."""
    folder.mkdir()
    for number, rows in enumerate(np.array_split(np.arange(len(x)), files)):
        values = {f"x{i}": column for i, column in enumerate(x[rows].T)}
        beside = {name: [column[row] for row in rows] for name, column in columns.items()}
        parquet.write_table(
            pyarrow.table(values | beside), folder / f"{number}.parquet", row_group_size=group, compression="none"
        )
    return folder


def in_numpy(folder: Path, x: np.ndarray) -> Path:
    np.save(folder / "x.npy", x)
    return folder / "x.npy"


def in_anndata(folder: Path, x: np.ndarray, *, form: str = "h5ad", dense: bool = False) -> Path:
    data = anndata.AnnData(x.astype(np.float32) if dense else sparse.csr_matrix(x.astype(np.float32)))
    data.obs_names = [f"cell{i}" for i in range(len(x))]
    path = folder / f"cells.{form}"
    data.write_h5ad(path) if form == "h5ad" else data.write_zarr(path)
    return path


def in_zarr(folder: Path, x: np.ndarray) -> Path:
    zarr.create_array(folder / "x.zarr", data=x, chunks=(40, 4))
    return folder / "x.zarr"


SOURCES = {
    "parquet": lambda folder: shards(folder / "shards", REALS),
    "parquet counts": lambda folder: shards(folder / "shards", COUNTS),
    "parquet times": lambda folder: shards(folder / "shards", TIMES),
    "npy": lambda folder: in_numpy(folder, REALS),
    "npy images": lambda folder: in_numpy(folder, COUNTS.reshape(ROWS, 2, 2)),
    "h5ad": lambda folder: in_anndata(folder, COUNTS),
    "h5ad dense": lambda folder: in_anndata(folder, REALS, dense=True),
    "zarr of AnnData": lambda folder: in_anndata(folder, COUNTS, form="zarr"),
    "zarr": lambda folder: in_zarr(folder, REALS),
}


@pytest.mark.parametrize("source", SOURCES)
def test_streamed_rows_equal_those_in_memory(source, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("priory.rows.stored.BLOCK_BYTES", 1000)
    path = SOURCES[source](tmp_path)
    held, streamed = (load_dataset(path, stream=stream) for stream in ("no", "yes"))
    assert streamed.streamed
    assert not held.streamed
    assert len(streamed.x.bounds) > 5
    assert streamed.fingerprint == held.fingerprint
    assert streamed.summary() == held.summary()
    assert (streamed.columns, streamed.image_shape) == (held.columns, held.image_shape)
    for split in held.splits:
        one, other = held.rows(split), streamed.rows(split)
        assert one.ids.tolist() == other.ids.tolist()
        for (x, numbers), (y, same) in zip(one.batches(70), other.batches(70), strict=True):
            assert torch.equal(x, y)
            assert torch.equal(numbers, same)


def test_labels_ids_and_hive_columns_of_shards_equal_those_in_memory(tmp_path) -> None:
    kinds = [str(kind) or None for kind in KINDS[np.arange(ROWS) % 4]]
    path = shards(tmp_path / "kind=z", REALS, k=kinds, n=[f"r{i}" for i in range(ROWS)]).parent
    held, streamed = (
        load_dataset(path, labels=["k", "kind"], ids="n", drop=["x1"], stream=stream) for stream in ("no", "yes")
    )
    assert streamed.columns == held.columns == ("x0", "x2", "x3")
    assert streamed.ids.tolist() == held.ids.tolist()
    for name in ("k", "kind"):
        assert streamed.labels[name].tolist() == held.labels[name].tolist()


def test_the_index_of_pandas_names_the_rows(tmp_path) -> None:
    frame = pytest.importorskip("pandas").DataFrame(REALS, index=[f"r{i}" for i in range(ROWS)], columns=list("abcd"))
    frame.to_parquet(tmp_path / "t.parquet")
    streamed = load_dataset(tmp_path / "t.parquet", stream="yes")
    assert streamed.columns == ("a", "b", "c", "d")
    assert streamed.ids.tolist() == frame.index.tolist()


@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_draws_of_gray_values_equal_those_in_memory(how, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("priory.rows.stored.BLOCK_BYTES", 100)
    path = in_numpy(tmp_path, np.random.default_rng(0).random((ROWS, 3)))  # an odd number of draws for each row
    held, streamed = (load_dataset(path, binarize=how, stream=stream) for stream in ("no", "yes"))
    np.testing.assert_array_equal(streamed.x[:], held.x)
    np.testing.assert_array_equal(streamed.x[:, [2, 0]][5:9], held.x[5:9, [2, 0]])
    assert streamed.summary() == held.summary()


@pytest.mark.parametrize("matrix", [REALS, COUNTS.astype(np.uint8), sparse.csr_matrix(COUNTS.astype(float))])
@pytest.mark.parametrize("cuts", [(1,), (100, 101, 250)])
def test_a_checksum_does_not_depend_on_blocks(matrix, cuts, monkeypatch) -> None:
    monkeypatch.setattr("priory.workbench.data.fingerprint._BLOCK_VALUES", 64)
    whole = fingerprint_of(matrix, np.arange(ROWS).astype(str))
    checksum = RowsChecksum()
    for start, stop in zip((0, *cuts), (*cuts, ROWS), strict=True):
        checksum.add(matrix[start:stop])
    assert checksum.fingerprint(np.arange(ROWS)) == whole


def test_rows_are_streamed_if_they_would_take_half_of_the_free_memory(tmp_path, monkeypatch) -> None:
    path = in_numpy(tmp_path, REALS)
    for free, is_streamed in ((3 * path.stat().st_size, False), (path.stat().st_size, True)):
        monkeypatch.setattr("priory.workbench.data.reading.readers.available_memory", lambda free=free: free)
        assert load_dataset(path).streamed == is_streamed


def test_an_error_about_text_larger_than_memory_suggests_parquet(tmp_path, monkeypatch) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr(memory, "available_memory", lambda: 1)
    with pytest.raises(memory.NotEnoughMemoryError, match=r"t\.csv: .* convert it to Parquet.*write_dataset"):
        load_dataset(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"stream: expected data that can be read in parts.*got 't\.csv'"):
        load_dataset(tmp_path / "t.csv", stream="yes")


class Counting(SlicedMatrix):
    """Records which blocks are decoded."""

    def __init__(self, array: np.ndarray, step: int) -> None:
        super().__init__(array, step=step)
        self.decoded: list[int] = []

    def decode(self, block: int) -> np.ndarray:
        self.decoded.append(block)
        return super().decode(block)


@pytest.mark.parametrize("order", [torch.arange(20), torch.randperm(20, generator=torch.Generator().manual_seed(0))])
def test_each_block_is_decoded_once_for_any_order_of_rows(order) -> None:
    array = np.arange(40.0).reshape(20, 2)
    matrix = Counting(array, step=3)
    read = torch.cat([x for x, _ in StoredRows(matrix).read(order.split(4))])
    np.testing.assert_array_equal(read.numpy(), array[order.numpy()])
    assert sorted(matrix.decoded) == list(range(7))


def test_windows_have_whole_blocks_and_every_row_occurs_once() -> None:
    bounds = torch.arange(0, 1001, 10)
    order = shuffled_in_windows(bounds, 95, torch.Generator().manual_seed(3))
    assert sorted(order.tolist()) == list(range(1000))
    for window in order.split(100):  # ten blocks hold 95 rows or more
        assert len((window // 10).unique()) == 10
        assert not torch.equal(window, window.sort().values)
    again = shuffled_in_windows(bounds, 95, torch.Generator().manual_seed(3))
    assert torch.equal(order, again)


def test_rows_that_fit_into_the_buffer_are_shuffled_like_rows_in_memory() -> None:
    rows = StoredRows(SlicedMatrix(REALS, step=7))
    order = ShuffledBatches(rows, 10, 5).order()
    assert torch.equal(order, ShuffledBatches(as_rows(REALS, "x"), 10, 5).order())
    assert not torch.equal(order, ShuffledBatches(rows, 10, 5, shuffle_buffer=50).order())


def test_several_processes_divide_the_order_of_one_process() -> None:
    batches = ShuffledBatches(StoredRows(SlicedMatrix(REALS, step=7)), 10, 5, shuffle_buffer=50)
    whole = batches.order()
    batches.world_size, parts = 3, []
    for batches.rank in range(3):
        parts.append(batches.order())
    assert torch.equal(torch.stack(parts, 1).flatten(), whole)


@pytest.mark.parametrize("kind", ["memory map", "HDF5", "zarr", "AnnData"])
def test_arrays_in_files_are_read_in_blocks(kind, tmp_path) -> None:
    np.save(tmp_path / "x.npy", REALS)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = {
            "memory map": lambda: np.load(tmp_path / "x.npy", mmap_mode="r"),
            "HDF5": lambda: file.create_dataset("x", data=REALS, chunks=(50, 4)),
            "zarr": lambda: zarr.open(in_zarr(tmp_path, REALS), mode="r"),
            "AnnData": lambda: anndata.read_h5ad(in_anndata(tmp_path, REALS), backed="r"),
        }[kind]()
        rows = as_rows(data, "x")
        assert isinstance(rows, Rows)
        blocks = rows.blocks  # type: ignore[attr-defined]
        assert isinstance(blocks, Blocks)
        assert blocks.bounds[-1] == ROWS
        x = torch.cat([x for x, _ in rows.batches(64)])
        torch.testing.assert_close(x.double(), torch.from_numpy(REALS), rtol=1e-6, atol=0)


def test_a_matrix_stored_by_columns_is_refused(tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(REALS))
    with pytest.raises(ValueError, match="stored row by row"):
        load_dataset(tmp_path / "x.npy", stream="yes")
    data = anndata.AnnData(sparse.csc_matrix(REALS))
    data.write_h5ad(tmp_path / "x.h5ad")
    with pytest.raises(ValueError, match=r"^x\.h5ad: expected a matrix that is stored by rows"):
        load_dataset(tmp_path / "x.h5ad", stream="yes")


@pytest.mark.parametrize("place", ["X", "layers/counts"])
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_a_matrix_of_another_shape_than_its_obs_is_refused(tmp_path, form, place) -> None:
    path, data = tmp_path / f"cells.{form}", anndata.AnnData(REALS)
    with h5py.File(path, "w") if form == "h5ad" else nullcontext(zarr.open_group(path, mode="w")) as store:
        for name, part in {"obs": data.obs, "var": data.var, place: REALS[:7]}.items():
            anndata.io.write_elem(store, name, part)
    message = rf"^cells\.{form}: expected a matrix of 300 rows x 4 columns, like obs and var, got one of 7 x 4"
    with pytest.raises(ValueError, match=message):
        load_dataset(path, stream="yes")


QUICK = ("--stream", "yes", "--epochs", 2, "--warmup", 3, "--samples", 2, "--set", "model.hidden=[8]", "--no-report")


def broken(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:900] = bytes(700)
    path.write_bytes(content)


def rewritten(change) -> object:
    def write(path: Path) -> None:
        parquet.write_table(change(parquet.read_table(path)), path)

    return write


BAD_SHARDS = {
    "damaged": (broken, r"2\.parquet: expected a complete \.parquet file"),
    "without a column": (rewritten(lambda table: table.drop(["x1"])), r"2\.parquet: expected the columns of 0\.parq"),
    "with a gap": (
        rewritten(lambda table: table.set_column(1, "x1", pyarrow.array([None, *[0.5] * (len(table) - 1)]))),
        r"1 missing value .* 'x1' \(1\), the first in row 151 ",
    ),
    "with infinity": (
        rewritten(lambda table: table.set_column(0, "x0", pyarrow.array([1e300, *[0.5] * (len(table) - 1)]))),
        "1 infinite value .* the first in row 151 ",
    ),
    "with text": (
        rewritten(lambda table: table.set_column(0, "x0", pyarrow.array(["?"] * len(table)))),
        r"2\.parquet: .* types of the first file",
    ),
}


@pytest.mark.parametrize("change", BAD_SHARDS)
def test_an_error_names_the_file_or_row_of_a_bad_shard(change, tmp_path, capsys) -> None:
    spoil, message = BAD_SHARDS[change]
    spoil(shards(tmp_path / "shards", REALS) / "2.parquet")
    output = must_be_refused(capsys, tmp_path, "fit", tmp_path / "shards", *QUICK, "--out", tmp_path / "run")
    assert re.search(message, output), output


@pytest.mark.parametrize("change", [lambda table: table.drop(["x1"]), lambda table: table.append_column("y", table[0])])
def test_shards_with_other_columns_are_refused_in_memory(change, tmp_path) -> None:
    rewritten(change)(shards(tmp_path / "shards", REALS) / "2.parquet")  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"2\.parquet: expected the columns of 0\.parquet"):
        load_dataset(tmp_path / "shards", stream="no")


@pytest.mark.parametrize("stream", ["yes", "no"])
@pytest.mark.parametrize("damaged", ["0.parquet", "2.parquet"])
def test_an_error_about_column_names_that_are_not_utf8_names_the_source(damaged, stream, tmp_path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        table = pyarrow.table({"length": [1.0, 2.0], "width": [3.0, 4.0]})
        parquet.write_table(table, folder / f"{number}.parquet", store_schema=False)
    content = (folder / damaged).read_bytes()
    (folder / damaged).write_bytes(content.replace(b"length", b"lengt\xc4"))
    with pytest.raises(ValueError, match=r"shards: expected a complete parquet file, got a damaged file .*utf-8"):
        load_dataset(folder, stream=stream)


def test_the_origin_of_a_pattern_includes_its_folder(tmp_path) -> None:
    shards(tmp_path / "shards", np.where(REALS > 2, np.nan, REALS))
    assert load_dataset(tmp_path / "shards" / "*.parquet").origin == "shards/*.parquet"


def test_an_empty_shard_has_no_rows(tmp_path) -> None:
    rewritten(lambda table: table.slice(0, 0))(shards(tmp_path / "shards", REALS) / "2.parquet")  # type: ignore[operator]
    assert len(load_dataset(tmp_path / "shards", stream="yes")) == ROWS * 3 // 4


def test_a_pattern_of_other_files_is_refused(tmp_path, capsys) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    assert "a pattern of .parquet files" in must_be_refused(capsys, tmp_path, "fit", tmp_path / "*.csv", *QUICK)


def test_a_folder_with_brackets_in_its_name_is_not_a_pattern(tmp_path, monkeypatch) -> None:
    (tmp_path / "x[1]").mkdir()
    shards(tmp_path / "x[1]" / "shards", REALS)
    assert len(load_dataset(tmp_path / "x[1]" / "*" / "*.parquet")) == ROWS
    assert len(as_rows(str(tmp_path / "x[1]" / "shards" / "*.parquet"), "rows")) == ROWS
    monkeypatch.chdir(tmp_path / "x[1]")
    assert RunSettings.model_validate({"data": {"source": "shards/*.parquet"}}).data.source.startswith(str(tmp_path))
    assert run_cli("fit", "shards/*.parquet", *QUICK, "--prior", "standard", "--out", "run") == 0


def test_an_error_names_streamed_columns_of_text(tmp_path, capsys) -> None:
    shards(tmp_path / "shards", REALS, kind=["u"] * ROWS)
    message = must_be_refused(capsys, tmp_path, "fit", tmp_path / "shards", *QUICK, "--out", tmp_path / "run")
    assert "expected columns of numbers, got others: kind" in message


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train a run on streamed shards; each window has a part of the rows."""
    folder = tmp_path_factory.mktemp("streamed")
    shards(folder / "shards", REALS, kind=["u", "v"] * (ROWS // 2))
    options = ("--labels", "kind", "--prior", "standard", "--set", "training.shuffle_buffer=60")
    assert run_cli("fit", f"{folder}/shards/*.parquet", *QUICK, *options, "--out", folder / "run") == 0
    return folder


def test_a_run_records_that_it_was_streamed(trained) -> None:
    run = Run.open(trained / "run")
    assert run.settings.data.stream == "yes"
    assert run.fingerprint.files
    assert run.fingerprint == load_dataset(trained / "shards", labels=["kind"], stream="no").fingerprint
    assert run.load_dataset().name == "shards"


def test_commands_accept_streamed_runs(trained, tmp_path) -> None:
    held = tmp_path / "held"
    shards(held, REALS, kind=["u", "v"] * (ROWS // 2))
    assert run_cli("evaluate", trained / "run", "--samples", 2) == 0
    for number, source in enumerate([[], [held]]):
        assert run_cli("embed", trained / "run", *source, "--out", tmp_path / f"{number}.npz") == 0
    own, other = (np.load(tmp_path / f"{number}.npz") for number in (0, 1))
    assert own["ids"].tolist() == other["ids"].tolist()
    np.testing.assert_array_equal(own["z_mean"], other["z_mean"])


def test_unchanged_files_are_not_read_again(trained, monkeypatch) -> None:
    monkeypatch.setattr("priory.rows.parquet.ParquetMatrix.decode", lambda self, block: pytest.fail("read"))
    Run.open(trained / "run").load_dataset()


def test_a_changed_shard_is_refused_and_a_copied_one_is_accepted(trained, tmp_path, capsys) -> None:
    path = trained / "shards" / "1.parquet"
    content = path.read_bytes()
    path.write_bytes(content)  # another modification time, the same values
    Run.open(trained / "run").load_dataset()
    rewritten(lambda table: table.set_column(0, "x0", pyarrow.array([0.5] * len(table))))(path)  # type: ignore[operator]
    message = must_be_refused(capsys, trained / "run", "evaluate", trained / "run", "--samples", 2)
    assert "rows with other values" in message
    path.write_bytes(content)


def test_exemplars_of_rows_in_files_are_refused(tmp_path, capsys) -> None:
    shards(tmp_path / "shards", REALS)
    source = ("fit", tmp_path / "shards", *QUICK, "--prior", "exemplar", "--out", tmp_path / "run")
    assert "expected rows in memory" in must_be_refused(capsys, tmp_path, *source)


def test_compare_accepts_the_option_named_in_the_error_about_exemplars(tmp_path, capsys) -> None:
    source = ("compare", shards(tmp_path / "shards", REALS), "--stream", "yes", "--no-report")
    assert run_cli(*source, "--priors", "exemplar", "--seeds", 1, "--epochs", 1, "--out", tmp_path / "compared") == 1
    assert "choose another prior, or --stream no" in capsys.readouterr().err


def test_conditions_of_streamed_rows_equal_those_in_memory(tmp_path) -> None:
    from priory.rows import Conditions, context_at
    from priory.workbench.data import encoded

    path = shards(tmp_path / "shards", REALS, kind=["u", "v"] * (ROWS // 2))
    contexts = []
    for stream in ("no", "yes"):
        dataset = load_dataset(path, conditions=["kind"], stream=stream)
        rows = encoded(dataset, Conditions.from_columns(dataset.labels)).rows("valid")
        contexts.append(context_at(rows, torch.tensor([5, 0, 2])))
    assert torch.equal(*contexts)


class Interrupted(Exception):
    pass


def test_a_resumed_run_has_the_same_bits(tmp_path) -> None:
    path = shards(tmp_path / "shards", REALS)
    weights = []
    for out, stops in (("whole", [None]), ("stopped", [20, 40, None])):
        for step in stops:
            torch.manual_seed(0)
            vae = VAE(NormalEncoder(mlp(4, [8], 4)), GaussianDecoder(mlp(2, [8], 4)), StandardNormal(2))
            how = {"epochs": 3, "batch_size": 20, "shuffle_buffer": 60, "callbacks": stopping_at(step)}
            with pytest.raises(Interrupted) if step else nullcontext():
                fit(vae, path / "*.parquet", path, seed=0, out=tmp_path / out, resume=True, **how)
        weights.append(torch.nn.utils.parameters_to_vector(vae.parameters()))
    assert torch.equal(*weights)


def stopping_at(step: int | None) -> pl.Callback:
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, module, *others) -> None:
            if module.step == step:
                raise Interrupted

    return Stop()


LIMITED = """
import resource, re, sys
from pathlib import Path
import torch, lightning, pyarrow.dataset, anndata, sklearn.datasets, pandas, matplotlib.pyplot
import priory.workbench.cli.commands.fit
from priory.workbench.cli import main

used = 1024 * int(re.findall(r"VmData:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[0])
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[1]),) * 2)
sys.argv = ["priory", *sys.argv[2:]]
main.main()
"""


@pytest.mark.slow
def test_rows_train_within_half_of_their_memory(tmp_path) -> None:
    """Decoded rows take 800 MB, in row groups of 16 MB; the files are small, because values repeat."""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux limits the data of a process")
    tile = np.random.default_rng(0).normal(size=(1000, 100))
    (tmp_path / "shards").mkdir()
    for number in range(5):
        columns = {f"x{i}": np.tile(column, 200) for i, column in enumerate(tile.T)}
        parquet.write_table(pyarrow.table(columns), tmp_path / f"shards/{number}.parquet", row_group_size=20_000)
    command = ["fit", f"{tmp_path}/shards/*.parquet", "--prior", "standard", "--epochs", "1", "--batch-size", "10000"]
    options = ["--set", "model.hidden=[8]", "--set", "training.shuffle_buffer=100000", "--no-evaluate", "--no-report"]
    arguments = ["400000000", *command, *options, "--stream", "yes", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},  # other pools reserve a gigabyte without using it
    )
    assert done.returncode == 0, done.stderr[-2000:]
