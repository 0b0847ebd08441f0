"""An evaluation replaces metrics from more importance samples only on request."""

import json
import shutil
from pathlib import Path

import pytest

from command_line import MATRIX, run_cli, write

QUICK = ("--epochs", 1, "--set", "model.hidden=[8]", "--no-report")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "data.csv", MATRIX)
    assert run_cli("fit", folder / "data.csv", *QUICK, "--samples", 16, "--out", folder / "run") == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> Path:
    """Train a run whose metrics are from 16 samples, beside its data."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def samples_of(run: Path) -> tuple[int, int]:
    stored = json.loads((run / "metrics.json").read_text())["evaluation"]
    return stored["num_samples"], stored["seed"]


@pytest.mark.parametrize("more", [(), ("--seed", 3), ("--device", "cpu"), ("--json",)], ids=str)
def test_metrics_of_fewer_samples_are_printed_and_not_stored(more, run, capsys):
    before = (run / "metrics.json").read_bytes()
    capsys.readouterr()
    assert run_cli("evaluate", "run", "--samples", 8, *more) == 0
    captured = capsys.readouterr()
    assert "nll" in captured.out
    assert captured.err == (
        "note: run/metrics.json keeps its metrics from 16 samples; to store these from 8: priory evaluate run "
        "--samples 8 --replace\n"
    )
    assert (run / "metrics.json").read_bytes() == before


def test_metrics_of_fewer_samples_are_stored_with_replace(run, done):
    done("evaluate", "run", "--samples", 8, "--replace")
    assert samples_of(run) == (8, 0)


@pytest.mark.parametrize(("samples", "seed"), [(16, 1), (17, 0)])
def test_as_many_samples_or_more_are_stored(samples, seed, run, done):
    done("evaluate", "run", "--samples", samples, "--seed", seed)
    assert samples_of(run) == (samples, seed)


def test_metrics_of_other_rows_are_never_stored(run, done):
    before = (run / "metrics.json").read_bytes()
    done("evaluate", "run", "data.csv", "--samples", 64)
    assert (run / "metrics.json").read_bytes() == before


def test_resuming_a_finished_run_keeps_its_metrics(run, capsys):
    assert run_cli("fit", "--resume", "--samples", 8, "--no-report", "--out", "run") == 0
    assert "keeps its metrics from 16 samples" in capsys.readouterr().err
    assert samples_of(run) == (16, 0)


def test_a_model_that_is_trained_again_has_new_metrics(run, done):
    (run / "state.safetensors").unlink()
    done("fit", "--resume", "--samples", 8, "--no-report", "--out", "run")
    assert samples_of(run) == (8, 0)


def test_damaged_metrics_are_replaced(run, done):
    (run / "metrics.json").write_text("{")
    done("evaluate", "run", "--samples", 8)
    assert samples_of(run) == (8, 0)


def test_a_comparison_with_fewer_samples_keeps_the_metrics_of_its_runs(run, capsys):
    line = ("compare", "data.csv", "--priors", "standard", "--seeds", 1, *QUICK, "--latent-dim", 3, "--out", "all")
    assert run_cli(*line, "--samples", 16) == 0
    first = capsys.readouterr().out
    assert run_cli(*line, "--samples", 8) == 0
    assert "all/standard-0/metrics.json keeps its metrics from 16 samples" in capsys.readouterr().err
    assert samples_of(Path("all/standard-0")) == (16, 0)
    assert run_cli(*line, "--samples", 16) == 0
    assert capsys.readouterr().out == first
