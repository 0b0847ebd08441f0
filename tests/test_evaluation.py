"""Metrics of `evaluate`, compared with closed forms of the linear-Gaussian VAE and with explicit formulas."""

import math

import pytest
import scipy.stats
import torch
from torch.distributions import MultivariateNormal, Normal

from linear_gaussian import NOISE, linear_gaussian_vae
from oracles import quadrature_grid
from priory import DensityPrior, Estimate, Mixture, diagonal_normal, evaluate, log_likelihood
from priory.evaluation import (
    METRIC_DESCRIPTIONS,
    AggregatePosterior,
    LowEffectiveSampleSizeWarning,
    active_units,
    component_use,
    coverage,
    effective_components,
)
from priory.evaluation.estimates import BOOTSTRAP_SEED, RESAMPLES, Bootstrap


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    vae, evidence = linear_gaussian_vae()
    x = evidence.sample((4000,))
    return vae, evidence, x, evaluate(vae, x, num_samples=64)


def test_likelihood_and_bound_agree_with_the_evidence(model):
    _, evidence, x, metrics = model
    truth = evidence.log_prob(x)
    assert metrics["nll"].value == pytest.approx(-truth.mean().item(), abs=0.01)
    assert metrics["nll"].se == pytest.approx(truth.std().item() / math.sqrt(len(x)), rel=0.01)
    assert metrics["elbo"].value == pytest.approx(truth.mean().item(), abs=0.1)
    assert metrics["bits_per_dimension"].value == pytest.approx(metrics["nll"].value / 5 / math.log(2))


def test_surgery_splits_the_rate(model):
    metrics = model[3]
    parts = metrics["index_code_mutual_information"].value + metrics["marginal_kl"].value
    error = metrics["index_code_mutual_information"].se + metrics["marginal_kl"].se
    assert parts == pytest.approx(metrics["rate"].value, abs=4 * error)
    bound = -metrics["distortion"].value - metrics["rate"].value
    assert metrics["elbo"].value == pytest.approx(bound)


def test_mutual_information_and_marginal_kl_agree_with_closed_forms(model):
    _, evidence, _, metrics = model
    # I(x; z) of the linear-Gaussian joint; the aggregate posterior is the prior, up to the finite sample of x.
    information = 0.5 * torch.logdet(evidence.covariance_matrix) - 5 * math.log(NOISE)
    assert metrics["index_code_mutual_information"].value == pytest.approx(information.item(), abs=0.1)
    assert metrics["marginal_kl"].value == pytest.approx(0.0, abs=0.1)


def test_marginal_kl_of_a_wrong_prior_agrees_with_the_closed_form(model):
    """The closed form is KL(N(0, I) || N(m, S)), because the aggregate posterior of the exact encoder is N(0, I)."""
    vae, evidence = linear_gaussian_vae()
    off = MultivariateNormal(torch.tensor([1.0, -0.5]).double(), torch.tensor([[2.0, 0.3], [0.3, 0.7]]).double())
    vae.prior = DensityPrior(off)
    metrics = evaluate(vae, evidence.sample((4000,)), num_samples=4)
    exact = torch.distributions.kl_divergence(
        MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()), off
    ).item()
    assert metrics["marginal_kl"].value == pytest.approx(exact, abs=5 * metrics["marginal_kl"].se + 0.05)


def test_active_units_counts_dimensions_whose_mean_varies():
    vae, evidence = linear_gaussian_vae()
    with torch.no_grad():
        vae.encoder.map[0] = 0.0
    assert evaluate(vae, evidence.sample((100,)), num_samples=2)["active_units"].value == 1


def test_effective_components_counts_distinguishable_components():
    apart = torch.tensor([-100.0, 0.0, 100.0]).unsqueeze(-1)
    together = torch.zeros(3, 1)
    two = torch.tensor([-100.0, -100.0, 100.0]).unsqueeze(-1)
    ones = torch.ones(3, 1)
    assert effective_components(Mixture(torch.zeros(3), diagonal_normal(apart, ones))).value == pytest.approx(
        3, abs=0.01
    )
    assert effective_components(Mixture(torch.zeros(3), diagonal_normal(together, ones))).value == pytest.approx(1)
    # Two groups are distinguishable, with weights 2/3 and 1/3.
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    value = effective_components(Mixture(torch.zeros(3), diagonal_normal(two, ones))).value
    assert value == pytest.approx(math.exp(entropy), rel=0.02)


