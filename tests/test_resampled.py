"""Resampled and noise-contrastive priors, compared with quadrature and closed forms."""

import json
import math
from pathlib import Path

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, StudentT

import priory
from command_line import QUICK, run_cli
from family import made
from oracles import small_encoder
from priory import (
    VAE,
    BernoulliDecoder,
    DensityPrior,
    Mixture,
    MixtureOfGaussians,
    NoiseContrastivePrior,
    NormalEncoder,
    ResampledPrior,
    StandardNormal,
    VampPrior,
    as_model,
    check_prior,
    diagonal_normal,
    evaluate,
    mlp,
    refit,
)
from priory.distributions.resampled import DRAWS_AT_ONCE, Resampled, log_expectation
from priory.priors.resampled import DRAWS, TRAINING_DRAWS
from priory.workbench.models.facts import Features
from priory.workbench.settings.model import ModelSettings
from priory.workbench.settings.priors import PRIORS, BaseSettings

GRID = torch.linspace(-12, 12, 24_001, dtype=torch.float64).unsqueeze(-1)
CELL = 24 / 24_000
TRUNCATIONS = [None, 2, 5, 100]


def standard() -> Independent:
    return diagonal_normal(torch.zeros(1), torch.ones(1))


def two_modes() -> Mixture:
    return Mixture(
        torch.tensor([0.0, 2.0]), diagonal_normal(torch.tensor([[-2.0], [1.0]]), torch.tensor([[0.5], [1.5]]))
    )


BASES = {"normal": standard, "mixture": two_modes}


def bumpy(z: Tensor) -> Tensor:
    """A logarithm of an acceptance with several bumps; its mean under N(0, 1) is about 0.1."""
    return nn.functional.logsigmoid(4 * torch.sin(3 * z) - 4).squeeze(-1)


def gaussian(z: Tensor) -> Tensor:
    """exp(-z^2 / 2): times N(0, 1) and normalized, this is N(0, 1/2), and Z = sqrt(1/2)."""
    return -0.5 * z.square().sum(-1)


def integral(log_values: Tensor) -> Tensor:
    return log_values.exp().sum() * CELL


def tilted() -> nn.Module:
    """A network with a strongly varying acceptance."""
    torch.manual_seed(0)
    network = mlp(2, [16], 1, activation=nn.Tanh)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)
    return network


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_the_density_agrees_with_quadrature(base, truncation):
    torch.manual_seed(0)
    p_base = base()
    p_z = Resampled(p_base, bumpy, truncation, 2**16)
    log_base = p_base.log_prob(GRID)
    normalizer = integral(log_base + bumpy(GRID))
    assert float(p_z.log_normalizer) == pytest.approx(float(normalizer.log()), abs=4 * float(p_z.relative_error))
    assert 0 < p_z.relative_error < 0.02
    rejected = 0.0 if truncation is None else (1 - normalizer) ** (truncation - 1)
    expected = log_base.exp() * ((1 - rejected) * bumpy(GRID).exp() / normalizer + rejected)
    torch.testing.assert_close(p_z.log_prob(GRID).exp(), expected, rtol=0.05, atol=1e-8)
    assert float(integral(p_z.log_prob(GRID))) == pytest.approx(1, abs=4 * float(p_z.relative_error))


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_the_sampler_draws_from_the_density(base, truncation):
    torch.manual_seed(1)
    p_z = Resampled(base(), bumpy, truncation, 2**16)
    cumulated = (p_z.log_prob(GRID).exp() * CELL).cumsum(0)
    draws = p_z.sample((20_000,)).double().squeeze(-1)
    places = ((draws + 12) / CELL).long()
    assert kstest(cumulated[places], "uniform").pvalue > 1e-3


