"""Priors, likelihoods, networks and formats from other packages, from the data file to the pictures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import priory
from command_line import MATRIX, QUICK, must_be_refused, must_succeed, run_cli, write
from family import ExemplarPrior, PoissonDecoder, Residual, StudentMixture
from priory.workbench.settings.likelihoods import LIKELIHOODS
from priory.workbench.settings.networks import NETWORKS
from priory.workbench.settings.parts import PriorPart, settings_of
from priory.workbench.settings.priors import PRIORS

FIT = ("fit", "digits", "--latent-dim", 3, *QUICK)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def registered(monkeypatch):
    """Register parts by name for one test."""
    for registry in (PRIORS, LIKELIHOODS, NETWORKS):
        monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    PRIORS.register("student", StudentMixture)
    LIKELIHOODS.register("poisson", PoissonDecoder)
    NETWORKS.register("residual", Residual)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that writes the metadata of a distribution with one entry point, as pip does."""

    def write_metadata(name: str, group: str, entry_point: str) -> None:
        folder = tmp_path / "site" / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{entry_point}\n")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    return write_metadata


@pytest.mark.parametrize(
    ("prior", "options", "kind"),
    [
        ("family:StudentMixture", ("--components", 5, "--set", "model.degrees_of_freedom=3"), StudentMixture),
        ("family:ExemplarPrior", (), ExemplarPrior),
    ],
)
def test_a_prior_given_by_its_import_path_works_with_all_commands(prior, options, kind, capsys):
    output = must_succeed(capsys, *FIT, "--prior", prior, *options, "--out", "run")
    assert f"prior: {prior}" in output
    model = priory.load("run")
    assert type(model.prior) is kind
    pictures = {path.name for path in Path("run/figures").iterdir()}
    assert {"pairwise.png", "samples.png", "reconstructions.png"} <= pictures
    must_succeed(capsys, "evaluate", "run", "--samples", 2)
    must_succeed(capsys, "sample", "run", "-n", 3, "--out", "x.csv")
    must_succeed(capsys, "embed", "run", "--out", "z.csv")
    must_succeed(capsys, "score", "run", "--samples", 2, "--out", "scores.csv")
    must_succeed(capsys, "report", "run")
    assert prior in Path("run/report.html").read_text(encoding="utf-8")
    settings = json.loads(Path("run/config.json").read_text())["settings"]["model"]
    assert settings["prior"] == prior
    if kind is StudentMixture:
        assert (settings["components"], settings["degrees_of_freedom"]) == (5, 3.0)
        assert (model.prior.num_components, model.prior.degrees_of_freedom) == (5, 3.0)


@pytest.mark.slow
def test_a_module_in_the_working_directory_is_found(tmp_path):
    """Commands search the working directory for it; with `-P`, Python itself does not."""
    (tmp_path / "own.py").write_text("from family import StudentMixture as Own\n")
    command = [sys.executable, "-P", "-m", "priory", *map(str, FIT), "--prior", "own:Own", "--out", "run"]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_without_a_folder_name_is_named_after_the_class(capsys):
    must_succeed(capsys, *FIT, "--prior", "family:StudentMixture")
    assert Path("runs/digits-family.StudentMixture/metrics.json").is_file()


@pytest.mark.slow
def test_a_registered_prior_is_refitted_compared_and_listed(registered, capsys):
    assert "student" in must_succeed(capsys, "priors")
    must_succeed(capsys, *FIT, "--out", "run")
    must_succeed(capsys, "refit", "run", "--prior", "student", "--components", 4, "--epochs", 1, "--samples", 2)
    assert type(priory.load("run-student").prior) is StudentMixture
    size = ("--set", "model.hidden=[8]", "--set", "model.degrees_of_freedom=3", "--seeds", 1, "--samples", 2)
    compared = ("compare", "--priors", "standard,student", "--epochs", 1, "--no-report", *size, "--out", "both")
    assert run_cli(*compared) == 0
    assert "student" in Path("both/comparison.csv").read_text()


