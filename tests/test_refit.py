"""`refit`: a prior fitted to a trained encoder and decoder, which do not change; and the command `refit`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Laplace

import priory
from command_line import MATRIX, QUICK, must_be_refused, must_succeed, run_cli, write
from family import made, slow_if
from priory import VAE, BernoulliDecoder, MixtureOfGaussians, NormalEncoder, StandardNormal, diagonal_normal, mlp, refit
from priory.evaluation import Estimate
from priory.rows import Rows, TensorRows
from priory.training.refitting import Posteriors
from priory.training.settings import RefitSettings
from priory.workbench.cli.commands.refit import verdict
from priory.workbench.data import load_dataset
from priory.workbench.models.building import class_of_prior
from priory.workbench.models.facts import Features
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.priors import PRIORS


class Clusters(nn.Module):
    """q(z|x) = N(z | 3 x, diag(0.5^2)): with x = -1 or 1 the aggregate posterior is a mixture of two."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor):
        return diagonal_normal(self.gain * x, torch.full_like(x, 0.5))


def signs(rows: int, share: float = 0.25) -> Tensor:
    """Return rows, a share of them at (-1, -1) and the others at (1, 1)."""
    return torch.where(torch.arange(rows) < share * rows, -1.0, 1.0).unsqueeze(1).repeat(1, 2)


def model(prior: nn.Module | None = None) -> VAE:
    return VAE(Clusters(), BernoulliDecoder(mlp(2, [8], 2)), prior or StandardNormal(2)).eval()


def small(seed: int = 0) -> tuple[VAE, Tensor]:
    torch.manual_seed(seed)
    vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    return vae, torch.rand(80, 6).round()


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def assert_same(module: nn.Module, before: dict[str, Tensor]) -> None:
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("by_em", [True, False], ids=["em", "gradient"])
def test_the_optimum_is_the_aggregate_posterior(by_em):
    """The prior becomes the known density of two clusters, and E_q log p(z) its negative entropy."""
    torch.manual_seed(1)
    prior = MixtureOfGaussians(2, 2)
    if not by_em:
        prior.loc.data = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
        prior.fit_by_em = lambda *arguments, **options: False  # type: ignore[method-assign]
    options = {"epochs": 0 if by_em else 200, "learning_rate": 0.03, "batch_size": 400, "draws": 8}
    result = refit(model(), prior, signs(400), signs(200), seed=0, **options)
    assert result.by_em == by_em
    order = prior.loc[:, 0].argsort()
    torch.testing.assert_close(prior.loc[order], torch.tensor([[-3.0, -3.0], [3.0, 3.0]]), atol=0.06, rtol=0)
    torch.testing.assert_close(prior.log_scale.exp(), torch.full((2, 2), 0.5), atol=0.04, rtol=0)
    torch.testing.assert_close(prior.mixing_weights[order], torch.tensor([0.25, 0.75]), atol=0.02, rtol=0)
    entropy = (
        math.log(2 * math.pi * math.e * 0.25) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    )  # components are far apart
    assert result.course[result.best] == pytest.approx(-entropy, abs=0.05)


@pytest.mark.parametrize("name", PRIORS)
def test_refit_improves_every_prior_and_changes_nothing_else(name):
    vae, x = small()
    vae.encoder.train()
    before = copied(vae)
    prior = made(name, 2, Features(x, 0.0, 1.0), components=5, grid_network="rbf")
    result = refit(vae, prior, x[:60], x[60:], seed=0, epochs=8, batch_size=20)
    assert_same(vae, before)
    assert result.model.encoder is vae.encoder
    assert result.model.decoder is vae.decoder
    assert all(p.requires_grad for p in vae.parameters())
    assert all(p.grad is None for p in vae.parameters())
    assert not result.model.training
    assert result.by_em == (name in ("mog", "gtm", "gtm-vamp", "exemplar"))
    assert result.course[result.best] == max(result.course)
    if name == "standard":
        assert len(result.course) == 1
    else:
        assert len(result.course) == 9
        assert priory.evaluate(result.model, x[60:], num_samples=8)["nll"].value > 0