def test_a_gaussian_acceptance_of_a_gaussian_is_a_gaussian():
    torch.manual_seed(0)
    p_z = Resampled(diagonal_normal(torch.zeros(3), torch.ones(3)), gaussian, None, 2**17)
    assert float(p_z.log_normalizer) == pytest.approx(-1.5 * math.log(2), abs=4 * float(p_z.relative_error))
    z = torch.randn(50, 3)
    expected = Normal(0.0, math.sqrt(0.5)).log_prob(z).sum(-1)
    torch.testing.assert_close(p_z.log_prob(z), expected, rtol=0, atol=0.01)
    assert kstest(p_z.sample((5000,)).flatten(), "norm", args=(0, math.sqrt(0.5))).pvalue > 1e-3


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("training", [True, False])
def test_a_prior_that_accepts_everything_is_its_base(truncation, training):
    network = nn.Linear(2, 1)
    nn.init.zeros_(network.weight)
    nn.init.constant_(network.bias, 200.0)
    base = MixtureOfGaussians(2, 3)
    p_z = ResampledPrior(base, network, truncation=truncation).train(training)()
    z = torch.randn(20, 2)
    torch.testing.assert_close(p_z.log_prob(z), base().log_prob(z))
    assert float(p_z.relative_error) == pytest.approx(0, abs=1e-6)
    p_z.log_prob(z).sum().backward()
    assert all(p.grad.isfinite().all() for p in (*base.parameters(), *network.parameters()))


@pytest.mark.parametrize("truncation", [2, 100])
def test_a_truncated_prior_that_accepts_nothing_is_its_base(truncation):
    network = nn.Linear(2, 1)
    nn.init.constant_(network.bias, -2000.0)
    base = StandardNormal(2)
    p_z = ResampledPrior(base, network, truncation=truncation).eval()()
    z = torch.randn(20, 2)
    log_prob = p_z.log_prob(z)
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert network.weight.grad.isfinite().all()
    assert kstest(p_z.sample((2000,)).flatten(), "norm").pvalue > 1e-3


def student(parameter: Tensor) -> Independent:
    return Independent(StudentT(torch.tensor(5.0).to(parameter), parameter[:1], parameter[1:2].exp()), 1)


def of_torch(parameter: Tensor) -> MixtureSameFamily:
    components = Independent(Normal(parameter[:2].unsqueeze(-1), torch.ones(2, 1).to(parameter)), 1)
    return MixtureSameFamily(Categorical(logits=parameter[2:]), components)


def ours(parameter: Tensor) -> Mixture:
    return Mixture(parameter[2:], diagonal_normal(parameter[:2].unsqueeze(-1), torch.ones(2, 1)))


@pytest.mark.parametrize("family", [student, of_torch, ours])
def test_the_gradient_of_the_normalizer_agrees_with_quadrature(family):
    """For pathwise gradients, for scores if a distribution has no pathwise ones, and for components of a mixture."""
    torch.manual_seed(0)
    parameter = torch.tensor([-1.0, 0.7, 0.3, -0.4], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_expectation(family(parameter), gaussian, 2**17)[0], parameter)
    (expected,) = torch.autograd.grad(integral(family(parameter).log_prob(GRID) + gaussian(GRID)).log(), parameter)
    torch.testing.assert_close(gradient, expected.float(), rtol=0.02, atol=0.01)


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_the_standard_error_equals_the_spread_of_estimates(base):
    torch.manual_seed(0)
    estimates = [log_expectation(base(), bumpy, 2000) for _ in range(300)]
    values, errors = (torch.stack(each) for each in zip(*estimates, strict=True))
    assert float(values.std()) == pytest.approx(float(errors.square().mean().sqrt()), rel=0.15)


@pytest.mark.parametrize("number", [3, DRAWS_AT_ONCE, DRAWS_AT_ONCE + 1])
def test_the_number_of_draws_is_the_requested_one(number):
    counts = []

    def counted(z: Tensor) -> Tensor:
        counts.append(z.shape[:-1].numel())
        return torch.zeros(z.shape[:-1])

    log_expectation(standard(), counted, number)
    assert sum(counts) == number
    assert max(counts) <= DRAWS_AT_ONCE
    counts.clear()
    log_expectation(two_modes(), counted, 2 * number)
    assert sum(counts) == 2 * number