def test_effective_components_agree_with_quadrature_if_components_overlap():
    loc, weights = torch.tensor([[-1.0], [1.0]]), torch.tensor([0.3, 0.7])
    p_z = Mixture(weights.log(), diagonal_normal(loc, torch.ones(2, 1)))
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    densities = torch.stack([Normal(m, 1.0).log_prob(z).exp() for m in (-1.0, 1.0)])
    joint = weights.double()[:, None] * densities
    information = (joint * (densities / joint.sum(0)).log()).sum() * (z[1] - z[0])
    estimate = effective_components(p_z)
    assert estimate.value == pytest.approx(math.exp(information), abs=1e-5)
    assert estimate.se == 0
    in_three = Mixture(weights.log(), diagonal_normal(torch.cat([loc, torch.zeros(2, 2)], -1), torch.ones(2, 3)))
    sampled = effective_components(in_three)
    assert sampled.value == pytest.approx(math.exp(information), abs=4 * sampled.se)
    assert 0 < sampled.se < 0.02


def test_surgery_by_quadrature_agrees_with_a_fine_grid():
    """Compare five posteriors in two dimensions with sums over a grid of 1e6 midpoints."""
    loc, scale = torch.randn(5, 2).double(), 0.3 + torch.rand(5, 2).double()
    prior = diagonal_normal(torch.ones(2).double(), 1.5 * torch.ones(2).double())
    metrics = AggregatePosterior(loc, scale).surgery(prior)
    z, cell = quadrature_grid(-8, 8, 1000)
    parts = diagonal_normal(loc, scale).log_prob(z.unsqueeze(1))
    whole = torch.logsumexp(parts, 1) - math.log(5)
    information = (parts.exp() * (parts - whole.unsqueeze(1))).sum(0) * cell
    others = torch.stack([torch.logsumexp(parts[:, torch.arange(5) != n], 1) - math.log(4) for n in range(5)], 1)
    upper = (parts.exp() * (parts - others)).sum(0) * cell
    marginal = (whole.exp() * (whole - prior.log_prob(z))).sum() * cell
    assert metrics["index_code_mutual_information"].value == pytest.approx(information.mean().item(), abs=5e-4)
    assert metrics["index_code_mutual_information"].se == pytest.approx(information.std().item() / 5**0.5, abs=5e-4)
    assert metrics["mutual_information_upper_bound"].value == pytest.approx(upper.mean().item(), abs=3e-3)
    assert metrics["marginal_kl"].value == pytest.approx(marginal.item(), abs=5e-4)


def test_information_about_infinitely_many_rows_lies_between_its_bounds():
    vae, evidence = linear_gaussian_vae(num_inputs=12, latent_dim=6)
    truth = (0.5 * torch.logdet(evidence.covariance_matrix) - 12 * math.log(NOISE)).item()
    metrics = evaluate(vae, evidence.sample((60,)), num_samples=2)
    assert metrics["index_code_mutual_information"].value < truth - 0.5  # at most log 60
    assert metrics["mutual_information_upper_bound"].value > truth


def test_active_units_have_an_error_only_near_the_threshold():
    far = torch.randn(400, 3) * torch.tensor([1.0, 0.5, 1e-3])
    assert active_units(far) == (2, 0)
    near = 0.1 * torch.randn(400, 20)
    counts = torch.tensor([active_units(0.1 * torch.randn(400, 20)).value for _ in range(50)])
    assert 0.5 < active_units(near).se / counts.std().item() < 2


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_coverage_of_normals_agrees_with_the_chi_square_distribution(latent_dim, width):
    """The 95 % region of N(0, s^2 I) is a ball; a chi-square distribution gives its mass under another normal."""
    aggregate = AggregatePosterior(torch.zeros(30, latent_dim), torch.full((30, latent_dim), width))
    prior = diagonal_normal(torch.zeros(latent_dim), torch.ones(latent_dim))
    shares = coverage(prior, aggregate)
    squared_radius = scipy.stats.chi2.ppf(0.95, latent_dim)
    expected = [scipy.stats.chi2.cdf(squared_radius * factor, latent_dim) for factor in (width**2, width**-2)]
    for estimate, truth in zip(shares.values(), expected, strict=True):
        assert estimate.value == pytest.approx(truth, abs=max(4 * estimate.se, 5e-4))
        assert (estimate.se == 0) == (latent_dim <= 2)
        assert estimate.se < 0.01


def test_holes_are_detected_in_both_directions():
    """Codes at one of the prior's two modes, and a prior at one of two groups of codes."""
    places = torch.tensor([[-5.0, 0.0], [5.0, 0.0]])
    both = Mixture(torch.zeros(2), diagonal_normal(places, torch.ones(2, 2)))
    one = Mixture(torch.zeros(1), diagonal_normal(places[:1], torch.ones(1, 2)))
    shares = coverage(both, AggregatePosterior(places[:1].expand(50, 2), torch.ones(50, 2)))
    assert shares["prior_in_aggregate"].value == pytest.approx(0.475, abs=0.005)
    assert shares["aggregate_in_prior"].value == pytest.approx(0.95, abs=0.005)
    shares = coverage(one, AggregatePosterior(places.repeat(25, 1), torch.ones(50, 2)))
    assert shares["prior_in_aggregate"].value == pytest.approx(0.95, abs=0.005)
    assert shares["aggregate_in_prior"].value == pytest.approx(0.475, abs=0.005)


