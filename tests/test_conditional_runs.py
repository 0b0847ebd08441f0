"""Conditions on the command line, from columns of a table to samples of one condition and densities on the map."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import run_cli
from priory import load
from priory.maps.model_surface import prior_behind
from priory.rows.context import batches_with_context
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.priors import PRIORS

SMALL = ("--epochs", "2", "--samples", "4", "--set", "model.hidden=[8]")
CONDITIONAL = [name for name in PRIORS if PRIORS[name].build_conditional is not None]
SIZES = {
    "gtm": ("--grid", "3"),
    "gtm-vamp": ("--grid", "3"),
    "mog": ("--components", "4"),
    "vamp": ("--components", "4"),
}
WIDTHS = {"flow": ("--set", "model.prior_hidden=[8]")}


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    batch, dose, kind = random.choice(["a", "b"], 90), random.choice([0, 1, 10], 90), random.integers(2, size=90)
    x = 3 * kind[:, None] * random.normal(size=(1, 4)) + 2 * (batch == "b")[:, None] + 0.3 * random.normal(size=(90, 4))
    frame = pd.DataFrame(x, columns=[f"g{i}" for i in range(4)]).assign(batch=batch, dose=dose, kind=kind.astype(str))
    frame.to_csv(tmp_path / "cells.csv", index=False)
    return frame


CONDITIONS = ("--condition", "batch", "--condition", "dose", "--set", 'data.quantities=["dose"]', "--labels", "kind")


@pytest.mark.parametrize(
    "prior",
    [pytest.param(name, marks=[] if name == "vamp" else pytest.mark.slow) for name in CONDITIONAL],
)
def test_all_commands_work_on_a_run_with_conditions(prior, table, done, tmp_path):
    options = (*CONDITIONS, *SMALL, *SIZES.get(prior, ()), *WIDTHS.get(prior, ()))
    done("fit", "cells.csv", "--prior", prior, *options, "--out", "run")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["nll"]["value"] > 0
    assert Run.open("run").encoding.names == ("batch", "dose")
    done("sample", "run", "-n", "7", "--given", "batch=b", "--given", "dose=2.5", "--out", "new.csv")
    assert pd.read_csv("new.csv").shape == (7, 5)
    done("embed", "run", "--out", "codes.npz")
    done("score", "run", "--samples", "4", "--out", "scores.csv")
    expected = pd.read_csv("scores.csv").log_likelihood
    done("score", "run", "cells.csv", "--samples", "4", "--out", "again.csv")
    np.testing.assert_allclose(pd.read_csv("again.csv").log_likelihood, expected, rtol=1e-5)
    assert (tmp_path / "run" / "figures" / "conditions.png").exists() == prior.startswith("gtm")
    assert ("density of batch = a" in (tmp_path / "run" / "report.html").read_text()) == prior.startswith("gtm")
    done("report", "run")


def test_a_loaded_run_accepts_rows_with_their_context(table, done):
    done("fit", "cells.csv", *CONDITIONS, *SMALL, "--out", "run")
    run = Run.open("run")
    context = run.encoding.encode({"batch": ["a"], "dose": ["1"]})
    assert load("run").given(context[0]).sample(3).shape == (3, 4)


@pytest.mark.slow
def test_resumed_training_gives_the_same_model(table, done):
    options = (*CONDITIONS, "--prior", "vamp", "--components", "4", "--set", "model.hidden=[8]", "--samples", "4")
    fixed = ("--set", "training.schedule=constant", "--warmup", "3")
    done("fit", "cells.csv", *options, *fixed, "--epochs", "4", "--out", "whole")
    done("fit", "cells.csv", *options, *fixed, "--epochs", "2", "--out", "parts")
    done("fit", "--resume", "--epochs", "4", "--out", "parts")
    assert (
        Run.open("whole").path.joinpath("model.safetensors").read_bytes()
        == Run.open("parts").path.joinpath("model.safetensors").read_bytes()
    )


@pytest.mark.slow
def test_refit_fits_a_conditional_prior(table, done):
    done("fit", "cells.csv", *CONDITIONS, *SMALL, "--out", "run")
    done(
        "refit", "run", "--prior", "gtm-vamp", "--grid", "3", "--set", "refit.epochs=2", "--samples", "4", "--out", "re"
    )
    done("sample", "re", "-n", "3", "--given", "batch=a", "--given", "dose=0", "--out", "new.csv")


@pytest.mark.slow
def test_priors_are_compared_under_conditions(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--condition", "batch", "--labels", "kind", "--drop", "dose", "--seeds", 1, "--latent-dim", 2, *SMALL)
    assert run_cli("compare", "cells.csv", "--priors", "standard,vamp,gtm", *options, "--out", "compared") == 0
    assert all(Path(f"compared/figures/{name}.png").exists() for name in ("contours", "maps", "rate_distortion"))


def test_a_prior_may_be_the_same_for_all_contexts(table, done):
    done("fit", "cells.csv", *CONDITIONS, *SMALL, "--prior", "vamp", "--components", "4",
         "--set", "model.prior_condition=false", "--out", "run")  # fmt: skip
    vae = load("run")
    a, b = (Run.open("run").encoding.encode({"batch": [name], "dose": [1]})[0] for name in "ab")
    assert vae.given(a).latent_prior().log_prob(vae.given(a).latent_prior().mean) == vae.given(
        b
    ).latent_prior().log_prob(vae.given(b).latent_prior().mean)


@pytest.mark.parametrize("prior", ["gtm", "gtm-vamp"])
def test_a_guide_ignores_the_conditions_if_the_prior_does(prior, table, done):
    done("fit", "cells.csv", *CONDITIONS, *SMALL, "--prior", prior, "--set", "model.points_per_side=3",
         "--set", "model.prior_condition=false", "--out", "run")  # fmt: skip
    vae, rows = load("run"), Run.open("run").load_dataset().rows("train")
    ((x, context),) = batches_with_context(rows, len(rows))
    features = vae.preprocess(x).double().numpy()
    regressors = np.column_stack([np.ones(len(x)), context[:, 1:].double().numpy()])  # without one of the two batches
    fitted = regressors @ np.linalg.lstsq(regressors, features)[0]
    guide = prior_behind(vae).guide
    np.testing.assert_allclose(guide.effect(context).numpy(), fitted - features.mean(0), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--condition", "bach"),
            "expected a column of cells.csv, got 'bach', which it does not have; did you mean 'batch'?",
        ),
        (
            ("--condition", "batch", "--prior", "family:StudentMixture"),
            "--condition: expected a prior that can condition",
        ),
        (
            ("--condition", "one"),
            "cells.csv: condition one: expected at least two categories, got '1' in all training rows",
        ),
        (
            ("--condition", "gap"),
            "cells.csv: condition gap: expected a category in each row, got no value in 9 of 90 rows (rows 0, 14,",
        ),
        (
            ("--set", "model.prior_condition=false"),
            "--set model.prior_condition=false: expected --condition COLUMN too",
        ),
        (
            (
                "--condition",
                "batch",
                "--prior",
                "resampled",
                "--set",
                "model.prior_condition=false",
                "--set",
                "model.base_prior=vamp",
                "--components",
                "4",
            ),
            "--condition: expected a prior that can condition",
        ),
        (("--set", 'data.quantities=["dose"]'), "quantities: expected names of conditions, got dose"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(arguments, message, table, refused, tmp_path):
    table["one"], table["gap"] = 1, np.where(table.index % 7, "x", "")
    table.loc[table.index % 3 == 1, "gap"] = "y"
    columns = [name for name in ("batch", "dose", "kind", "one", "gap") if name not in arguments]
    table.to_csv(tmp_path / "cells.csv", index=False)
    labels = [part for name in columns for part in ("--labels", name)]
    assert message in refused("fit", "cells.csv", *arguments, *labels, *SMALL, "--out", "run")


def test_rows_that_the_model_cannot_condition_on_are_refused(table, done, refused, tmp_path):
    done("fit", "cells.csv", *CONDITIONS, *SMALL, "--out", "run")
    table.assign(batch="c").to_csv(tmp_path / "other.csv", index=False)
    table.drop(columns="dose").to_csv(tmp_path / "less.csv", index=False)
    assert "condition batch: expected categories of the training rows (a, b), got 'c'" in refused(
        "score", "run", "other.csv", "--out", "s.csv"
    )
    assert "expected a column of less.csv, got 'dose'" in refused("score", "run", "less.csv", "--out", "s.csv")
    example = "such as --given batch=a --given dose="
    assert example in refused("sample", "run", "--out", "x.npz")
    assert example in refused("sample", "run", "--given", "batch=a", "--out", "x.npz")
    both = ("--given", "batch=a", "--given", "dose=much", "--out", "x.npz")
    assert "--given: condition dose: expected numbers" in refused("sample", "run", *both)
    done("fit", "cells.csv", "--labels", "kind", "--labels", "batch", "--drop", "dose", *SMALL, "--out", "plain")
    assert "has a model without conditions" in refused("sample", "plain", "--given", "batch=a", "--out", "x.npz")


def test_the_page_lists_the_conditions(table, done):
    done("fit", "cells.csv", *CONDITIONS, *SMALL, "--out", "run")
    assert dict(Run.open("run").described())["conditions"].startswith("batch (2 categories), dose (a quantity, ")
