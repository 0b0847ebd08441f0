"""Several levels on the command line: runs, maps, refits, comparisons and errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import priory
from command_line import MATRIX, QUICK, must_be_refused, must_succeed, run_cli, write
from priory import HierarchicalPrior
from priory.priors import GTMVampPrior, MixtureOfGaussians

LEVELS = ("--levels", 2, "--latent-dim", 3, "--set", "model.lower_dims=[2]")
GRID = ("--prior", "gtm-vamp", "--grid", "3x3")


@pytest.fixture
def table(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "rows.csv", MATRIX)


@pytest.mark.slow
def test_the_map_of_a_run_with_two_levels_shows_the_top_level(table, capsys):
    output = must_succeed(capsys, "fit", table, *GRID, *LEVELS, *QUICK, "--out", "run")
    assert "levels: 3 + 2 latent dimensions; the first level is the top one, with the prior" in output
    assert "means, scales and map coordinates" in output
    vae = priory.load("run")
    assert (vae.encoder.levels, vae.prior.levels) == ((3, 2), (None, 2))
    assert isinstance(vae.prior, HierarchicalPrior)
    assert isinstance(vae.prior.top, GTMVampPrior)
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["rate_level_1"]["value"] + metrics["rate_level_2"]["value"] == pytest.approx(
        metrics["rate"]["value"]
    )
    assert "used_nodes" in metrics
    assert Path("run/figures/map.png").exists()
    must_succeed(capsys, "embed", "run", "--out", "z.npz")
    z = np.load("z.npz")
    assert (z["z_mean"].shape, z["z_scale"].shape, z["map"].shape) == ((40, 5), (40, 5), (40, 2))


@pytest.mark.slow
def test_a_run_with_two_levels_can_be_resumed_reported_and_refitted(table, capsys):
    must_succeed(capsys, "fit", table, *GRID, *LEVELS, *QUICK, "--out", "run", "--set", "training.warmup=10")
    must_succeed(capsys, "fit", "--resume", "--out", "run", "--epochs", 2, "--no-evaluate", "--no-report")
    must_succeed(capsys, "report", "run")
    assert "3 + 2" in Path("run/report.html").read_text()
    before = priory.load("run")
    must_succeed(
        capsys, "refit", "run", "--prior", "mog", "--components", 3, "--epochs", 1, "--samples", 2, "--out", "new"
    )
    after = priory.load("new")
    assert isinstance(after.prior.top, MixtureOfGaussians)
    for part in ("encoder", "decoder"):
        states = (getattr(vae, part).state_dict() for vae in (before, after))
        assert all(torch.equal(old, new) for old, new in zip(*(state.values() for state in states), strict=True))
    must_succeed(capsys, "sample", "new", "-n", 3, "--out", "x.npz")
    must_succeed(capsys, "score", "new", "--samples", 2, "--out", "scores.csv")


@pytest.mark.slow
def test_priors_with_two_levels_can_be_compared(table):
    options = ("--epochs", 1, "--samples", 2, "--set", "model.hidden=[8]", "--levels", 2, "--seeds", 1)
    assert run_cli("compare", table, "--priors", "standard,gtm-vamp", *options, "--out", "compared") == 0
    assert Path("compared/figures/maps.png").exists()


@pytest.mark.slow
def test_a_refit_with_levels_starts_from_the_trained_conditional(table, capsys):
    must_succeed(capsys, "fit", table, *LEVELS, *QUICK, "--out", "run")
    must_succeed(capsys, "refit", "run", "--prior", "standard", "--epochs", 0, "--samples", 2, "--out", "new")
    old, new = (priory.load(folder).prior.state_dict() for folder in ("run", "new"))
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--levels", 3, "--set", "model.lower_dims=[2]"),
            "expected as many lower_dims as levels below the top, 2, got 1",
        ),
        (("--set", "model.lower_dims=[2]"), "expected as many lower_dims as levels below the top, 0, got 1"),
        (("--levels", 6), "model.levels: expected at most 5, got 6"),
        (("--levels", 0), "model.levels: expected at least 1, got 0"),
        (("--levels", 2, "--set", "model.lower_dims=[0]"), "model.lower_dims.0: expected at least 1, got 0"),
    ],
)
def test_levels_that_do_not_match_are_refused(options, message, table, capsys, tmp_path):
    assert message in must_be_refused(capsys, tmp_path, "fit", table, *options, "--out", "run")