def test_an_installed_package_declares_a_prior(capsys, tmp_path, monkeypatch, install):
    install("student", "priory.priors", "t-mixture = family:StudentMixture")
    monkeypatch.setattr(PRIORS, "_parts", dict(PRIORS._parts))
    must_succeed(capsys, *FIT, "--prior", "t-mixture", "--components", 4, "--out", "run")
    assert type(priory.load("run").prior) is StudentMixture
    assert "t-mixture" in must_succeed(capsys, "priors")
    assert "did you mean t-mixture?" in must_be_refused(capsys, tmp_path, *FIT, "--prior", "t-mixtur", "--out", "other")


@pytest.fixture
def counts(tmp_path) -> Path:
    return write(tmp_path / "counts.csv", np.round(np.exp(MATRIX)))


def test_a_likelihood_has_its_own_support_preprocessing_and_options(counts, capsys, tmp_path):
    options = ("--likelihood", "family:PoissonDecoder", "--set", "model.offset=0.5")
    must_succeed(capsys, "fit", counts, *options, *QUICK, "--out", "run")
    model = priory.load("run")
    assert type(model.decoder) is PoissonDecoder
    assert model.decoder.offset == 0.5
    assert type(model.preprocess) is priory.Rescale
    must_succeed(capsys, "score", "run", "--samples", 2, "--out", "scores.csv")
    negative = write(tmp_path / "negative.csv", np.round(MATRIX * 3))
    message = must_be_refused(capsys, tmp_path, "fit", negative, *options, *QUICK, "--out", "other")
    assert "expected integers from 0 up for --likelihood family:PoissonDecoder, got integers -" in message
    real = write(tmp_path / "real.csv", np.abs(MATRIX))
    assert "got real values" in must_be_refused(capsys, tmp_path, "score", "run", real, "--out", "no.csv")


def test_a_likelihood_can_be_registered_by_name(registered, counts, capsys):
    must_succeed(capsys, "fit", counts, "--likelihood", "poisson", *QUICK, "--out", "run")
    assert type(priory.load("run").decoder) is PoissonDecoder


def test_networks_of_encoder_and_decoder_have_their_own_options(registered, capsys):
    must_succeed(capsys, *FIT, "--encoder", "residual", "--set", "model.num_blocks=2", "--out", "run")
    model = priory.load("run")
    assert type(model.encoder.network) is Residual
    assert len(model.encoder.network.blocks) == 2
    assert type(model.decoder.network) is not Residual
    must_succeed(capsys, *FIT[:-3], "--no-report", "--network", "residual", "--decoder", "gated", "--out", "other")
    assert type(priory.load("other").encoder.network) is Residual
    assert "GatedLinear" in repr(priory.load("other").decoder.network)


