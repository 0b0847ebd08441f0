"""Invalid files, options and runs: one line that names the cause and a remedy, exit code 2, nothing written.

Every row of the tables runs the real command line.
"""

import errno
import gzip
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from command_line import MATRIX, QUICK, ROWS, contents, idx, run_cli, write
from priory._support import memory
from priory.workbench.cli import main as cli
from priory.workbench.data import load_dataset

anndata = pytest.importorskip("anndata")

FORMATS = ("csv", "tsv", "csv.gz", "npy", "npz", "parquet", "h5ad")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train a run on a table with the columns a, b, c, d; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "good.csv", MATRIX)
    assert (
        run_cli("fit", folder / "good.csv", "--prior", "vamp", "--components", 4, *QUICK, "--out", folder / "run") == 0
    )
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """Copy the run, so that a test can damage it."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


def with_value(value: float) -> np.ndarray:
    changed = MATRIX.copy()
    changed[3, 1] = value
    return changed


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [*FORMATS, "idx"])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "1 missing value"), (np.inf, "1 infinite value")])
def test_cells_without_a_finite_number_are_refused(ending, value, word, refused, tmp_path):
    path = write(tmp_path / f"cells.{ending}", with_value(value))
    message = refused("fit", path, "--out", "out")
    column = "b" if ending in ("csv", "tsv", "csv.gz", "parquet", "h5ad") else "x1"
    assert f"{path.name}: expected a finite number in every cell, got {word}" in message
    assert f"{column!r} (1), the first in row 4" in message
    assert "fill them in, remove these rows, or leave the columns out with --drop" in message


@pytest.mark.parametrize("command", ["evaluate", "embed", "score"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_commands_refuse_new_data_with_cells_that_are_not_finite(command, value, run, refused, tmp_path):
    write(tmp_path / "new.csv", with_value(value))
    arguments = () if command == "evaluate" else ("--out", "out.csv")
    assert "new.csv: expected a finite number in every cell" in refused(command, run, "new.csv", *arguments)


def test_sparse_matrices_with_missing_values_are_refused(refused, tmp_path):
    matrix = sparse.random(ROWS, 6, 0.3, format="csr", random_state=0)
    matrix.data[4] = np.nan
    sparse.save_npz(tmp_path / "counts.npz", matrix)
    row = int(np.searchsorted(matrix.indptr, 4, side="right"))
    message = refused("fit", "counts.npz", "--out", "out")
    assert f"in 1 of 6 columns: 'x{matrix.indices[4]}' (1), the first in row {row} " in message


SUPPORT = [
    ("bernoulli", MATRIX, "expected only 0 and 1 (--binarize draws them from gray values) for"),
    ("bernoulli", np.arange(160).reshape(ROWS, 4) % 5, "got integers 0..4"),
    ("categorical", MATRIX, "expected integers from 0 up for"),
    (
        "discretized-logistic",
        np.arange(160).reshape(ROWS, 4) - 5,
        "got integers -5..154; give such data, or train with another --likelihood",
    ),
    ("negative-binomial", MATRIX, "expected integers from 0 up for"),
]


@pytest.mark.parametrize(("likelihood", "values", "message"), SUPPORT)
def test_values_outside_of_the_likelihoods_support_are_refused(likelihood, values, message, refused, tmp_path):
    np.save(tmp_path / "x.npy", values)
    error = refused("fit", "x.npy", "--likelihood", likelihood, "--out", "out")
    assert "x.npy: expected " in error
    assert f"for --likelihood {likelihood}, got " in error
    assert message in error


def test_new_values_outside_of_the_support_are_refused(done, refused, tmp_path):
    np.save(tmp_path / "x.npy", (MATRIX > 0).astype(np.uint8))
    done("fit", "x.npy", *QUICK, "--no-evaluate", "--out", "binary")
    np.save(tmp_path / "new.npy", MATRIX)
    assert "new.npy: expected only 0 and 1" in refused("score", "binary", "new.npy", "--out", "s.csv")


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_columns_of_text_are_refused(ending, refused, tmp_path):
    frame = pd.DataFrame(MATRIX, columns=["a", "b", "c", "d"]).assign(kind="red")
    frame.loc[7, "c"] = 1.0
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(
        tmp_path / f"t.{ending}", sep="\t" if ending == "tsv" else ",", index=False
    ) if ending != "parquet" else None
    message = refused("fit", f"t.{ending}", "--out", "out")
    assert f"t.{ending}: expected numbers, got other values: 'kind' holds 'red' in row 1 (40 of 40" in message
    assert "--labels COLUMN for labels, --ids COLUMN for row names, --drop COLUMN to leave one out" in message


def test_an_error_locates_a_single_cell_of_text(refused, tmp_path):
    lines = write(tmp_path / "t.csv", MATRIX).read_text().splitlines()
    lines[6] = "1,2,oops,4"
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert "'c' holds 'oops' in row 6 (1 of 40 values are not numbers). Correct them" in refused(
        "fit", "t.csv", "--out", "o"
    )


def text(line: str, at: int = 7) -> bytes:
    lines = ["a,b,c,d", *(",".join(map(str, row)) for row in MATRIX)]
    lines[at] = line
    return "\n".join(lines).encode()


def archive(**members: bytes) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def saved(values: np.ndarray, pickles: bool = False) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=pickles)
    return buffer.getvalue()


# file name, content, what the line must say
FILES: list[tuple[str, bytes, str]] = [
    ("long.csv", text("1,2,3,4,5"), "long.csv, line 8: expected 4 fields, one per column, got 5; correct this line"),
    ("short.csv", text("1,2"), "short.csv, line 8: expected 4 fields, one per column, got 2; correct this line"),
    ("short.tsv", text("1,2").replace(b",", b"\t"), "short.tsv, line 8: expected 4 fields"),
    ("short.csv.gz", gzip.compress(text("1,2")), "short.csv.gz, line 8: expected 4 fields"),
    ("quote.csv", text('1,"2,3,4'), "quote.csv, line 41: expected 4 fields, one per column, got 2; correct this line"),
    ("header.csv", b"a,b,c\n", "header.csv: expected at least one row, got none below the header"),
    ("blank.csv", b"\n\n", "blank.csv: expected a table, got an empty file"),
    ("latin.csv", text("é,2,3,4").replace("é".encode(), b"\xe9"), "latin.csv: expected UTF-8 text"),
    ("field.csv", b"a,b\n" + b"1" * 200_000 + b",2\n", "field.csv: expected UTF-8 text"),
    ("cut.csv.gz", gzip.compress(text("1,2,3,4"))[:-40], "cut.csv.gz: expected UTF-8 text"),
    ("vector.npy", saved(MATRIX[:, 0]), "vector.npy: expected a matrix (rows, columns)"),
    ("vector.npz", archive(x=saved(MATRIX[:, 0])), "save x.reshape(-1, 1) if it is one column"),
    ("scalar.npy", saved(np.array(3.0)), "scalar.npy: expected a matrix (rows, columns)"),
    ("cube.npy", saved(np.zeros((4, 3, 2, 2))), "save x.reshape(len(x), -1) to flatten the rows"),
    ("none.npy", saved(np.zeros((0, 4))), "none.npy: expected at least one row and one column, got 0 x 4 values"),
    ("none.npz", archive(x=saved(np.zeros((4, 0)))), "expected at least one row and one column, got 4 x 0 values"),
    ("complex.npy", saved(MATRIX + 1j), "complex.npy: expected numbers, got dtype complex64"),
    ("complex.npz", archive(x=saved(MATRIX + 1j)), "complex.npz: expected numbers, got dtype complex64"),
    ("dates.npy", saved(np.zeros((20, 2), "M8[D]")), "dates.npy: expected numbers, got dtype datetime64"),
    ("text.npy", saved(np.array([["a", "b"]] * 20)), "text.npy: expected numbers, got dtype <U1"),
    ("object.npy", saved(MATRIX.astype(object), True), "object.npy: expected numbers, got Python objects"),
    (
        "object.npz",
        archive(x=saved(MATRIX.astype(object), True)),
        "object.npz, array 'x': expected numbers, got Python",
    ),
    ("cut.npy", saved(MATRIX)[:-60], "cut.npy: expected a complete NumPy file of 768 bytes"),
    ("twice.npy", saved(MATRIX) * 2, "twice.npy: expected a complete NumPy file of 768 bytes"),
    ("cut.npz", archive(x=saved(MATRIX))[:-60], "cut.npz: expected a complete .npz archive"),
    (
        "huge.npy",
        npy_header((10**9, 10**9)) + b"abc",
        "huge.npy: expected a complete NumPy file of 4000000000000000128",
    ),
    ("huge.npz", archive(x=npy_header((10**9, 10**9))), "huge.npz, array 'x': expected a complete NumPy file"),
    ("negative.npy", npy_header((-1, -1)) + b"abcd", "negative.npy: expected a complete NumPy file"),
    (
        "huge.idx",
        idx((2**31, 2**31, 2**31)) + b"abc",
        "huge.idx: expected 39614081257132168796771975168 bytes of values",
    ),
    ("wrap.idx", idx((2**16,) * 4), "wrap.idx: expected 73786976294838206464 bytes of values"),
    ("huge.idx.gz", gzip.compress(idx((2**31, 2**31)) + b"abc"), "huge.idx.gz: expected"),
    ("cut.idx", idx((20, 3)) + bytes(100), "cut.idx: expected 240 bytes of values for shape (20, 3), got 100"),
    ("long.idx", idx((20, 3)) + bytes(250), "long.idx: expected 240 bytes of values for shape (20, 3), got more"),
    ("head.idx", idx((20, 3))[:9], "head.idx: expected a header of 12 bytes, got fewer"),
    ("axes.idx", b"\0\0\x08\xff" + bytes(2000), "axes.idx: expected an IDX file"),
    ("other.txt", b"1 2 3", "other.txt: expected a file whose name ends in .npy, .npz"),
    ("one.csv", b"a,b\n1,2\n", "at least 10 rows to make an 80/10/10 split, got 1 in one.csv; give a larger file"),
    ("one.npy", saved(MATRIX[:1]), "at least 10 rows to make an 80/10/10 split, got 1 in one.npy; give a larger file"),
    (
        "one.npz",
        archive(train_x=saved(MATRIX[:1]), test_x=saved(MATRIX)),
        "one.npz: expected at least two training rows",
    ),
    ("same.npy", saved(np.full((ROWS, 3), 2.5)), "same.npy: expected at least one column with different values"),
    (
        "same.csv",
        b"a,b\n" + b"0,0\n" * 20,
        "got 2 constant columns ('a' = 0, 'b' = 0); there is nothing to learn",
    ),
    ("wide.npy", saved(MATRIX).replace(b"(40, 4)", b"(1, 160)"), "wide.npy: expected a complete NumPy file"),
    *[(f"empty.{ending}", b"", f"empty.{ending}: expected ") for ending in (*FORMATS, "idx", "idx.gz")],
    *[(f"zeros.{ending}", bytes(500), f"zeros.{ending}: expected ") for ending in (*FORMATS, "idx", "idx.gz")],
    *[(f"noise.{ending}", np.random.default_rng(0).bytes(900), f"noise.{ending}: expected ") for ending in FORMATS],
]


@pytest.mark.parametrize(("name", "content", "message"), FILES, ids=[name for name, _, _ in FILES])
def test_files_without_data_are_refused(name, content, message, refused, tmp_path):
    (tmp_path / name).write_bytes(content)
    error = refused("fit", name, "--out", "out")
    assert message in error


@pytest.mark.parametrize("ending", [*FORMATS, "idx"])
@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("command", ["fit", "score"])
def test_truncated_files_are_refused(ending, share, command, run, refused, tmp_path):
    content = write(tmp_path / f"t.{ending}", MATRIX).read_bytes()
    whole_lines = content[: int(share * len(content))].rpartition(b"\n")[0] + b"\n1,2"
    (tmp_path / f"t.{ending}").write_bytes(
        whole_lines if ending in ("csv", "tsv") else content[: int(share * len(content))]
    )
    arguments = (
        ("fit", f"t.{ending}", "--out", "out") if command == "fit" else ("score", run, f"t.{ending}", "--out", "s.csv")
    )
    assert f"t.{ending}" in refused(*arguments)


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["fit", "evaluate", "embed", "score"])
def test_missing_files_folders_and_pipes_are_refused(command, run, refused, tmp_path):
    arguments = (command,) if command == "fit" else (command, run)
    (tmp_path / "good.csv").write_text("a\n1\n")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    out = () if command == "evaluate" else ("--out", "out.csv")
    assert "did you mean 'good.csv'?" in refused(*arguments, "god.csv", *out)
    (tmp_path / "digit.csv").write_text("a\n1\n")
    assert "did you mean 'digits'?" in refused(*arguments, "digit", *out)
    assert "did you mean 'digit.csv'?" in refused(*arguments, "digits.csv", *out)
    assert "check the spelling and the folder" in refused(*arguments, "elsewhere/z.csv", *out)
    assert "expected a file, got the folder" in refused(*arguments, "folder.csv", *out)
    assert "expected a regular file, got the pipe or device" in refused(*arguments, "pipe.csv", *out)
    assert "expected a regular file, got the pipe or device" in refused(*arguments, "/dev/zero", *out)
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    assert "expected an embedded data set (digits) or an existing file" in refused(*arguments, "loop.csv", *out)
    assert "name" in refused(*arguments, "x" * 5000 + ".csv", *out)
    assert r"\x1b" in refused(*arguments, "\x1b[31m.csv", *out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_to_read_is_refused(refused, tmp_path):
    write(tmp_path / "secret.csv", MATRIX).chmod(0)
    assert "expected a file that you may read" in refused("fit", "secret.csv", "--out", "out")


@pytest.mark.parametrize("command", ["evaluate", "embed", "score", "sample"])
def test_folders_without_a_run_are_refused(command, refused, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    for path in ("nowhere", "folder", "file"):
        assert f"{path}: expected a run folder with config.json, such as `priory fit ... --out RUN` writes" in refused(
            command, path
        )


def test_invalid_outputs_are_refused(run, refused, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.csv").mkdir()
    assert "expected a name that ends in .npz" in refused("sample", run, "-n", 3, "--out", "x.xlsx")
    assert "expected a folder, got the file 'file'" in refused("embed", run, "--out", "file/z.csv")
    assert "expected a file, got the folder 'folder.csv'" in refused("score", run, "--out", "folder.csv")
    for out in ("file", "file/run"):
        for more in ((), ("--resume",)):
            assert f"--out {out}: expected a folder for the run, got the file 'file'; name another" in refused(
                "fit", "digits", "--out", out, *more
            )
    assert "--out file/standard-0: expected a folder" in refused("compare", "digits", "--out", "file")
    assert "go on with --resume, or choose another" in refused("fit", "digits", "--out", run)


def test_a_trained_model_refuses_other_columns(run, done, refused, tmp_path):
    write(tmp_path / "less.csv", MATRIX[:, :3])
    write(tmp_path / "five.npy", np.ones((ROWS, 5)))
    write(tmp_path / "four.npy", MATRIX)
    assert "less.csv: expected the 4 columns that the model was trained on, and 1 are missing (d)" in refused(
        "score", run, "less.csv"
    )
    assert "five.npy: expected 4 columns, as many as the model was trained on, got 5" in refused(
        "embed", run, "five.npy"
    )
    assert "4 are missing (a, b, c, d)" in refused("evaluate", run, "four.npy")
    done("fit", "four.npy", *QUICK, "--no-evaluate", "--out", "numbered")
    for columns in (3, 5, 40):
        write(tmp_path / "other.npy", np.ones((20, columns)))
        message = refused("score", "numbered", "other.npy", "--out", "s.csv")
        assert f"other.npy: expected 4 columns, as many as the model was trained on, got {columns}" in message


# --- options and settings ---------------------------------------------------------------------------------------------

FIT = ("fit", "digits")
OPTIONS: list[tuple[tuple[object, ...], str]] = [
    ((*FIT, "--epoch", 3), "priory fit: there is no option --epoch; did you mean --epochs?"),
    ((*FIT, "--latent_dim", 3), "there is no option --latent_dim; did you mean --latent-dim?"),
    ((*FIT, "-x"), "priory fit: there is no option -x; see: priory fit --help"),
    ((*FIT, "--lr", 3), "priory fit: there is no option --lr; did you mean --learning-rate?"),
    ((*FIT, "--hidden", 64), "priory fit: there is no option --hidden; did you mean --set model.hidden=VALUE?"),
    ((*FIT, "--weight_decay=1"), "there is no option --weight_decay; did you mean --set training.weight_decay=VALUE?"),
    ((*FIT, "--hiddenx", 64), "priory fit: there is no option --hiddenx; see: priory fit --help"),
    (("sample", "run", "--hidden", 64), "priory sample: there is no option --hidden; see: priory sample --help"),
    (("fit", "digit"), "'; did you mean 'digits'?"),
    (("fit", "Digits"), "'; did you mean 'digits'?"),
    (("fit", "elsewhere/digit"), "elsewhere/digit'; check the spelling and the folder"),
    (("fti", "digits"), "priory: there is no command fti; did you mean fit?"),
    (("frobnicate",), "there is no command frobnicate; there are fit, evaluate, sample"),
    (("--vers",), "priory: there is no option --vers"),
    (("evaluate",), "priory evaluate: expected RUN, a run folder"),
    (("sample",), "priory sample: expected RUN, a run folder"),
    (("fit",), "DATA: expected a file or an embedded data set"),
    ((*FIT, "extra"), "priory fit: got unexpected extra argument"),
    ((*FIT, "--samples", "abc"), "--samples abc: expected a whole number; see: priory fit --help"),
    ((*FIT, "--samples=1.5"), "--samples 1.5: expected a whole number"),
    ((*FIT, "--samples", 0), "--samples 0: expected at least 1"),
    ((*FIT, "--epochs", "many"), "--epochs many: expected a whole number"),
    ((*FIT, "--learning-rate", "fast"), "--learning-rate fast: expected a number"),
    ((*FIT, "--epochs"), "--epochs"),
    (("sample", "run", "-n", 0), "-n 0: expected at least 1"),
    (("sample", "run", "--number", -5), "--number -5: expected at least 1"),
    (("score", "run", "--seed", -1), "--seed -1: expected at least 0"),
    (("compare", "digits", "--seeds", 0), "--seeds 0: expected at least 1"),
    (
        ("compare", "digits", "--priors", "vmap"),
        "--priors: unknown prior 'vmap'; choose from standard, mog, vamp",
    ),
    (("compare", "digits", "--priors", ","), "--priors ',': expected names separated by commas, or all"),
    ((*FIT, "--epochs", 0), "training.epochs: expected at least 1, got 0"),
    ((*FIT, "--latent-dim", -1), "model.latent_dim: expected at least 1, got -1"),
    ((*FIT, "--prior", "mog", "--components", 0), "model.components: expected at least 1, got 0"),
    ((*FIT, "--batch-size", 0), "training.batch_size: expected at least 1, got 0"),
    ((*FIT, "--patience", 0), "training.patience: expected at least 1, got 0"),
    ((*FIT, "--learning-rate", 0), "training.learning_rate: expected more than 0, got 0.0"),
    ((*FIT, "--learning-rate", "nan"), "training.learning_rate: expected a finite number, got nan"),
    ((*FIT, "--split-seed", -1), "split_seed"),
    ((*FIT, "--seed", 10**30), "seed: "),
    ((*FIT, "--grid", "0x0"), "--grid 0x0: expected equal sides such as 10x10, or 5x5x5"),
    ((*FIT, "--grid", "²x²"), "expected equal sides such as 10x10"),
    ((*FIT, "--grid", "9" * 5000), "expected equal sides such as 10x10"),
    (
        (*FIT, "--prior", "vmap"),
        "--prior: unknown prior 'vmap'; choose from standard, mog, vamp, vamp-mixture, gtm, ",
    ),
    (
        (*FIT, "--likelihood", "gausian"),
        "unknown likelihood 'gausian'; choose from bernoulli, categorical, gaussian, disc",
    ),
    ((*FIT, "--network", "mpl"), "--network: unknown network 'mpl'; choose from mlp, gated, conv, or"),
    ((*FIT, "--split", "shufled"), "data.split: expected 'given' or 'shuffled', got 'shufled'; did you mean shuffled?"),
    (
        (*FIT, "--binarize", "dynamc"),
        "data.binarize: expected 'none', 'dynamic' or 'static', got 'dynamc'; did you mean dynamic?",
    ),
    ((*FIT, "--precision", "16"), "training.precision: expected '32-true', 'bf16-mixed' or '16-mixed', got '16'"),
    (
        (*FIT, "--set", "training.epochz=3"),
        "--set training.epochz: there is no such setting; did you mean training.epochs?",
    ),
    ((*FIT, "--set", "epochs=3"), "--set epochs: there is no such setting; did you mean training.epochs?"),
    ((*FIT, "--set", "epochz=3"), "--set epochz: there is no such setting; did you mean training.epochs?"),
    ((*FIT, "--set", "training.lr=3"), "training.lr: there is no such setting; did you mean training.learning_rate?"),
    ((*FIT, "--set", "training.zzz=3"), "--set training.zzz: there is no such setting; known are data.binarize"),
    ((*FIT, "--set", "zzz=3"), "--set zzz: there is no such setting; known are data.binarize"),
    ((*FIT, "--set", "training.epochs"), "expected NAME=VALUE"),
    ((*FIT, "--set", "training.epochs=x"), "training.epochs: expected a whole number, got 'x'"),
    ((*FIT, "--set", "model.hidden=[0]"), "model.hidden.0: expected at least 1, got 0"),
    ((*FIT, "--set", "model.hidden=" + "[" * 5000), "model.hidden"),
    (
        (*FIT, "--prior", "mog", "--set", "model.components=1e30"),
        "components: expected a whole number, got 1e+30",
    ),
    ((*FIT, "--set", "model.log_variance_range=[3,1]"), "log_variance_range"),
    (
        (*FIT, "--labels", "digt"),
        "labels: expected a column of digits, got 'digt', which it does not have; did you mean 'digit'?",
    ),
    ((*FIT, "--drop", "y0"), "drop: expected a column of digits, got 'y0'"),
    ((*FIT, "--layer", "counts"), "layer: expected an .h5ad file, got 'digits'; leave --layer out"),
    ((*FIT, "--network", "conv", "--drop", "x0"), "--network conv: expected images"),
    (
        (*FIT, "--prior", "vamp", "--components", 1001),
        "--components 1001: expected at most 1000, the number of training rows",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), OPTIONS, ids=[" ".join(map(str, a))[:50] for a, _ in OPTIONS])
def test_invalid_options_are_refused(arguments, message, refused):
    out = ("--out", "out") if arguments[0] == "fit" and arguments[-1] != "--epochs" else ()
    assert message in refused(*arguments, *out)


def test_there_can_be_as_many_pseudo_inputs_as_rows_and_more_with_other_starts(done):
    done(*FIT, "--prior", "vamp", "--components", 1000, *QUICK, "--no-evaluate", "--out", "one")
    arguments = ("--components", 1001, "--set", "model.initialize=mean")
    done(*FIT, "--prior", "vamp", *arguments, *QUICK, "--no-evaluate", "--out", "two")
    done("sample", "two", "-n", 2)


def test_help_is_printed_with_and_without_the_option(done):
    assert "Usage: priory [OPTIONS] COMMAND" in done("--help")
    assert done() == done("--help")
    assert "--latent-dim" in done("fit", "--help")


def test_an_unknown_device_is_refused(run, refused):
    for device in ("abc", "meta", "cuda:77"):
        assert f"--device {device}: expected auto, cpu or a device that torch sees" in refused(
            "sample", run, "--device", device
        )


# --- run folders ------------------------------------------------------------------------------------------------------

CONFIGURATIONS: list[tuple[str, object, str]] = [
    ("settings.model.hiden", [3], "settings.model.hiden: there is no such setting; did you mean hidden?"),
    ("settings.training.epochz", 3, "settings.training.epochz: there is no such setting; did you mean epochs?"),
    ("sttings", {}, "sttings: there is no such setting; did you mean settings?"),
    ("facts.num_input", 3, "facts.num_input: there is no such setting; did you mean num_inputs?"),
    ("settings.model.latent_dim", "two", "settings.model.latent_dim: expected a whole number, got 'two'"),
    ("settings.model.latent_dim", 0, "settings.model.latent_dim: expected at least 1, got 0"),
    ("settings.model.latent_dim", 10**9, "memory: there is not enough (64 GB more)"),
    ("settings.model.latent_dim", 10**30, "settings.model.latent_dim: expected at most 1000000000"),
    ("settings.model.prior", "vmap", "settings.model: unknown prior 'vmap'"),
    ("settings.model.likelihood", "gauss", "settings.model: unknown likelihood 'gauss'"),
    ("settings.model", 3, "settings.model: expected settings by name, {...}, got 3"),
    ("settings", [], "settings: expected settings by name, {...}, got []"),
    ("facts.num_inputs", "x", "facts.num_inputs: expected a whole number, got 'x'"),
    ("facts.num_inputs", 3, "expected facts.num_inputs to be the number of columns that are not constant, 4, got 3"),
    ("facts.image_shape", [3], "facts.image_shape"),
    ("columns", "abc", "columns: expected a list, got 'abc'"),
    ("constants", {"z": 1.0}, "restore the file that `priory fit` wrote"),
    ("binarize_scale", "x", "binarize_scale: expected a number, got 'x'"),
    ("settings.data.source", "/nowhere/x.csv", "its data, /nowhere/x.csv, do not exist any more; put the file back"),
    ("settings.data.source", "/etc/passwd", "passwd: expected a file whose name ends in"),
]


@pytest.mark.parametrize(
    ("path", "value", "message"), CONFIGURATIONS, ids=[f"{p}={v}"[:50] for p, v, _ in CONFIGURATIONS]
)
def test_invalid_edits_of_a_configuration_are_refused(path, value, message, run, refused):
    config = json.loads((run / "config.json").read_text())
    *parents, name = path.split(".")
    branch = config
    for parent in parents:
        branch = branch[parent]
    branch[name] = value
    (run / "config.json").write_text(json.dumps(config))
    assert message in refused("evaluate", run, "--samples", 2)


class Malicious:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.path, "w")


CUT = {"empty": lambda b: b"", "half": lambda b: b[: len(b) // 2], "noise": lambda b: b"\xff\xfe" * 300}


@pytest.mark.parametrize("damage", CUT)
@pytest.mark.parametrize("name", ["config.json", "splits.npz", "model.safetensors"])
@pytest.mark.parametrize("command", ["evaluate", "embed", "score"])
def test_damaged_files_of_a_run_are_refused(name, damage, command, run, refused):
    (run / name).write_bytes(CUT[damage]((run / name).read_bytes()))
    message = refused(command, run, "--samples", 2) if command != "embed" else refused(command, run)
    assert name in message
    assert "put back the file that `priory fit` wrote, or train again" in message


@pytest.mark.parametrize("damage", CUT)
def test_resuming_from_a_damaged_state_is_refused(damage, run, refused):
    (run / "state.safetensors").write_bytes(CUT[damage]((run / "state.safetensors").read_bytes()))
    message = refused("fit", "--resume", "--out", run)
    assert "state.safetensors: the training state is damaged" in message
    assert "remove it to train from the beginning" in message


@pytest.mark.parametrize("name", ["config.json", "splits.npz", "model.safetensors", "state.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_folder_or_a_pipe_instead_of_a_file_is_refused(name, kind, run, refused):
    (run / name).unlink()
    (run / name).mkdir() if kind == "folder" else os.mkfifo(run / name)
    arguments = ("fit", "--resume", "--out", run) if name == "state.safetensors" else ("evaluate", run)
    assert name in refused(*arguments)


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors"])
def test_weights_without_permission_to_read_are_refused(name, run, monkeypatch, capsys):
    """safetensors would report such a file as missing."""
    if os.geteuid() == 0:  # root may read every file

        def closed(path, mode):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr("priory._support.files.open", closed, raising=False)
    (run / name).chmod(0)
    arguments = ("fit", "--resume", "--out", run) if name == "state.safetensors" else ("evaluate", run)
    assert run_cli(*arguments) == 2
    assert f"{name}: cannot be read (Permission denied); change its permissions\n" in capsys.readouterr().err


def test_a_folder_instead_of_the_history_is_refused(run, done, refused):
    (run / "history.csv").unlink()
    (run / "history.csv").mkdir()
    assert "history.csv: cannot be written (Is a directory)" in refused(
        "fit", "--resume", "--no-evaluate", "--out", run
    )
    (run / "history.csv").rmdir()
    os.mkfifo(run / "history.csv")
    done("fit", "--resume", "--no-evaluate", "--out", run)  # the state contains the history
    assert (run / "history.csv").is_file()


def test_changed_and_missing_data_are_refused(done, refused, tmp_path):
    write(tmp_path / "data.csv", MATRIX)
    done("fit", "data.csv", *QUICK, "--no-evaluate", "--out", "own")
    write(tmp_path / "data.csv", np.concatenate([MATRIX, MATRIX]))
    assert "data.csv: expected the 40 rows that own was trained with, got 80" in refused("evaluate", "own")
    (tmp_path / "data.csv").unlink()
    assert "do not exist any more; put the file back" in refused("fit", "--resume", "--out", "own")


def test_a_damaged_comparison_is_refused(done, refused, tmp_path):
    arguments = (
        "compare",
        "digits",
        "--priors",
        "standard",
        "--seeds",
        1,
        "--epochs",
        1,
        "--samples",
        2,
        "--latent-dim",
        3,
        "--out",
        "all",
    )
    assert run_cli(*arguments) == 0
    for content in ("{", '{"nll": 3}', '{"nll": {"value": "x", "se": 1}}', "[" * 99_999):
        (tmp_path / "all" / "standard-0" / "metrics.json").write_text(content)
        assert "metrics.json: " in refused(*arguments)


# --- no code from data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "splits.npz", "model.safetensors", "state.safetensors"])
def test_a_pickle_instead_of_a_file_is_not_read(name, run, refused, tmp_path):
    (run / name).write_bytes(pickle.dumps(Malicious(tmp_path / "canary")))
    assert name in refused(*(("fit", "--resume", "--out", run) if name == "state.safetensors" else ("evaluate", run)))
    import torch

    torch.save({"x": Malicious(tmp_path / "canary")}, run / name)
    assert name in refused(*(("fit", "--resume", "--out", run) if name == "state.safetensors" else ("evaluate", run)))
    assert not (tmp_path / "canary").exists()


def malicious(path: Path) -> np.ndarray:
    values = np.empty((20, 2), dtype=object)
    values[:] = 0.0
    values[0, 0] = Malicious(path)
    return values


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "y.npz", "csr.npz", "splits.npz"])
def test_pickles_in_numpys_files_are_not_read(name, run, refused, tmp_path):
    payload = saved(malicious(tmp_path / "canary"), pickles=True)
    content = {
        "x.npy": payload,
        "x.npz": archive(x=payload),
        "y.npz": archive(x=saved(MATRIX), y=payload),
        "csr.npz": archive(
            data=payload, indices=payload, indptr=payload, shape=saved(np.array([20, 2])), format=payload
        ),
        "splits.npz": archive(train=payload),
    }[name]
    if name == "splits.npz":
        (run / name).write_bytes(content)
        assert "Python objects" in refused("evaluate", run)
    else:
        (tmp_path / name).write_bytes(content)
        assert "Python objects" in refused("fit", name, "--out", "out")
    assert not (tmp_path / "canary").exists()


def test_pickles_in_other_formats_are_not_unpickled(tmp_path, refused):
    """HDF5 and Parquet files may contain pickles as bytes; readers leave them unread."""
    import pyarrow
    import pyarrow.parquet

    payload = pickle.dumps(Malicious(tmp_path / "canary"))
    data = anndata.AnnData(MATRIX, uns={"payload": np.frombuffer(payload, np.uint8), "text": payload.hex()})
    data.write_h5ad(tmp_path / "x.h5ad")
    load_dataset(tmp_path / "x.h5ad")
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": payload}
    field = pyarrow.field("a", pyarrow.float32(), metadata=metadata)
    table = pyarrow.table([pyarrow.array(MATRIX[:, 0])], schema=pyarrow.schema([field], metadata={"pandas": payload}))
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    refused("fit", "x.parquet", "--out", "out")  # its metadata for pandas are not JSON
    assert not (tmp_path / "canary").exists()


def test_reading_archives_writes_no_files(tmp_path, monkeypatch):
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    with zipfile.ZipFile("x.npz", "w") as file:
        for name in ("../../x.npy", "/tmp/priory-canary.npy", "../../../etc/y.npy", "C:\\z.npy"):
            file.writestr(name, saved(MATRIX))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="expected one matrix"):
        load_dataset("x.npz")
    with zipfile.ZipFile("y.npz", "w") as file:
        file.writestr("../../x.npy", saved(MATRIX))
    assert load_dataset("y.npz").x.shape == (ROWS, 4)  # an array with a strange name, read in memory
    assert set(contents(tmp_path)) - set(before) == {str(inside / "y.npz")}
    assert not Path("/tmp/priory-canary.npy").exists()


def test_outputs_replace_a_link_but_not_its_target(run, done, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.csv").write_text("precious")
    (tmp_path / "z.csv").symlink_to(outside / "precious.csv")
    (tmp_path / "new.csv").symlink_to(outside / "not-there.csv")
    for name in ("z.csv", "new.csv"):
        done("embed", run, "--out", name)
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text().startswith("id,")
    (run / "metrics.json").unlink()
    (run / "metrics.json").symlink_to(outside / "precious.csv")
    done("evaluate", run, "--samples", 2)
    assert contents(outside) == {str(outside / "precious.csv"): b"precious"}


def test_links_to_other_files_in_an_h5ad_are_refused(refused, tmp_path):
    h5py = pytest.importorskip("h5py")
    write(tmp_path / "real.h5ad", MATRIX)
    (tmp_path / "secret.bin").write_bytes(MATRIX.tobytes())
    for name, link in {
        "external.h5ad": lambda f: f.__setitem__("X", h5py.ExternalLink("real.h5ad", "/X")),
        "raw.h5ad": lambda f: f.create_dataset("X", MATRIX.shape, "f4", external=[("secret.bin", 0, MATRIX.nbytes)]),
    }.items():
        shutil.copy(tmp_path / "real.h5ad", tmp_path / name)
        with h5py.File(tmp_path / name, "a") as file:
            del file["X"]
            link(file)
        assert "got links to other files ('X')" in refused("fit", name, "--out", "out")


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def little_memory(monkeypatch):
    """Let the checks see 40 MB of free memory; allocations still succeed."""
    monkeypatch.setattr(memory, "available_memory", lambda: 40_000_000)
    monkeypatch.setattr(cli, "limited_to_available_memory", nullcontext)


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_model_of_many_columns_is_refused_before_training(ending, little_memory, refused, tmp_path):
    write_wide = np.random.default_rng(0).integers(0, 2, (12, 20_000)).astype(np.uint8)
    np.save(tmp_path / "wide.npy", write_wide) if ending == "npy" else np.savez_compressed(
        tmp_path / "wide.npz", x=write_wide
    )
    message = refused("fit", f"wide.{ending}", "--out", "out")
    assert "training a model of 10404416 weights: would take about 749 MB of memory" in message
    cure = "use a smaller model (--set model.hidden=[64]), or drop columns (--drop)"
    assert f"this machine has 40 MB free; {cure}" in message


def test_a_model_of_many_sparse_columns_is_refused_before_training(little_memory, refused, tmp_path):
    rows = np.arange(200)
    counts = sparse.coo_matrix((np.ones(200, np.uint8), (rows, rows * 500)), shape=(200, 100_000))
    sparse.save_npz(tmp_path / "counts.npz", counts.tocsr())
    assert "training a model of 51" in refused("fit", "counts.npz", "--out", "out")


def test_files_larger_than_memory_are_refused(little_memory, refused, tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1000, 50_000), np.uint8))
    (tmp_path / "bomb.idx.gz").write_bytes(gzip.compress(idx((10_000, 10_000), 0x08) + bytes(100_000_000), 1))
    h5py = pytest.importorskip("h5py")
    shutil.copy(write(tmp_path / "real.h5ad", MATRIX), tmp_path / "bomb.h5ad")
    with h5py.File(tmp_path / "bomb.h5ad", "a") as file:
        del file["X"]
        file.create_dataset("X", (10**9, 10**9), "f4", chunks=(1000, 1000))
    assert "expected a matrix of 40 rows x 4 columns" in refused("fit", "bomb.h5ad", "--out", "out")
    pd.DataFrame({"a": np.zeros(5_000_000)}).to_parquet(tmp_path / "bomb.parquet")
    sparse.save_npz(tmp_path / "empty.npz", sparse.coo_matrix((10**9, 5)))
    for name in ("bomb.npz", "bomb.idx.gz", "bomb.parquet", "empty.npz"):
        message = refused("fit", name, "--out", "out")
        assert name in message
        assert "of memory, this machine has 40 MB free" in message


HUGE = [
    ("--latent-dim", 10**9),
    ("--latent-dim", 10**9, "--prior", "flow"),
    ("--set", "model.hidden=[1000000000]"),
    ("--grid", "99999x99999", "--prior", "gtm"),
    ("--components", 10**9, "--prior", "mog", "--latent-dim", 50),
    ("--latent-dim", 10**9, "--set", "model.hidden=[1000000000]"),
]


@pytest.mark.parametrize("options", HUGE, ids=str)
def test_a_model_that_cannot_be_allocated_is_refused(options, refused):
    assert "memory: there is not enough" in refused("fit", "digits", *options, "--out", "out")


def test_a_model_that_cannot_be_trained_is_refused_before_training(little_memory, refused):
    message = refused("fit", "digits", "--set", "model.hidden=[1000]", "--out", "out")
    assert (
        "training a model of 1203120 weights: would take about 87 MB of memory, this machine has 40 MB free" in message
    )


def test_samples_that_need_too_much_memory_are_refused(run, refused):
    assert "-n 1000000000000: 1000000000000 samples: would take about 48 TB of memory" in refused(
        "sample", run, "-n", 10**12
    )


@pytest.mark.slow
def test_a_million_columns_are_refused_without_much_memory(capsys, monkeypatch, tmp_path):
    """The sparse file has 200 x 10^6 numbers; the model of the varying columns would have a billion weights."""
    values = np.lib.format.open_memmap(tmp_path / "wide.npy", mode="w+", dtype=np.float32, shape=(200, 10**6))
    values[:, :3] = np.random.default_rng(0).normal(size=(200, 3))
    values[:, -1] = np.arange(200)
    values[::3, ::7] = 1
    del values
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "available_memory", lambda: 5_000_000_000)
    monkeypatch.setattr(cli, "limited_to_available_memory", nullcontext)
    assert run_cli("fit", "wide.npy", "--set", "model.hidden=[256]", "--out", "out") == 2
    errors = capsys.readouterr().err
    assert "training a model of " in errors
    assert "of memory, this machine has 5 GB free; use a smaller model (--set model.hidden=[64])" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["wide.npy"]