def test_refit_keeps_the_best_weights_and_stops_after_patience():
    vae, x = small()
    prior = MixtureOfGaussians(2, 3)
    result = refit(vae, prior, x[:60], x[60:], seed=0, epochs=300, patience=4, learning_rate=0.3)
    assert len(result.course) - 1 == result.best + 4
    assert result.course[result.best] == max(result.course)
    again = refit(vae, MixtureOfGaussians(2, 3), x[:60], x[60:], seed=0, epochs=result.best, learning_rate=0.3)
    assert again.course == result.course[: result.best + 1]
    assert_same(again.model.prior, copied(prior))


def test_a_seed_gives_the_same_bits_and_leaves_the_generator_unchanged():
    vae, x = small()
    state = torch.get_rng_state()
    priors = [refit(vae, MixtureOfGaussians(2, 3), x, seed=3, epochs=2).model.prior for _ in range(2)]
    assert_same(priors[0], copied(priors[1]))
    torch.set_rng_state(state)
    prior = MixtureOfGaussians(2, 3)
    state = torch.get_rng_state()
    refit(vae, prior, x, seed=3, epochs=2)
    assert torch.equal(torch.get_rng_state(), state)
    refit(vae, prior, x, epochs=0)
    assert not torch.equal(torch.get_rng_state(), state)


def test_the_models_own_prior_can_be_refitted():
    vae = model(MixtureOfGaussians(2, 2))
    result = refit(vae, vae.prior, signs(100), seed=0, epochs=1)
    assert result.model.prior is vae.prior
    assert vae.prior.loc.abs().min() > 2


def test_dynamically_binarized_rows_are_encoded_again():
    class Means(Rows):
        dynamic_binarization = True

        def __len__(self) -> int:
            return 200

        def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
            return torch.full((len(positions), 2), 0.5), positions

    posteriors = Posteriors(model(), Means())
    assert set(posteriors.loc.unique().tolist()) == {0.0, 3.0}
    first = posteriors.loc.clone()
    posteriors.encode()
    assert not torch.equal(posteriors.loc, first)
    result = refit(model(), MixtureOfGaussians(2, 4), Means(), signs(20), seed=0, epochs=2)
    assert len(result.course) == 3


def test_draws_have_the_moments_of_the_posteriors():
    torch.manual_seed(0)
    posteriors = Posteriors(model(), TensorRows(signs(10)))
    z = posteriors.draws(torch.tensor([0, 9]), 20_000)
    torch.testing.assert_close(z.mean(0), torch.tensor([[-3.0, -3.0], [3.0, 3.0]]), atol=0.02, rtol=0)
    torch.testing.assert_close(z.std(0), torch.full((2, 2), 0.5), atol=0.02, rtol=0)
    numbers, z = posteriors.many_draws()
    assert sorted(numbers.tolist()) == list(range(10))
    rows = z.reshape(10, 10, 2).mean(0)  # means over the draws of each row, in the order of the numbers
    torch.testing.assert_close(rows.sign(), signs(10)[numbers].sign())


def test_invalid_arguments_raise_clear_errors():
    vae, x = small()
    with pytest.raises(ValueError, match=r"prior: expected 2 latent dimensions, as the encoder has, got 3"):
        refit(vae, StandardNormal(3), x)
    with pytest.raises(TypeError, match=r"refit: unknown setting 'epoch'; did you mean 'epochs'\? settings: epochs, "):
        refit(vae, StandardNormal(2), x, epoch=3)
    odd = VAE(nn.Identity(), vae.decoder, StandardNormal(2))
    odd.encode = lambda x: Independent(Laplace(x[:, :2], torch.ones(len(x), 2)), 1)  # type: ignore[method-assign]
    odd.gain = nn.Parameter(torch.zeros(1))
    odd.encode(x)
    with pytest.raises(TypeError, match=r"model: refit expects an encoder that returns Independent\(Normal, 1\)"):
        refit(odd, StandardNormal(2), x)
    flow = made("flow", 2, Features(x))
    with pytest.raises(ArithmeticError, match=r"refit: expected a prior with finite .* lower the learning rate"):
        refit(vae, flow, x, seed=0, learning_rate=1e30, epochs=5)
    assert all(p.requires_grad for p in vae.parameters())