def test_training_uses_new_draws_and_evaluation_leaves_the_generator_unchanged():
    prior = ResampledPrior(StandardNormal(2), tilted()).train()
    assert prior().log_normalizer != prior().log_normalizer
    prior.eval()
    state = torch.get_rng_state()
    first = prior().log_normalizer
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(prior().log_normalizer, first)


def test_estimates_in_training_and_evaluation_agree():
    prior = ResampledPrior(StandardNormal(2), tilted())
    evaluated = prior.eval()()
    prior.train()
    trained = torch.stack([prior().log_normalizer.detach() for _ in range(50)])
    error = 5 * float(evaluated.relative_error) * math.sqrt(DRAWS / TRAINING_DRAWS / 50)
    assert float(trained.mean()) == pytest.approx(float(evaluated.log_normalizer.detach()), abs=error)


@pytest.mark.parametrize("truncation", [None, 100])
def test_the_sampler_needs_hardly_more_draws_than_necessary(truncation):
    """It needs about 1 / Z draws for each value, in parts that fit into memory."""
    sizes = []
    prior = ResampledPrior(StandardNormal(2), tilted(), truncation=truncation).eval()
    p_z = prior()
    prior.network.register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
    assert p_z.sample((100_000,)).shape == (100_000, 2)
    assert max(sizes) <= DRAWS_AT_ONCE
    assert sum(sizes) < 1.4 * 100_000 / float(p_z.log_normalizer.detach().exp())


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3, 2)])
def test_samples_have_the_requested_shape(shape):
    assert ResampledPrior(StandardNormal(2), tilted())().sample(shape).shape == (*shape, 2)


BASE_NAMES = [name for name, part in PRIORS.items() if not issubclass(part.settings, BaseSettings)]


@pytest.mark.parametrize("name", ["resampled", "noise-contrastive"])
@pytest.mark.parametrize("base", [*BASE_NAMES, "family:StudentMixture"])
def test_any_prior_can_be_the_base(name, base):
    torch.manual_seed(0)
    prior = made(name, 2, Features(torch.rand(50, 6), 0.0, 1.0), base_prior=base).eval()
    encoder = small_encoder(6, 2)
    p_z, p_base = prior(encoder), prior.base(encoder)
    z = torch.randn(10, 2)
    log_a = nn.functional.logsigmoid(prior.network(z)).squeeze(-1)
    if prior.truncation is None:
        torch.testing.assert_close(p_z.log_prob(z), p_base.log_prob(z) + log_a - p_z.log_normalizer.float())
    p_z.log_prob(z).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in prior.parameters())
    assert p_z.sample((4,)).isfinite().all()
    assert prior.needs_encoder == prior.base.needs_encoder


@pytest.mark.slow
@pytest.mark.parametrize("base", BASE_NAMES)
def test_the_checks_of_a_prior_pass_for_any_base(base):
    torch.manual_seed(0)
    prior = made("resampled", 2, Features(torch.rand(50, 6), 0.0, 1.0), base_prior=base).eval()
    assert not check_prior(prior, encoder=small_encoder(6, 2) if prior.needs_encoder else None).failures