def test_a_distribution_that_is_too_narrow_for_the_grid_is_sampled():
    narrow = Mixture(torch.zeros(2), diagonal_normal(torch.tensor([[-5.0, 0.0], [5.0, 0.0]]), torch.full((2, 2), 1e-4)))
    shares = coverage(narrow, AggregatePosterior(torch.zeros(20, 2), torch.ones(20, 2)))
    assert shares["prior_in_aggregate"].value == 0
    assert shares["aggregate_in_prior"].value == 0


def test_component_use_measures_unused_weight_and_perplexity():
    places = torch.tensor([[-10.0, 0.0], [10.0, 0.0], [0.0, 30.0]])
    p_z = Mixture(torch.tensor([0.5, 0.3, 0.2]).log(), diagonal_normal(places, torch.ones(3, 2)))
    codes = places[:2].repeat_interleave(torch.tensor([30, 10]), 0)
    metrics = component_use(p_z, AggregatePosterior(codes, torch.full((40, 2), 0.1)))
    assert metrics["unused_weight"].value == pytest.approx(0.2)
    assert metrics["unused_weight"].se == pytest.approx(0)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert metrics["used_components"].value == pytest.approx(math.exp(entropy))
    shares = torch.distributions.Binomial(40, torch.tensor(0.25)).sample((2000,)) / 40
    spread = torch.exp(-torch.special.xlogy(shares, shares) - torch.special.xlogy(1 - shares, 1 - shares)).std().item()
    assert metrics["used_components"].se == pytest.approx(spread, rel=0.3)


def test_unused_weight_compares_each_component_with_its_own_weight():
    """One row of twenty is less than a tenth of the weight 0.9, and more than a tenth of the weight 0.03."""
    places = torch.tensor([[-10.0, 0.0], [10.0, 0.0], [0.0, 30.0]])
    p_z = Mixture(torch.tensor([0.9, 0.07, 0.03]).log(), diagonal_normal(places, torch.ones(3, 2)))
    codes = places[[0] + [1] * 18 + [2]]
    metrics = component_use(p_z, AggregatePosterior(codes, torch.full((20, 2), 0.1)))
    assert metrics["unused_weight"].value == pytest.approx(0.9)


def test_draws_for_many_rows_agree_with_quadrature(monkeypatch):
    loc, scale = torch.randn(300, 2), torch.full((300, 2), 0.3)
    prior = diagonal_normal(torch.zeros(2), torch.ones(2))
    exact = AggregatePosterior(loc, scale).surgery(prior)
    monkeypatch.setattr("priory.evaluation.aggregate.PAIRS_FOR_QUADRATURE", 0)
    drawn = AggregatePosterior(loc, scale).surgery(prior)
    for name, estimate in drawn.items():
        assert estimate.value == pytest.approx(exact[name].value, abs=4 * estimate.se)
        assert estimate.value != exact[name].value


def test_the_number_of_rows_of_the_aggregate_posterior_is_limited(monkeypatch):
    monkeypatch.setattr("priory.evaluation.aggregate.ROWS_AT_MOST", 10)
    loc = torch.arange(100.0).unsqueeze(-1)
    aggregate = AggregatePosterior(loc, torch.ones(100, 1))
    assert len(aggregate) == 10
    assert aggregate.loc[0] == 0
    assert aggregate.loc[-1] == 99


def test_few_effective_samples_give_a_warning():
    vae, evidence = linear_gaussian_vae(num_inputs=40, latent_dim=8, scale_factor=4.0)
    x = evidence.sample((20,))
    with pytest.warns(LowEffectiveSampleSizeWarning, match="half of the rows have at most .* take more samples"):
        evaluate(vae, x, num_samples=64)
    vae, evidence = linear_gaussian_vae()
    assert evaluate(vae, evidence.sample((20,)), num_samples=64)["effective_sample_size"].value > 20


def test_every_metric_has_a_description_and_each_row_is_encoded_once():
    vae, evidence = linear_gaussian_vae()
    vae.prior = DensityPrior(Mixture(torch.zeros(2).double(), diagonal_normal(torch.randn(2, 2), torch.ones(2, 2))))
    rows = []
    vae.encoder.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    metrics = evaluate(vae.double(), evidence.sample((70,)), num_samples=4, batch_size=30)
    assert sum(rows) == 70
    others = {"log_normalizer", "clusters", "nmi", "ari", "aggregate_rows"}  # for other priors, for runs, for many rows
    assert set(metrics) == {name for name in METRIC_DESCRIPTIONS if "level" not in name} - others
    assert all(math.isfinite(number) for estimate in metrics.values() for number in estimate)


