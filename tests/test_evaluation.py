"""ELBO surgery and the rest against closed forms of the linear-Gaussian VAE and against explicit formulas."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from linear_gaussian import NOISE, linear_gaussian_vae
from priory import DensityPrior, Mixture, diagonal_normal, evaluate
from priory.evaluation import effective_components


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    vae, evidence = linear_gaussian_vae()
    x = evidence.sample((4000,))
    return vae, evidence, x, evaluate(vae, x, num_samples=64, elbo_samples=4)


def test_likelihood_and_bound_are_the_evidence(model):
    _, evidence, x, metrics = model
    truth = evidence.log_prob(x)
    assert metrics["nll"].value == pytest.approx(-truth.mean().item(), abs=0.01)
    assert metrics["nll"].se == pytest.approx(truth.std().item() / math.sqrt(len(x)), rel=0.01)
    assert metrics["elbo"].value == pytest.approx(truth.mean().item(), abs=0.1)
    assert metrics["bits_per_dimension"].value == pytest.approx(metrics["nll"].value / 5 / math.log(2))


def test_surgery_splits_the_kl(model):
    metrics = model[3]
    parts = metrics["index_code_mutual_information"].value + metrics["marginal_kl"].value
    error = metrics["index_code_mutual_information"].se + metrics["marginal_kl"].se
    assert parts == pytest.approx(metrics["kl"].value, abs=4 * error)


def test_mutual_information_and_marginal_kl_have_their_closed_forms(model):
    _, evidence, _, metrics = model
    # I(x; z) of the linear-Gaussian joint; the aggregate posterior is the prior, up to the finite sample of x.
    information = 0.5 * torch.logdet(evidence.covariance_matrix) - 5 * math.log(NOISE)
    assert metrics["index_code_mutual_information"].value == pytest.approx(information.item(), abs=0.1)
    assert metrics["marginal_kl"].value == pytest.approx(0.0, abs=0.1)


def test_marginal_kl_of_a_prior_that_is_off(model):
    """Against the closed form KL(N(0, I) || N(m, S)): for the exact encoder the aggregate posterior is N(0, I)."""
    vae, evidence = linear_gaussian_vae()
    off = MultivariateNormal(torch.tensor([1.0, -0.5]).double(), torch.tensor([[2.0, 0.3], [0.3, 0.7]]).double())
    vae.prior = DensityPrior(off)
    metrics = evaluate(vae, evidence.sample((4000,)), num_samples=4)
    exact = torch.distributions.kl_divergence(
        MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()), off
    ).item()
    assert metrics["marginal_kl"].value == pytest.approx(exact, abs=5 * metrics["marginal_kl"].se + 0.05)


def test_active_units_counts_dimensions_whose_mean_moves():
    vae, evidence = linear_gaussian_vae()
    with torch.no_grad():
        vae.encoder.map[0] = 0.0
    assert evaluate(vae, evidence.sample((100,)), num_samples=2)["active_units"].value == 1


def test_effective_components_counts_the_distinct_ones():
    apart = torch.tensor([-100.0, 0.0, 100.0]).unsqueeze(-1)
    together = torch.zeros(3, 1)
    two = torch.tensor([-100.0, -100.0, 100.0]).unsqueeze(-1)
    ones = torch.ones(3, 1)
    assert effective_components(Mixture(torch.zeros(3), diagonal_normal(apart, ones))).value == pytest.approx(
        3, abs=0.01
    )
    assert effective_components(Mixture(torch.zeros(3), diagonal_normal(together, ones))).value == pytest.approx(1)
    # Two thirds and one third can be told apart: exp of the entropy of (2/3, 1/3).
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    value = effective_components(Mixture(torch.zeros(3), diagonal_normal(two, ones))).value
    assert value == pytest.approx(math.exp(entropy), rel=0.02)


def test_effective_components_of_overlapping_ones_agree_with_quadrature():
    loc, weights = torch.tensor([[-1.0], [1.0]]), torch.tensor([0.3, 0.7])
    p_z = Mixture(weights.log(), diagonal_normal(loc, torch.ones(2, 1)))
    z = torch.linspace(-10, 10, 20_001).double()
    densities = torch.stack([Normal(m, 1.0).log_prob(z).exp() for m in (-1.0, 1.0)])
    joint = weights.double()[:, None] * densities
    information = (joint * (densities / joint.sum(0)).log()).sum() * (z[1] - z[0])
    estimate = effective_components(p_z)
    assert estimate.value == pytest.approx(math.exp(information), abs=4 * estimate.se)


def test_component_switched_off_does_no_harm():
    p_z = Mixture(
        torch.tensor([0.0, 0.0, -math.inf]), diagonal_normal(torch.tensor([[-50.0], [50.0], [0.0]]), torch.ones(3, 1))
    )
    assert effective_components(p_z).value == pytest.approx(2, abs=0.01)


def test_mutual_information_never_exceeds_the_logarithm_of_the_number_of_rows():
    vae, evidence = linear_gaussian_vae(num_inputs=12, latent_dim=8)
    metrics = evaluate(vae, evidence.sample((30,)), num_samples=2)
    assert metrics["index_code_mutual_information"].value <= math.log(30)


def test_used_components_counts_by_draws_of_the_posterior_not_by_its_means():
    """All means lie in the middle of 3 x 3 components, the draws reach all of them."""
    vae, evidence = linear_gaussian_vae()
    side = torch.tensor([-1.0, 0.0, 1.0]).double()
    grid = torch.cartesian_prod(side, side)
    vae.prior = DensityPrior(Mixture(torch.zeros(9).double(), diagonal_normal(grid, 0.3 * torch.ones(9, 2).double())))
    with torch.no_grad():
        vae.encoder.map.zero_()
        vae.encoder.scale.fill_(1.0)
    assert evaluate(vae, evidence.sample((500,)), num_samples=2)["used_components"].value > 6


def test_one_row_has_no_standard_error():
    vae, evidence = linear_gaussian_vae()
    with pytest.raises(ValueError, match="at least two rows"):
        evaluate(vae, evidence.sample((1,)))


def test_model_is_left_in_its_mode_and_the_progress_is_told():
    vae, evidence = linear_gaussian_vae()
    vae.train()
    done = []
    evaluate(vae, evidence.sample((10,)), num_samples=2, batch_size=4, progress=done.append)
    assert vae.training
    assert vae.encoder.training
    assert done == [4, 8, 10]
