"""Objectives of training and their gradients, compared with closed forms and quadrature of linear-Gaussian models."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Laplace, MultivariateNormal, Normal, TransformedDistribution
from torch.distributions.transforms import ExpTransform

from linear_gaussian import NOISE, linear_gaussian_vae
from priory import VAE, VampPrior, diagonal_normal, elbo, importance_weighted_bound
from priory.objectives import (
    OBJECTIVES,
    BetaElbo,
    DoublyReparameterized,
    EvidenceLowerBound,
    FreeBits,
    ImportanceWeighted,
    Objective,
    StickingTheLanding,
)
from priory.objectives.detached import detached

STANDARD_ERRORS = 5  # of the mean of many draws


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class LearnedNormal(nn.Module):
    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.full((latent_dim,), 0.3))

    def forward(self, encoder=None) -> Independent:
        return diagonal_normal(self.loc, torch.full_like(self.loc, 1.2))


def wrong_model(latent_dim: int, prior: nn.Module | None = None) -> tuple[VAE, Tensor]:
    """Return a linear-Gaussian VAE with a too wide posterior and a learned prior, and a row."""
    vae, evidence = linear_gaussian_vae(latent_dim=latent_dim, scale_factor=1.4)
    vae.prior = LearnedNormal(latent_dim) if prior is None else prior
    return vae.double(), evidence.sample()


def with_gradient(value: Tensor, vae: nn.Module) -> Tensor:
    """Return the value and its gradient in all parameters as one vector; unused parameters have zeros."""
    gradients = torch.autograd.grad(value, list(vae.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([value.detach().reshape(1), *[g.flatten() for g in gradients]])


def assert_unbiased(objective: Objective, vae: VAE, x: Tensor, beta: float, expected: Tensor) -> None:
    rows = x.expand(500, -1)
    draws = torch.stack([with_gradient(objective(vae, rows, beta).bound.value(beta).mean(), vae) for _ in range(40)])
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - expected).abs() <= STANDARD_ERRORS * error + 1e-9).all()


def closed_elbo(vae: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return E_q [log p(x|z)] and KL(q || p) of normals by the textbook formulas."""
    q, p, decoder = vae.encode(x), vae.latent_prior(), vae.decoder
    spread = (decoder.weight.square().sum(0) * q.variance).sum()
    squares = (x - decoder.bias - decoder.weight @ q.mean).square().sum() + spread
    reconstruction = -len(x) / 2 * math.log(2 * math.pi * NOISE**2) - squares / (2 * NOISE**2)
    ratio = q.variance / p.variance
    kl = (ratio + (q.mean - p.mean).square() / p.variance - 1 - ratio.log()).sum() / 2
    return reconstruction, kl


@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize(
    ("objective", "penalty"),
    [
        (EvidenceLowerBound(num_samples=2), lambda kl: kl),
        (BetaElbo(kl_weight=2.5), lambda kl: 2.5 * kl),
        (FreeBits(free_bits=0.1), lambda kl: kl),
        (FreeBits(free_bits=50.0), lambda kl: 50.0 + 0 * kl),
        (StickingTheLanding(num_samples=2), lambda kl: kl),
    ],
    ids=["elbo", "beta-elbo", "free bits, above", "free bits, below", "sticking the landing"],
)
def test_elbos_and_their_gradients_agree_with_closed_forms(objective, penalty, beta):
    vae, x = wrong_model(latent_dim=2)
    reconstruction, kl = closed_elbo(vae, x)
    assert 0.1 < kl < 50
    assert_unbiased(objective, vae, x, beta, with_gradient(reconstruction - beta * penalty(kl), vae))


def quadrature(vae: VAE, x: Tensor, beta: float) -> Tensor:
    """E log 1/2 (w_1 + w_2) over two draws of one latent dimension, by Gauss-Hermite quadrature."""
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(60))
    q = vae.encode(x)
    z = q.mean + q.stddev * nodes.unsqueeze(-1)
    log_w = vae.decode(z).log_prob(x) + beta * (vae.latent_prior().log_prob(z) - q.log_prob(z))
    bound = torch.logaddexp(log_w.unsqueeze(0), log_w.unsqueeze(1)) - math.log(2)
    return (weights.outer(weights) / (2 * math.pi) * bound).sum()


@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize("prior", ["normal", "vamp"])  # the VampPrior depends on the encoder
@pytest.mark.parametrize("kind", [ImportanceWeighted, DoublyReparameterized])
def test_importance_weighted_bounds_and_their_gradients_agree_with_quadrature(kind, prior, beta):
    vae, x = wrong_model(latent_dim=1, prior=VampPrior(torch.randn(3, 5).double()) if prior == "vamp" else None)
    assert_unbiased(kind(num_samples=2), vae, x, beta, with_gradient(quadrature(vae, x, beta), vae))


@pytest.mark.parametrize("kind", [ImportanceWeighted, DoublyReparameterized])
def test_decoder_gradients_equal_those_of_the_evidence_at_the_exact_posterior(kind):
    vae, evidence = linear_gaussian_vae()
    x, decoder = evidence.sample(), vae.decoder
    covariance = decoder.weight @ decoder.weight.T + NOISE**2 * torch.eye(5, dtype=torch.float64)
    expected = with_gradient(MultivariateNormal(decoder.bias, covariance).log_prob(x), decoder)
    rows = x.expand(500, -1)
    draws = [with_gradient(kind(4)(vae, rows).bound.value().mean(), decoder) for _ in range(40)]
    stacked = torch.stack(draws)
    error = stacked.std(0) / math.sqrt(len(draws))
    assert ((stacked.mean(0) - expected).abs() <= STANDARD_ERRORS * error + 1e-9).all()