def test_the_rows_of_the_aggregate_posterior_are_reported_if_not_all_are_used(monkeypatch):
    vae, evidence = linear_gaussian_vae()
    x = evidence.sample((25,))
    assert "aggregate_rows" not in evaluate(vae, x, num_samples=4)
    monkeypatch.setattr("priory.evaluation.aggregate.ROWS_AT_MOST", 10)
    assert evaluate(vae, x, num_samples=4)["aggregate_rows"].value == 10


@pytest.mark.parametrize("at_once", [1, 70, 2**24])
def test_averages_over_resamples_equal_means_of_the_drawn_rows(at_once, monkeypatch):
    monkeypatch.setattr("priory.evaluation.estimates.COUNTS_AT_ONCE", at_once)
    values = torch.randn(30, 2).double()
    generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
    drawn = [torch.randint(30, (30,), generator=generator) for _ in range(RESAMPLES)]
    expected = torch.stack([values.mean(0), *(values[rows].mean(0) for rows in drawn)])
    bootstrap = Bootstrap(30)
    assert torch.allclose(bootstrap.averages(0, values), expected)
    assert torch.allclose(bootstrap.averages(0, values[:11]) + bootstrap.averages(11, values[11:]), expected)


def test_metrics_are_means_over_rows():
    vae, evidence = linear_gaussian_vae(scale_factor=0.8)
    x = evidence.sample((25,))
    torch.manual_seed(0)
    metrics = evaluate(vae, x, num_samples=6, prior_share=0.0)
    torch.manual_seed(0)
    torch.testing.assert_close(metrics.per_row["nll"], -log_likelihood(vae, x, num_samples=6, prior_share=0.0))
    kl = torch.distributions.kl_divergence(vae.encode(x), vae.latent_prior())
    torch.testing.assert_close(metrics.per_row["rate"], kl)
    torch.testing.assert_close(metrics.per_row["elbo"], -metrics.per_row["distortion"] - kl)
    for name in ("nll", "elbo", "distortion", "rate"):
        each = metrics.per_row[name].detach().numpy()
        assert metrics[name] == pytest.approx((each.mean(), each.std(ddof=1) / 5))
    assert metrics["effective_sample_size"].value == pytest.approx(metrics.per_row["effective_sample_size"].median())
    metrics |= {"other": Estimate(1.0, 0.0)}
    assert metrics["other"].value == 1
    assert set(metrics.per_row) == {"nll", "effective_sample_size", "elbo", "distortion", "rate"}


def test_effective_components_ignores_components_with_weight_zero():
    p_z = Mixture(
        torch.tensor([0.0, 0.0, -math.inf]), diagonal_normal(torch.tensor([[-50.0], [50.0], [0.0]]), torch.ones(3, 1))
    )
    assert effective_components(p_z).value == pytest.approx(2, abs=0.01)


def test_mutual_information_never_exceeds_the_logarithm_of_the_number_of_rows():
    vae, evidence = linear_gaussian_vae(num_inputs=12, latent_dim=8)
    metrics = evaluate(vae, evidence.sample((30,)), num_samples=2)
    assert metrics["index_code_mutual_information"].value <= math.log(30)


def test_used_components_uses_draws_of_the_posterior_instead_of_means():
    """All means lie in the middle of 3 x 3 components; the draws reach all components."""
    vae, evidence = linear_gaussian_vae()
    side = torch.tensor([-1.0, 0.0, 1.0]).double()
    grid = torch.cartesian_prod(side, side)
    vae.prior = DensityPrior(Mixture(torch.zeros(9).double(), diagonal_normal(grid, 0.3 * torch.ones(9, 2).double())))
    with torch.no_grad():
        vae.encoder.map.zero_()
        vae.encoder.scale.fill_(1.0)
    assert evaluate(vae, evidence.sample((500,)), num_samples=2)["used_components"].value > 6


def test_one_row_is_refused():
    vae, evidence = linear_gaussian_vae()
    with pytest.raises(ValueError, match="at least two rows"):
        evaluate(vae, evidence.sample((1,)))


def test_evaluate_keeps_the_mode_and_reports_progress():
    vae, evidence = linear_gaussian_vae()
    vae.train()
    done = []
    evaluate(vae, evidence.sample((10,)), num_samples=2, batch_size=4, progress=done.append)
    assert vae.training
    assert vae.encoder.training
    assert done == [4, 8, 10]
