"""A column with one value is left out of a Gaussian model, and restored when rows of data are written."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import priory
from command_line import MATRIX, QUICK, must_succeed, write
from priory.workbench.data import constant_columns, load_dataset
from priory.workbench.runs.vae_run import Run

CONSTANT = MATRIX.copy()
CONSTANT[:, 2] = 7.25


@pytest.fixture
def done(capsys, tmp_path, monkeypatch):
    """Run a command that must succeed with an empty stderr; return its output."""
    monkeypatch.chdir(tmp_path)
    return partial(must_succeed, capsys)


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_constant_columns_equal_those_of_a_loop(form, tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (5000, 30)).astype(np.float64)
    x[:, [0, 3, 7]] = [0.0, 1.0, -2.5]
    x[4500, 7] = np.nextafter(-2.5, 0)  # the same number in float32, the precision of models
    x[:4999, 5] = 0.0
    x[4999, 5] = 1.0
    np.save(tmp_path / "x.npy", x) if form == "dense" else sparse.save_npz(tmp_path / "x.npz", sparse.csr_matrix(x))
    data = load_dataset(tmp_path / ("x.npy" if form == "dense" else "x.npz"))
    for split in ("train", "valid"):
        rows = data.splits[split]
        seen = x[rows].astype(np.float32)
        expected = {f"x{j}": float(seen[0, j]) for j in range(30) if len({*seen[:, j].tolist()}) == 1}
        assert constant_columns(data.rows(split)) == expected
        assert {"x0", "x3", "x7"} <= set(expected)


SLOW = [pytest.param(ending, marks=pytest.mark.slow) for ending in ("npy", "h5ad")]


@pytest.mark.parametrize("ending", ["csv", *SLOW])
def test_a_constant_column_is_left_out_with_a_message_and_restored_in_samples(ending, done, tmp_path):
    path = write(tmp_path / f"data.{ending}", CONSTANT)
    name = "x2" if ending == "npy" else "c"
    output = done("fit", path, "--prior", "vamp", "--components", 4, *QUICK, "--out", "run")
    assert f"left out of the model: 1 column has one value in all training rows ({name!r} = 7.25)" in output
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["constants"] == {name: 7.25}
    assert config["facts"]["num_inputs"] == 3
    assert len(config["columns"]) == 4
    assert priory.load(tmp_path / "run").preprocess.loc.shape == (3,)
    done("sample", "run", "-n", 5, "--out", "x.npz")
    x = np.load(tmp_path / "x.npz")["x"]
    assert x.shape == (5, 4)
    assert (x[:, 2] == 7.25).all()
    assert (x[:, [0, 1, 3]].std(0) > 0).all()
    done("sample", "run", "-n", 5, "--out", "x.csv")
    assert list(pd.read_csv(tmp_path / "x.csv").columns) == ["id", *config["columns"]]
    for command in ("evaluate", "embed", "score"):
        done(command, "run", *(() if command == "evaluate" else ("--out", f"{command}.csv")))
    done("fit", "--resume", "--no-evaluate", "--out", "run")


def test_new_data_may_lack_a_constant_column_or_have_other_values_in_it(done, tmp_path):
    write(tmp_path / "data.csv", CONSTANT)
    done("fit", "data.csv", *QUICK, "--no-evaluate", "--out", "run")
    frame = pd.DataFrame(CONSTANT, columns=list("abcd"))
    frame.drop(columns="c").to_csv(tmp_path / "less.csv", index=False)
    frame.assign(c=-1.0)[["d", "c", "b", "a"]].to_csv(tmp_path / "turned.csv", index=False)
    scores = []
    for name in ("data.csv", "less.csv", "turned.csv"):
        done("score", "run", name, "--samples", 4, "--out", "s.csv")
        scores.append(pd.read_csv(tmp_path / "s.csv")["log_likelihood"])
    pd.testing.assert_series_equal(scores[0], scores[1])
    pd.testing.assert_series_equal(scores[0], scores[2])


def test_other_likelihoods_keep_constant_columns(done, tmp_path):
    output = done("fit", "digits", *QUICK, "--no-evaluate", "--out", "run")
    assert "left out" not in output
    assert Run.open(tmp_path / "run").constants == {}


def test_images_are_drawn_with_their_constant_pixels(done, tmp_path):
    arguments = ("fit", "digits", "--likelihood", "gaussian", "--prior", "vamp", *QUICK, "--no-evaluate")
    output = done(*arguments, "--out", "run")
    assert (
        "left out of the model: 3 columns have one value in all training rows ('x0' = 0, 'x32' = 0, 'x39' = 0)"
        in output
    )
    assert (tmp_path / "run" / "figures" / "pseudo_inputs.png").exists()
    run = Run.open(tmp_path / "run")
    assert (run.facts.num_inputs, run.facts.image_shape, len(run.modeled)) == (61, (8, 8), 61)
    x = torch.rand(2, 3, 61)
    whole = run.restored(x)
    assert whole.shape == (2, 3, 64)
    assert (whole[..., [0, 32, 39]] == 0).all()
    varying = [i for i in range(64) if i not in (0, 32, 39)]
    assert torch.equal(whole[..., varying], x)
    done(*arguments, "--network", "conv", "--set", "model.hidden=[4,4]", "--out", "conv")  # needs whole images
    assert Run.open(tmp_path / "conv").constants == {}


def test_a_column_that_varies_only_outside_of_the_training_rows_is_constant(done, tmp_path):
    train, valid, test = MATRIX[:20].copy(), MATRIX[20:30], MATRIX[30:]
    train[:, 1] = 3.0
    np.savez(tmp_path / "x.npz", train_x=train, valid_x=valid, test_x=test)
    assert "('x1' = 3)" in done("fit", "x.npz", *QUICK, "--out", "run")