def test_a_missing_encoder_of_the_base_raises_an_error():
    with pytest.raises(TypeError, match=r"VampPrior: its components are q\(z\|u_k\), so it needs the encoder"):
        ResampledPrior(VampPrior(torch.rand(4, 6)), mlp(2, [4], 1))()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: ResampledPrior(standard(), mlp(1, [4], 1)),
            TypeError,
            "base: expected a prior, got Independent; make",
        ),
        (lambda: ResampledPrior(StandardNormal(1), mlp(1, [4], 1), truncation=1), ValueError, "at least 2 draws, or N"),
        (
            lambda: ResampledPrior(StandardNormal(1), mlp(1, [4], 2))(),
            ValueError,
            "network: expected one logit for eac",
        ),
        (
            lambda: Resampled(standard(), lambda z: -20 + 0 * z[..., 0], None, 10).sample(),
            ValueError,
            r"sample: expected the base's draws to be accepted with a probability of 1e-06 or more, got 2e-09; give",
        ),
    ],
)
def test_invalid_arguments_raise_clear_errors(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def small_model(prior) -> VAE:
    torch.manual_seed(0)
    return VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior).eval()


def test_evaluation_returns_the_normalizer_and_its_error():
    vae, x = small_model(ResampledPrior(StandardNormal(2), tilted())), torch.rand(9, 6).round()
    log_normalizer = evaluate(vae, x, num_samples=8)["log_normalizer"]
    p_z = vae.latent_prior()
    assert log_normalizer == (float(p_z.log_normalizer.detach()), float(p_z.relative_error))
    assert "log_normalizer" not in evaluate(small_model(StandardNormal(2)), x, num_samples=8)


def test_an_error_of_the_normalizer_shifts_the_likelihood_of_all_rows_equally():
    vae, x = small_model(NoiseContrastivePrior(StandardNormal(2), tilted())), torch.rand(9, 6).round()
    rows = []
    for error in (0.0, 0.1):
        p_z = vae.latent_prior()
        p_z.log_normalizer = p_z.log_normalizer + error
        torch.manual_seed(0)
        model = as_model(encode=vae.encode, decode=vae.decode, prior=p_z)
        rows.append(evaluate(model, x, num_samples=64, prior_share=0.0).per_row)
    for name, sign in (("nll", 1), ("elbo", -1), ("rate", 1)):
        torch.testing.assert_close(rows[1][name] - rows[0][name], torch.full((9,), 0.1 * sign).to(rows[0][name]))


class Spread(nn.Module):
    """q(z|x) = N(z | x, 0.3^2): rows at -1 and 1 have a known aggregate posterior."""

    def forward(self, x: Tensor):
        return diagonal_normal(x, torch.full_like(x, 0.3))


def spread_model(prior: nn.Module) -> tuple[VAE, Tensor]:
    x = torch.where(torch.arange(400) < 100, -1.0, 1.0).unsqueeze(-1)
    return VAE(Spread(), BernoulliDecoder(mlp(1, [4], 1)), prior).eval(), x


@pytest.mark.slow
def test_a_noise_contrastive_prior_learns_the_aggregate_posterior():
    """A classifier learns the ratio of q(z) to the base; the base and the model's prior do not change."""
    torch.manual_seed(0)
    base = MixtureOfGaussians(1, 2)
    vae, x = spread_model(base)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    prior = NoiseContrastivePrior(base, mlp(1, [32], 1, activation=nn.Tanh))
    result = refit(vae, prior, x, seed=0, epochs=40, learning_rate=0.03)
    assert vae.prior is base
    assert not result.by_em
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    loc, scale = torch.tensor([[-1.0], [1.0]]), torch.full((2, 1), 0.3)
    target = Mixture(torch.tensor([0.25, 0.75]).log(), diagonal_normal(loc, scale))
    z = target.sample((20_000,))
    divergence = (target.log_prob(z) - prior().log_prob(z)).mean()
    assert -0.01 < divergence < 0.02  # nats; of the base, more than 0.5
    assert (target.log_prob(z) - base().log_prob(z)).mean() > 0.5