@pytest.mark.parametrize("num_samples", [1, 5])
def test_objective_and_function_agree_for_the_same_draws(num_samples):
    vae, x = wrong_model(latent_dim=2)
    rows = x.expand(7, -1)
    results = []
    for bound in (
        lambda: importance_weighted_bound(vae, rows, num_samples=num_samples),
        lambda: ImportanceWeighted(num_samples)(vae, rows).bound.value(),
    ):
        torch.manual_seed(1)
        results.append(with_gradient(bound().mean(), vae))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("kind", [ImportanceWeighted, DoublyReparameterized])
def test_importance_weighted_bound_with_one_draw_equals_the_elbo(kind):
    vae, x = wrong_model(latent_dim=1, prior=VampPrior(torch.randn(3, 5).double()))
    rows = x.expand(9, -1)
    torch.manual_seed(1)
    expected = elbo(vae, rows)  # the KL to a mixture is estimated from the same draws
    torch.manual_seed(1)
    terms = kind(num_samples=1)(vae, rows)
    torch.testing.assert_close(terms.bound.value(), expected.value())
    torch.testing.assert_close(terms.elbo, expected)


class Posteriors:
    """A linear-Gaussian model of equal rows with a separate posterior mean for each row."""

    def __init__(self, number: int) -> None:
        self.loc = torch.full((number, 1), 0.5, dtype=torch.float64, requires_grad=True)

    def encode(self, x: Tensor) -> Independent:
        return diagonal_normal(self.loc, torch.full_like(self.loc, 0.8))

    def latent_prior(self) -> Independent:
        return diagonal_normal(torch.zeros(1).double(), torch.ones(1).double())

    def decode(self, z: Tensor) -> Independent:
        return diagonal_normal(z.expand(*z.shape[:-1], 3), torch.ones(3).double())


def signal_and_noise(objective: Objective) -> tuple[float, float]:
    """Return mean and standard deviation of the gradient in the posterior mean, over many draws."""
    model = Posteriors(5000)
    x = torch.tensor([0.2, 1.0, -0.3]).double().expand(5000, -1)
    (gradient,) = torch.autograd.grad(objective(model, x).bound.value().sum(), model.loc)
    return abs(float(gradient.mean())), float(gradient.std())


def test_signal_to_noise_ratio_grows_with_draws_only_if_doubly_reparameterized():
    """The ratio falls as 1 / sqrt(S), and with double reparameterization it grows as sqrt(S)."""
    numbers = (4, 64)
    ratios, noises = {}, {}
    for kind in (ImportanceWeighted, DoublyReparameterized):
        gradients = [signal_and_noise(kind(number)) for number in numbers]
        ratios[kind] = [signal / noise for signal, noise in gradients]
        noises[kind] = [noise for _, noise in gradients]
    few, many = ratios[ImportanceWeighted]
    assert many < few
    few, many = ratios[DoublyReparameterized]
    assert many > 2.5 * few
    few, many = noises[DoublyReparameterized]
    assert many < few / 32
    assert noises[DoublyReparameterized][1] < noises[ImportanceWeighted][1] / 3


def test_sticking_the_landing_has_zero_gradients_at_an_exact_posterior():
    vae, evidence = linear_gaussian_vae()
    value = StickingTheLanding()(vae, evidence.sample((50,))).bound.value()
    for row in value:  # one draw each
        gradients = torch.autograd.grad(row, list(vae.encoder.parameters()), retain_graph=True)
        assert max(float(g.abs().max()) for g in gradients) < 1e-12
    plain = EvidenceLowerBound()(vae, evidence.sample((50,))).bound.value()
    assert float(torch.autograd.grad(plain[0], vae.encoder.map)[0].abs().max()) > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: Independent(Normal(a, b.exp()), 1),
        lambda a, b: Independent(Laplace(a, b.exp()), 1),
        lambda a, b: MultivariateNormal(a, scale_tril=torch.diag_embed(b.exp())),
        lambda a, b: MultivariateNormal(a, precision_matrix=torch.diag_embed(b.exp())),
    ],
)
def test_a_detached_distribution_has_the_same_density_without_gradients(make):
    parameters = [torch.randn(4, 2, requires_grad=True) for _ in range(2)]
    q, z = make(*parameters), torch.randn(4, 2, requires_grad=True)
    held = detached(q).log_prob(z)
    assert torch.equal(held, q.log_prob(z))
    by_z = torch.autograd.grad(q.log_prob(z).sum(), z, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(held.sum(), z, retain_graph=True), by_z)
    assert torch.autograd.grad(held.sum(), parameters, allow_unused=True) == (None, None)
    assert q.mean.requires_grad  # the posterior itself has not changed


def test_posteriors_that_cannot_be_detached_are_refused():
    q = TransformedDistribution(Independent(Normal(torch.zeros(2), torch.ones(2)), 1), [ExpTransform()])
    with pytest.raises(TypeError, match=r"encode: .* got TransformedDistribution with transforms of type list, .*elbo"):
        detached(q)


@pytest.mark.parametrize("name", ["elbo", "sticking-the-landing", "importance-weighted", "doubly-reparameterized"])
def test_errors_about_posteriors_without_rsample_suggest_a_remedy(name):
    vae, x = wrong_model(latent_dim=1)
    vae.encode = lambda x: Independent(Categorical(torch.ones(len(x), 1, 3)), 1)
    with pytest.raises(TypeError, match=r"encode: expected a reparameterized .* return priory.diagonal_normal\(loc"):
        OBJECTIVES[name](num_samples=3)(vae, x.expand(4, -1))