@pytest.mark.parametrize(
    ("name", "difference", "expected"),
    [
        ("nll", Estimate(-0.5, 0.1), "NLL: better by 0.500 ± 0.100 nats"),
        ("nll", Estimate(0.5, 0.1), "NLL: worse by 0.500 ± 0.100 nats; the old prior is better"),
        ("elbo", Estimate(-0.5, 0.1), "ELBO: worse by 0.500 ± 0.100 nats; the old prior is better"),
        ("elbo", Estimate(0.1, 0.1), "ELBO: no clear change on these rows (better by 0.100 ± 0.100 nats)"),
        ("elbo", Estimate(0.0, 0.0), "ELBO: the same"),
    ],
)
def test_the_verdict_states_whether_the_new_prior_is_better(name, difference, expected):
    assert verdict(name, difference) == expected


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train a run on digits for a short time."""
    out = tmp_path_factory.mktemp("refit") / "old"
    assert run_cli("fit", "digits", "--latent-dim", 3, *QUICK, "--out", out) == 0
    return out


LITTLE = ("--epochs", 2, "--samples", 4, "--set", "refit.batch_size=500")


@pytest.mark.parametrize("name", slow_if(PRIORS, set(PRIORS) - {"mog", "gtm", "noise-contrastive"}))
def test_the_command_gives_a_run_another_prior(name, trained, done, tmp_path):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    options = ("--components", 5) if name in ("mog", "vamp") else ("--grid", "3x3") if "gtm" in name else ()
    output = done("refit", trained, "--prior", name, *options, *LITTLE, "--out", "new")
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before
    assert f"prior: standard before, {name} now" in output
    assert "difference" in output
    assert ("it has no parameters to fit" in output) == (name == "standard")
    assert ("expectation maximization" in output) == (name in ("mog", "gtm", "gtm-vamp", "exemplar"))
    new, old = priory.load("new"), priory.load(trained)
    assert type(new.prior) is class_of_prior(name)
    for part in ("encoder", "decoder", "preprocess"):
        assert_same(getattr(new, part), getattr(old, part).state_dict())
    check_comparison(Path("new"), new, old)
    metrics = Path("new/metrics.json").read_bytes()
    done("evaluate", "new", "--samples", 4)
    assert Path("new/metrics.json").read_bytes() == metrics
    done("sample", "new", "-n", 3, "--out", "x.npz")
    done("score", "new", "--samples", 2, "--out", "scores.csv")
    done("embed", "new", "--out", "z.npz")
    assert ("map" in np.load("z.npz")) == ("gtm" in name)
    run = Run.open("new")
    assert run.refit_of is not None
    assert (run.refit_of.run, run.refit_of.prior, run.refit_of.settings.epochs) == (str(trained), "standard", 2)
    assert run.settings.training == Run.open(trained).settings.training
    assert getattr(run.settings.model, "grid_network", "rbf") == "rbf"
    assert {path.name for path in Path("new").iterdir()} == {
        "config.json", "made.json", "model.safetensors", "metrics.json", "refit.json", "report.html", "splits.npz",
        "figures",
    }  # fmt: skip


def check_comparison(folder: Path, new: VAE, old: VAE) -> None:
    """Compare the differences in `refit.json` with evaluations of both models."""
    comparison = json.loads((folder / "refit.json").read_text())
    rows = load_dataset("digits").rows("test")
    collected = []
    for vae in (old, new):
        torch.manual_seed(0)
        collected.append(priory.evaluate(vae, rows, num_samples=4).per_row)
    for name in ("elbo", "nll"):
        each = (collected[1][name] - collected[0][name]).double()
        assert comparison["difference"][name]["value"] == pytest.approx(float(each.mean()), abs=1e-4)
        assert comparison["difference"][name]["se"] == pytest.approx(float(each.std()) / math.sqrt(447), abs=1e-4)
        assert comparison["after"][name]["value"] == pytest.approx(float(collected[1][name].mean()), abs=1e-4)
        change = comparison["after"][name]["value"] - comparison["before"][name]["value"]
        assert comparison["difference"][name]["value"] == pytest.approx(change, abs=1e-4)


@pytest.mark.slow
def test_a_refit_can_be_refitted_and_has_a_default_folder(trained, done, tmp_path):
    done("refit", trained, "--prior", "mog", "--components", 3, *LITTLE, "--out", tmp_path / "one")
    done("refit", "one", "--prior", "gtm", "--grid", "3x3", "--set", "model.grid_network=mlp", *LITTLE)
    run = Run.open("one-gtm")
    assert run.refit_of is not None
    assert (Path(run.refit_of.run).name, run.refit_of.prior) == ("one", "mog")
    assert run.settings.model.grid_network == "mlp"
    assert isinstance(priory.load("one-gtm").prior.network[0], nn.Linear)


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["gaussian", "negative-binomial"])
@pytest.mark.parametrize("name", ["vamp", "gtm-vamp"])
def test_pseudo_inputs_are_in_the_space_of_the_encoders_input(name, likelihood, capsys, monkeypatch, tmp_path):
    """For standardized columns, one of them constant, and for counts, pseudo-inputs have about the features' mean."""
    monkeypatch.chdir(tmp_path)
    values = MATRIX + 5.0 if likelihood == "gaussian" else np.round(np.exp(MATRIX + 2))
    values = values.astype(np.float32).copy()
    if likelihood == "gaussian":
        values[:, 2] = 7.25
    path = write(tmp_path / "data.csv", values)
    must_succeed(capsys, "fit", path, "--likelihood", likelihood, *QUICK, "--out", "old")
    size = ("--components", 4) if name == "vamp" else ("--grid", "3x3")
    options = (*size, *LITTLE, "--out", "new")
    must_succeed(capsys, "refit", "old", "--prior", name, *options)
    vae, run = priory.load("new"), Run.open("new")
    features = vae.preprocess(run.load_dataset().rows("train").tensor())
    pseudo_inputs = vae.prior.pseudo_inputs
    assert pseudo_inputs.shape[1] == features.shape[1] == (3 if likelihood == "gaussian" else 4)
    spread = features.std()
    assert (pseudo_inputs.mean(0) - features.mean(0)).abs().max() < spread
    assert run.constants == ({"c": 7.25} if likelihood == "gaussian" else {})
    must_succeed(capsys, "sample", "new", "-n", 3, "--out", "x.csv")
    if likelihood == "gaussian":
        assert "7.25" in Path("x.csv").read_text()