REFUSED = [
    (
        ("--prior", "standard", "--components", 5),
        "--components: belongs to the priors mog, vamp",
    ),
    (("--prior", "mog", "--grid", "4x4"), "--grid: belongs to the priors gtm, gtm-vamp; the prior is mog"),
    (("--prior", "mog", "--set", "model.initialize=data"), "--set model.initialize: belongs to the priors vamp, "),
    (
        ("--likelihood", "gaussian", "--set", "model.num_levels=3"),
        "the likelihoods categorical, discretized-logistic; the",
    ),
    (("--prior", "family:Nothing"), "--prior: family:Nothing: expected Nothing in family, which has no such name"),
    (("--prior", "nowhere:Student"), "No module named 'nowhere'; check its name, or put its folder on PYTHONPATH"),
    (("--prior", "math:pi"), "--prior: prior math:pi: expected a subclass of priory.Prior, or a PriorPart, got 3.14"),
    (("--prior", "family:RowWidthPrior"), "prior family:RowWidthPrior: expected a prior that its state_dict restores"),
    (
        ("--likelihood", "family:LooseDecoder"),
        "expected batch shape (1,) and event shape (64,), got (1, 64) and",
    ),
    (
        ("--encoder", "family:Residual", "--decoder", "family:Wide"),
        "setting num_blocks: expected a name that only one part",
    ),
    (("--network", "res"), "--network: unknown network 'res'; choose from mlp, gated, conv"),
    (("--encoder", "mpl"), "--encoder: unknown network 'mpl'; choose from mlp, gated, conv"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=[" ".join(map(str, options)) for options, _ in REFUSED])
def test_settings_that_the_parts_lack_are_refused(options, words, capsys, tmp_path):
    assert words in must_be_refused(capsys, tmp_path, "fit", "digits", *options, "--out", "run")


def test_only_parameters_that_json_can_represent_become_settings():
    def build(latent_dim: int, network: torch.nn.Module) -> None: ...

    with pytest.raises(TypeError, match=r"expected .*build to have parameters that settings can hold .*got network"):
        settings_of(build, ["latent_dim"])


def test_a_broken_package_breaks_only_the_commands_that_use_it(tmp_path, capsys, install):
    install("broken", "priory.priors", "broken = nowhere:Prior")
    words = "nowhere:Prior, which the package broken declares, cannot be imported"
    assert "vamp" in must_succeed(capsys, "priors")
    assert words in must_be_refused(capsys, tmp_path, *FIT, "--prior", "broken", "--out", "run")
    assert "belongs to" in must_be_refused(capsys, tmp_path, *FIT, "--prior", "mog", "--grid", "3x3", "--out", "run")
    must_succeed(capsys, *FIT, "--out", "run")


def test_an_installed_package_declares_a_format(tmp_path, install):
    install("lines", "priory.formats", ".lines = family:read_lines")
    (tmp_path / "x.lines").write_text("".join(f"{i} {i * i}\n" for i in range(20)))
    assert priory.load_dataset(tmp_path / "x.lines").x.shape == (20, 2)


def test_a_refit_accepts_a_setting_without_a_default(capsys):
    must_succeed(capsys, *FIT, "--out", "run")
    options = ("refit", "run", "--prior", "family:Spread", "--epochs", 1, "--samples", 2, "--out", "new")
    must_succeed(capsys, *options, "--set", "model.width=2.0")
    assert priory.load("new").prior.width == 2.0


@pytest.mark.slow
def test_priors_with_the_same_class_name_have_separate_folders(capsys):
    (Path("twin.py")).write_text("from family import StudentMixture as Twin\n\nclass StudentMixture(Twin):\n    pass\n")
    names = "family:StudentMixture,twin:StudentMixture"
    size = ("--set", "model.hidden=[8]", "--seeds", 1, "--samples", 2, "--epochs", 1, "--no-report")
    assert run_cli("compare", "--priors", names, *size, "--out", "both") == 0
    assert {"family.StudentMixture-0", "twin.StudentMixture-0"} <= {path.name for path in Path("both").iterdir()}


def test_a_registered_part_can_have_its_own_settings_and_builder(registered, capsys):
    settings = settings_of(StudentMixture, ["latent_dim", "num_components"])
    part = PriorPart(StudentMixture, settings, lambda settings, features: StudentMixture(settings.latent_dim, 7))
    PRIORS.register("seven", part)
    must_succeed(capsys, *FIT, "--prior", "seven", "--out", "run")
    assert priory.load("run").prior.num_components == 7


def test_reading_a_run_imports_no_module_beside_it(capsys, tmp_path, monkeypatch):
    """A run folder of unknown origin may name a module; a module beside the folder must not be imported."""
    must_succeed(capsys, *FIT, "--out", "run")
    Path("beside.py").write_text("import pathlib\npathlib.Path('imported').touch()\n")
    config = json.loads(Path("run/config.json").read_text())
    config["settings"]["model"]["prior"] = "beside:Prior"
    Path("run/config.json").write_text(json.dumps(config))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    message = must_be_refused(capsys, tmp_path, "evaluate", "run")
    assert re.search(r"settings.model: .*No module named 'beside'", message)
    assert not Path("imported").exists()