def test_the_loss_of_a_noise_contrastive_prior_is_a_cross_entropy():
    """Compare with the cross-entropy of a classifier that distinguishes z from draws of the base."""
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    prior = NoiseContrastivePrior(StandardNormal(1), network)
    z = torch.randn(3, 5, 1) + 1
    torch.manual_seed(1)
    loss = prior.refit_loss(prior.eval()(), z)
    torch.manual_seed(1)
    noise = StandardNormal(1)().sample((TRAINING_DRAWS,))
    normalizer = torch.sigmoid(network(noise)).mean()
    chance = [torch.sigmoid(network(each)) / (torch.sigmoid(network(each)) + normalizer) for each in (z, noise)]
    torch.testing.assert_close(loss, -chance[0].log().mean() - (1 - chance[1]).log().mean())


@pytest.mark.slow
def test_a_resampled_prior_is_fitted_by_its_likelihood():
    vae, x = spread_model(StandardNormal(1))
    torch.manual_seed(0)
    prior = ResampledPrior(StandardNormal(1), mlp(1, [32], 1, activation=nn.Tanh))
    result = refit(vae, prior, x, seed=0, epochs=40, learning_rate=0.03)
    z = torch.cat([x + 0.3 * torch.randn_like(x) for _ in range(20)])
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(0.75) + 0.5 * math.log(2 * math.pi * math.e * 0.09)
    assert result.model.prior().log_prob(z).mean().item() == pytest.approx(-entropy, abs=0.06)


def test_a_torch_distribution_can_be_the_base():
    prior = ResampledPrior(DensityPrior(Independent(StudentT(3.0, torch.zeros(2), torch.ones(2)), 1)), tilted()).eval()
    assert prior().log_prob(torch.zeros(3, 2)).isfinite().all()


@pytest.mark.parametrize("base", ["standard", "mog"])
def test_settings_include_those_of_the_base(base):
    settings = ModelSettings(prior="resampled", base_prior=base)
    assert ("components" in type(settings).model_fields) == (base == "mog")


LITTLE = ("--epochs", 2, "--samples", 4, "--set", "refit.batch_size=500")


@pytest.fixture(scope="module")
def mog_run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("resampled") / "mog"
    assert run_cli("fit", "digits", "--prior", "mog", "--components", 3, *QUICK, "--out", out) == 0
    return out


def base_of(folder: str) -> dict[str, Tensor]:
    return priory.load(folder).prior.base.state_dict()


@pytest.mark.slow
def test_refit_uses_the_runs_prior_as_base(mog_run, done):
    done("refit", mog_run, "--prior", "noise-contrastive", *LITTLE, "--out", "new")
    own = priory.load(mog_run).prior.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in base_of("new").items())
    assert json.loads(Path("new/config.json").read_text())["settings"]["model"]["base_prior"] == "mog"
    metrics = json.loads(Path("new/metrics.json").read_text())
    assert metrics["log_normalizer"]["value"] < 0 < metrics["log_normalizer"]["se"]


@pytest.mark.slow
def test_refit_fits_another_base_first(mog_run, done):
    other = ("--components", 4, *LITTLE)
    done("refit", mog_run, "--prior", "mog", *other, "--out", "base")
    done("refit", mog_run, "--prior", "noise-contrastive", "--set", "model.base_prior=mog", *other, "--out", "new")
    fitted = priory.load("base").prior.state_dict()
    assert all(torch.equal(value, fitted[name]) for name, value in base_of("new").items())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("base_prior=resampled", "--set model.base_prior: expected a prior that needs no other one, got resampled; ch"),
        ("base_prior=mogg", "--set model.base_prior: unknown prior 'mogg'; choose from"),
        ("base_prior=7", "model.base_prior: expected text, got 7"),
        ("truncation=1", "model.truncation: expected at least 2, got 1"),
        ("components=4", "--set model.components: belongs to the priors mog, vamp"),
        ("acceptance_hidden=[0]", "model.acceptance_hidden"),
    ],
)
def test_invalid_settings_are_refused(setting, message, refused):
    assert message in refused("fit", "digits", "--prior", "resampled", "--set", f"model.{setting}", "--out", "run")