REFUSED = [
    (("--prior", "vamq"), "--prior: unknown prior 'vamq'"),
    (
        ("--prior", "mog", "--set", "model.latent_dim=4"),
        "--set model.latent_dim: refit does not change the encoder and the",
    ),
    (("--prior", "mog", "--set", "model.prior=gtm"), "--set model.prior: expected the new prior in --prior"),
    (("--prior", "mog", "--set", "training.epochs=4"), "there is no such setting; did you mean refit.epochs?"),
    (("--prior", "mog", "--set", "refit.epochs=-1"), "refit.epochs: "),
    (("--prior", "mog", "--learning-rate", "1"), "did you mean --set refit.learning_rate=VALUE?"),
    (("--prior", "gtm", "--grid", "3x4"), "--grid 3x4: expected equal sides"),
    (("--prior", "vamp", "--components", "5000"), "expected at most 1000"),
    (("--prior", "mog", "--components", "20000"), "take fewer components"),
    (("--prior", "flow", "--set", "refit.learning_rate=1e30"), "(--set refit.learning_rate=1e+29)"),
    (("--prior", "mog", "--device", "nowhere"), "--device nowhere: expected auto, cpu"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[" ".join(options) for options, _ in REFUSED])
def test_invalid_options_are_refused(options, message, trained, refused):
    assert message in refused("refit", trained, *options, "--samples", 2, "--out", "new")


def test_occupied_folders_and_folders_without_a_run_are_refused(trained, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    refused = ("refit", trained, "--prior", "mog", *LITTLE)
    message = must_be_refused(capsys, tmp_path, *refused, "--out", "taken")
    assert "--out taken: expected an empty or a new folder, so that nothing is lost; choose another" in message
    Path("taken/notes.txt").rename("taken/model.safetensors")  # without a split, it is not the rest of a refit
    assert "expected an empty or a new folder" in must_be_refused(capsys, tmp_path, *refused, "--out", "taken")
    assert "choose another" in must_be_refused(capsys, trained, *refused, "--out", trained)
    assert "expected a run folder" in must_be_refused(capsys, tmp_path, "refit", "taken", "--prior", "mog")


def test_a_refit_cannot_be_resumed(trained, done, capsys, tmp_path):
    done("refit", trained, "--prior", "standard", *LITTLE, "--out", "new")
    message = must_be_refused(capsys, tmp_path, "fit", "--resume", "--out", "new")
    assert "--resume: new has its prior from `priory refit` and its other parts from" in message


def test_all_settings_have_descriptions():
    assert all(field.description for field in RefitSettings.model_fields.values())
