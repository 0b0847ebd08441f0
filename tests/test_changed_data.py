"""A run recognizes its data by values, ids and split, for any type, storage and order of columns."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from command_line import contents, run_cli
from priory.workbench.data import load_dataset, read_arrays
from priory.workbench.data.fingerprint import Recorded, fingerprint_of
from priory.workbench.runs.vae_run import Run

READING = ("--ids", "name", "--labels", "kind")
VAE = ("--prior", "gtm-vamp", "--grid", "2x2", "--epochs", 2, "--warmup", 3, "--samples", 2)
QUICK = (*VAE, "--set", "model.hidden=[8]", "--no-report")
FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 4)).round(3), columns=list("abcd")).assign(
    same=2.0, count=np.arange(40) % 7, kind=["u", "v"] * 20, name=[f"r{i}" for i in range(40)]
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train runs of both kinds on one table; the training of the VAE is not finished."""
    folder = tmp_path_factory.mktemp("trained")
    FRAME.to_csv(folder / "data.csv", index=False)
    data = folder / "data.csv"
    assert run_cli("fit", data, *READING, *QUICK, "--out", folder / "vae") == 0
    assert run_cli("gtm", "fit", data, *READING, "--points-per-side", 3, "--out", folder / "gtm") == 0
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch) -> Path:
    """Copy the folder; the copied runs read the copied data."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for kind in ("vae", "gtm"):
        config = tmp_path / kind / "config.json"
        config.write_text(config.read_text().replace(str(trained), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_cell(column: str, value: object) -> pd.DataFrame:
    changed = FRAME.copy()
    changed[column] = changed[column].astype(object)
    changed.loc[7, column] = value
    return changed


CHANGES = {
    "rows in reverse": (FRAME[::-1], "rows with other values and ids"),
    "values in reverse": (FRAME[::-1].assign(name=FRAME["name"].to_numpy()), "rows with other values"),
    "two rows swapped": (FRAME.iloc[[1, 0, *range(2, 40)]], "rows with other values and ids"),
    "a column plus 3": (FRAME.assign(b=FRAME["b"] + 3), "rows with other values"),
    "two columns swapped": (FRAME.rename(columns={"a": "b", "b": "a"}), "rows with other values"),
    "a cell": (with_cell("c", 0.001), "rows with other values"),
    "a cell of a constant column": (with_cell("same", 2.5), "rows with other values"),
    "another id": (with_cell("name", "other"), "rows with other ids"),
    "a row more": (FRAME.iloc[[*range(40), 3]], "41"),
    "a row fewer": (FRAME.iloc[:39], "39"),
    "half of the rows": (FRAME.iloc[:20], "20"),
}
COMMANDS = {
    "evaluate": ("evaluate", "RUN", "--samples", 2),
    "embed": ("embed", "RUN", "--out", "z.csv"),
    "score": ("score", "RUN", "--samples", 2, "--out", "s.csv"),
    "map": ("map", "RUN", "--samples", 2, "--out", "m.csv"),
    "map of new rows with a label": ("map", "RUN", "new.csv", "--predict", "kind", "--samples", 2, "--out", "m.csv"),
    "report": ("report", "RUN"),
}
OF_VAES = {
    "resume": ("fit", "--resume", "--no-report", "--out", "RUN"),
    "resume for longer": ("fit", "--resume", "--epochs", 5, "--no-report", "--out", "RUN"),
    "refit": ("refit", "RUN", "--prior", "mog", "--out", "new"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_rows_are_refused(change, place, refused):
    frame, difference = CHANGES[change]
    frame.to_csv("data.csv", index=False)
    for kind in ("vae", "gtm"):
        message = refused("evaluate", kind, "--samples", 2)
        assert (
            f"data.csv: expected the 40 rows that {kind} was trained with, got {difference}: the file has " in message
        )
        assert "has changed since; restore it, or name it as new data" in message


@pytest.mark.parametrize(
    ("kind", "command"), [*(("vae", c) for c in (*COMMANDS, *OF_VAES)), *(("gtm", c) for c in COMMANDS)]
)
def test_every_command_that_reads_the_data_again_refuses_changed_rows(kind, command, place, refused):
    FRAME.to_csv("new.csv", index=False)
    FRAME[::-1].to_csv("data.csv", index=False)
    line = [kind if word == "RUN" else word for word in (COMMANDS | OF_VAES)[command]]
    assert "data.csv: expected the 40 rows that " in refused(*line)


def test_a_refitted_run_refuses_changed_rows(place, done, refused):
    done("refit", "vae", "--prior", "mog", "--components", 2, "--samples", 2, "--epochs", 1, "--out", "new")
    FRAME[::-1].to_csv("data.csv", index=False)
    assert "data.csv: expected the 40 rows that new was trained with" in refused("evaluate", "new")


@pytest.mark.parametrize("more", [(), ("--seeds", 2)], ids=["the same", "more seeds"])
def test_a_comparison_refuses_changed_rows(more, place, refused):
    line = ("compare", "data.csv", *READING, "--priors", "standard", "--latent-dim", 2, "--epochs", 1)
    line = (*line, "--samples", 2, "--no-report", "--out", "all")
    assert run_cli(*line, "--seeds", 1) == 0
    FRAME[::-1].to_csv("data.csv", index=False)
    assert run_cli(*line, *(more or ("--seeds", 1))) == 2


SAME = {
    "columns in another order": FRAME[FRAME.columns[::-1]],
    "another column": FRAME.assign(extra=1.5),
    "whole numbers as floats": FRAME.assign(count=FRAME["count"].astype(float)),
    "other labels": FRAME.assign(kind="w"),
}


@pytest.mark.parametrize("change", SAME)
def test_changes_of_the_file_that_keep_the_rows_give_the_same_bits(change, place, done):
    done("score", "vae", "--samples", 2, "--out", "before.npz")
    SAME[change].to_csv("data.csv", index=False)
    done("score", "vae", "--samples", 2, "--out", "after.npz")
    before, after = read_arrays(Path("before.npz")), read_arrays(Path("after.npz"))
    assert (before["log_likelihood"] == after["log_likelihood"]).all()
    assert (before["split"] == after["split"]).all()


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_reordered_columns_have_the_same_binarization(binarize, tmp_path, done):
    gray = pd.DataFrame(np.random.default_rng(1).integers(0, 9, (40, 5)), columns=list("abcde"))
    gray.to_csv(tmp_path / "gray.csv", index=False)
    done("fit", "gray.csv", "--binarize", binarize, "--epochs", 1, "--no-evaluate", "--no-report", "--out", "run")
    before = Run.open("run").load_dataset(drawn=True).x
    gray[list("daceb")].to_csv(tmp_path / "gray.csv", index=False)
    assert (Run.open("run").load_dataset(drawn=True).x == before).all()


def test_a_changed_file_given_as_an_argument_is_new_data(place, done):
    for frame, expected in ((FRAME[FRAME.columns[::-1]], {"train", "valid", "test"}), (FRAME[::-1], {"new"})):
        frame.to_csv("data.csv", index=False)
        done("score", "vae", "data.csv", "--samples", 2, "--out", "s.csv")
        assert set(pd.read_csv("s.csv")["split"]) == expected


def test_a_refused_resume_leaves_the_run_unchanged(place, refused):
    before = contents(place / "vae")
    FRAME[::-1].to_csv("data.csv", index=False)
    refused("fit", "--resume", "--epochs", 9, "--out", "vae")
    assert contents(place / "vae") == before


def test_reordered_columns_without_names_are_refused(tmp_path, done, refused):
    x = np.random.default_rng(0).normal(size=(40, 4))
    np.save(tmp_path / "x.npy", x)
    done("gtm", "fit", "x.npy", "--points-per-side", 3, "--out", "run")
    np.save(tmp_path / "x.npy", x[:, ::-1])
    assert "got rows with other values" in refused("evaluate", "run")
    np.save(tmp_path / "x.npy", np.c_[x, x[:, :1]])
    assert "x.npy: expected 4 columns, as many as the model was trained on, got 5" in refused("evaluate", "run")


# --- the fingerprint itself -------------------------------------------------------------------------------------------

IDS = np.array([f"r{i}" for i in range(30)])
COUNTS = np.random.default_rng(0).poisson(0.3, (30, 50))
REALS = np.where(COUNTS > 0, np.random.default_rng(1).normal(size=COUNTS.shape), 0).astype(np.float32)
GAPS = np.where(COUNTS > 1, np.nan, REALS)


@pytest.mark.parametrize("values", [COUNTS, REALS, GAPS, COUNTS - 300, COUNTS * 2**40], ids=range(5))
def test_the_fingerprint_does_not_depend_on_the_type_of_the_values(values):
    types = [np.float32, np.float64] if values.dtype.kind == "f" else [np.int64, np.float64]
    if values.dtype.kind == "i" and values.max() < 2**24:
        types += [np.int32, np.float32]
    assert len({fingerprint_of(values.astype(kind), IDS) for kind in types}) == 1


@pytest.mark.parametrize("values", [COUNTS, REALS, GAPS], ids=["counts", "reals", "gaps"])
def test_the_fingerprint_does_not_depend_on_dense_or_sparse_storage(values):
    columns = tuple(f"c{i}" for i in range(50))
    matrix = sparse.csr_matrix(values)
    explicit = sparse.csr_matrix(np.ones_like(values))  # with stored zeros
    explicit.data[:] = values.ravel()
    for was in (values, matrix):
        recorded = Recorded("run", columns, fingerprint_of(was, IDS))
        for now in (values, matrix, explicit):
            recorded.require_same(now, IDS, "x.npz")
        other = matrix.copy()
        other.data[3] += 1
        with pytest.raises(ValueError, match="got rows with other values"):
            recorded.require_same(other, IDS, "x.npz")


def test_the_fingerprint_uses_all_digits_of_float64():
    values = 1.6e9 + np.arange(60.0).reshape(30, 2) / 64
    other = values.copy()
    other[4, 1] += 1 / 64
    assert fingerprint_of(values, IDS) != fingerprint_of(other, IDS)


def test_the_fingerprint_depends_on_each_value_and_id():
    seen = {fingerprint_of(REALS, IDS)}
    for i in range(30):
        changed, ids = REALS.copy(), IDS.copy()
        changed[i, i] += 1
        ids[i] = "x"
        seen |= {fingerprint_of(changed, IDS), fingerprint_of(REALS, ids)}
    assert len(seen) == 61


@pytest.mark.parametrize("ending", ["csv", "parquet", "h5ad"])
def test_a_table_has_one_fingerprint_in_every_format(ending, tmp_path):
    frame = FRAME.drop(columns=["kind", "name"])
    np.savez(tmp_path / "t.npz", x=frame.to_numpy(), ids=frame.index.astype(str).to_numpy(dtype=str))
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        anndata = pytest.importorskip("anndata")
        anndata.AnnData(frame.astype(float).set_axis(frame.index.astype(str))).write_h5ad(path)
    assert load_dataset(path).fingerprint == load_dataset(tmp_path / "t.npz").fingerprint


def test_the_fingerprint_of_an_embedded_data_set_is_checked():
    digits = load_dataset("digits")
    recorded = Recorded("run", digits.columns, digits.fingerprint)
    assert load_dataset("digits", split="shuffled", recorded=recorded).fingerprint == digits.fingerprint
