"""ELBO, importance-weighted bound and likelihood, compared with closed forms of a linear-Gaussian VAE."""

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    kl_divergence,
)

from linear_gaussian import linear_gaussian_vae
from priory import (
    Mixture,
    StandardNormal,
    VampPrior,
    diagonal_normal,
    elbo,
    evaluate,
    importance_weighted_bound,
    log_likelihood,
)
from priory.evaluation import importance_estimate
from priory.priors.density import DensityPrior


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_every_bound_equals_the_evidence_at_the_exact_posterior():
    vae, evidence = linear_gaussian_vae()
    x = evidence.sample((40,))
    expected = evidence.log_prob(x)
    torch.testing.assert_close(importance_weighted_bound(vae, x, num_samples=3), expected)  # every weight is p(x)
    torch.testing.assert_close(log_likelihood(vae, x, num_samples=3, prior_share=0.0), expected)
    bound = elbo(vae, x, num_samples=20_000)
    torch.testing.assert_close(bound.value(), expected, rtol=0, atol=0.05)


def test_gap_of_the_elbo_is_the_divergence_to_the_true_posterior():
    vae, evidence = linear_gaussian_vae(scale_factor=1.7)
    exact, _ = linear_gaussian_vae()
    x = evidence.sample((40,))
    gap = evidence.log_prob(x) - elbo(vae, x, num_samples=20_000).value()
    expected = kl_divergence(vae.encode(x), exact.encode(x))
    torch.testing.assert_close(gap, expected, rtol=0, atol=0.1)


@pytest.mark.parametrize("prior_share", [0.0, 0.5])
@pytest.mark.parametrize("scale_factor", [0.7, 1.7])
def test_likelihood_converges_to_the_evidence(scale_factor, prior_share):
    vae, evidence = linear_gaussian_vae(scale_factor=scale_factor)
    x = evidence.sample((40,))
    estimate = log_likelihood(vae, x, num_samples=20_000, prior_share=prior_share, chunk_size=7777)
    torch.testing.assert_close(estimate.mean(), evidence.log_prob(x).mean(), rtol=0, atol=0.02)


def test_defensive_mixture_corrects_a_posterior_that_is_far_too_narrow():
    vae, evidence = linear_gaussian_vae(scale_factor=0.15)
    x = evidence.sample((40,))
    truth = evidence.log_prob(x).mean()
    alone = log_likelihood(vae, x, num_samples=512, prior_share=0.0).mean()
    defensive = log_likelihood(vae, x, num_samples=512, prior_share=0.5).mean()
    assert truth - alone > 0.2  # q alone misses the tails, so the estimate is too low
    assert abs(defensive - truth) < 0.05


def test_importance_weighted_bound_grows_from_elbo_to_evidence():
    vae, evidence = linear_gaussian_vae(scale_factor=1.7)
    x = evidence.sample((4000,))
    bounds = [importance_weighted_bound(vae, x, num_samples=s).mean().item() for s in (1, 5, 50)]
    assert elbo(vae, x).value().mean().item() == pytest.approx(bounds[0], abs=0.1)
    assert bounds[0] < bounds[1] < bounds[2] < evidence.log_prob(x).mean() + 0.02


# In nine dimensions, no draws of the prior are expected near a posterior.
WAYS_TO_SHARE = pytest.mark.parametrize(
    ("latent_dim", "covariates", "pooled", "shared"),
    [(2, False, True, True), (9, False, False, True), (2, True, False, False)],
    ids=["all draws of all rows", "the same draws", "own decoding"],
)


@WAYS_TO_SHARE
def test_the_decoder_gets_the_documented_numbers_of_samples(monkeypatch, latent_dim, covariates, pooled, shared):
    vae, evidence = linear_gaussian_vae(num_inputs=12, latent_dim=latent_dim)
    x = evidence.sample((6,))
    decoded = []
    decoder = vae.decoder.forward
    monkeypatch.setattr(vae.decoder, "forward", lambda z, size=None: decoded.append(z.shape[:-1].numel()) or decoder(z))
    if covariates:
        vae.decoder.covariates = lambda x: {"size": x.sum(-1)}
    log_likelihood(vae, x, num_samples=101, chunk_size=60)
    # One draw to find out the family of p(x|z); 51 draws of q for each of the six rows, 50 of the prior.
    one = 0 if covariates else 1
    assert sum(decoded) == one + 51 * 6 + 50 * (6 if pooled or not shared else 1)
    assert max(decoded) <= 60


@WAYS_TO_SHARE
@pytest.mark.parametrize("prior_share", [0.0, 0.3])
def test_importance_estimate_equals_the_formula_in_a_loop(latent_dim, covariates, pooled, shared, prior_share):
    vae, evidence = linear_gaussian_vae(num_inputs=12, latent_dim=latent_dim, scale_factor=1.4)
    prior = MultivariateNormal(torch.ones(latent_dim).double(), torch.eye(latent_dim).double())
    vae.prior = DensityPrior(prior)
    if covariates:
        decoder = vae.decoder.forward
        vae.decoder.forward = lambda z, size=None: decoder(z)
        vae.decoder.covariates = lambda x: {"size": x.sum(-1)}
    x = evidence.sample((3,))
    torch.manual_seed(3)
    estimate = importance_estimate(vae, x, num_samples=10, prior_share=prior_share)
    torch.manual_seed(3)
    q, from_prior = vae.encode(x), round(10 * prior_share) * (3 if pooled else 1)
    if prior_share and not covariates:
        prior.sample((1,))  # the draw to find out the family of p(x|z)
    z_q = q.sample((10 - round(10 * prior_share),))
    z_p = prior.sample((from_prior,))
    share = from_prior / (len(z_q) + from_prior)
    for n in range(3):
        q_n = Independent(Normal(q.mean[n], q.stddev[n]), 1)
        weights, terms, divergences = [], [], []
        for z in torch.cat([z_q[:, n], z_p]):
            proposal = (1 - share) * q_n.log_prob(z).exp() + share * prior.log_prob(z).exp()
            terms.append(vae.decode(z).log_prob(x[n]))
            divergences.append(q_n.log_prob(z) - prior.log_prob(z))
            weights.append((prior.log_prob(z) + terms[-1]).exp() / proposal)
        weights = torch.stack(weights)
        size = weights.sum() ** 2 / weights.square().sum()
        torch.testing.assert_close(estimate.log_likelihood[n], weights.mean().log())
        torch.testing.assert_close(estimate.effective_sample_size[n], size)
        torch.testing.assert_close(estimate.reconstruction[n], torch.stack(terms[: len(z_q)]).mean())
        torch.testing.assert_close(estimate.kl[n], torch.stack(divergences[: len(z_q)]).mean())


def test_estimates_are_correct_with_and_without_given_posteriors():
    vae, evidence = linear_gaussian_vae(scale_factor=1.3)
    x = evidence.sample((40,))
    truth = evidence.log_prob(x)
    for posterior in (None, vae.encode(x)):
        estimate = importance_estimate(vae, x, num_samples=4000, posterior=posterior)
        torch.testing.assert_close(estimate.log_likelihood, truth, rtol=0, atol=0.15)
        assert (estimate.effective_sample_size > 500).all()


def test_posteriors_without_a_closed_form_mean_work(monkeypatch):
    vae, evidence = linear_gaussian_vae(scale_factor=1.3)
    x, encoder = evidence.sample((40,)), vae.encoder.forward
    shift = AffineTransform(torch.zeros(2).double(), torch.ones(2).double(), event_dim=1)
    monkeypatch.setattr(vae.encoder, "forward", lambda x: TransformedDistribution(encoder(x), [shift]))
    torch.testing.assert_close(log_likelihood(vae, x, num_samples=4000), evidence.log_prob(x), rtol=0, atol=0.15)
    metrics = evaluate(vae, x, num_samples=2000)
    assert metrics["nll"].value == pytest.approx(-evidence.log_prob(x).mean().item(), abs=0.05)
    assert metrics["active_units"].value == 2


def test_rows_with_given_posteriors_pool_draws_in_groups_of_sixteen(monkeypatch):
    vae, evidence = linear_gaussian_vae()
    x, decoded, decoder = evidence.sample((64,)), [], vae.decoder.forward
    monkeypatch.setattr(vae.decoder, "forward", lambda z: decoded.append(z.shape[:-1].numel()) or decoder(z))
    importance_estimate(vae, x, num_samples=100, posterior=vae.encode(x))
    assert sum(decoded) == 1 + 50 * 64 + 50 * 16


def test_prior_is_evaluated_once_and_encoder_once_per_datum():
    vae, evidence = linear_gaussian_vae()
    vae.prior = VampPrior(evidence.sample((7,)))
    vae.double()
    rows = []
    vae.encoder.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    log_likelihood(vae, evidence.sample((6,)), num_samples=500, chunk_size=30)
    assert rows == [7, 6]


def test_the_kl_uses_the_closed_form_if_torch_has_one():
    vae, evidence = linear_gaussian_vae(scale_factor=1.3)
    x = evidence.sample((5,))
    torch.testing.assert_close(elbo(vae, x).kl, kl_divergence(vae.encode(x), StandardNormal(2).double()()))


@pytest.mark.parametrize("own", [True, False])
def test_monte_carlo_kl_to_a_mixture_agrees_with_quadrature(own):
    vae, evidence = linear_gaussian_vae(scale_factor=1.3)
    loc, scale = torch.randn(3, 2).double(), torch.rand(3, 2).double() + 0.5
    ours = Mixture(torch.zeros(3).double(), diagonal_normal(loc, scale))
    weights = torch.distributions.Categorical(logits=torch.zeros(3).double())
    vae.prior = DensityPrior(ours if own else MixtureSameFamily(weights, Independent(Normal(loc, scale), 1)))
    x = evidence.sample((3,))
    side = torch.linspace(-8, 8, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    q = vae.encode(x)
    log_q = q.log_prob(grid.unsqueeze(1))
    density = torch.stack([Normal(m, s).log_prob(grid).sum(-1).exp() for m, s in zip(loc, scale, strict=True)]).mean(0)
    expected = (log_q.exp() * (log_q - density.log().unsqueeze(1))).sum(0) * (16 / 400) ** 2
    torch.testing.assert_close(elbo(vae, x, num_samples=50_000).kl, expected, rtol=0, atol=0.03)


def test_terms_are_per_datum_and_beta_weighs_the_kl():
    vae, evidence = linear_gaussian_vae()
    bound = elbo(vae, evidence.sample((9,)))
    assert bound.reconstruction.shape == bound.kl.shape == (9,)
    torch.testing.assert_close(bound.value(0.3), bound.reconstruction - 0.3 * bound.kl)


def test_every_parameter_receives_a_gradient_from_every_bound():
    vae, evidence = linear_gaussian_vae()
    for objective in (lambda x: elbo(vae, x).value(), lambda x: importance_weighted_bound(vae, x, num_samples=4)):
        vae.zero_grad()
        objective(evidence.sample((9,))).mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in vae.parameters())


@pytest.mark.parametrize(("num_samples", "prior_share"), [(10, 0.95), (1, 0.9), (1, 0.5)])
def test_at_least_one_draw_comes_from_the_posterior(num_samples, prior_share):
    vae, evidence = linear_gaussian_vae()
    assert torch.isfinite(
        log_likelihood(vae, evidence.sample((3,)), num_samples=num_samples, prior_share=prior_share)
    ).all()
    assert log_likelihood(vae, evidence.sample((0,)), num_samples=num_samples).shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vae, x: elbo(vae, x, num_samples=0), "num_samples: expected a positive"),
        (lambda vae, x: importance_weighted_bound(vae, x, num_samples=0), "num_samples: expected a positive"),
        (lambda vae, x: log_likelihood(vae, x, num_samples=0), "num_samples: expected a positive"),
        (lambda vae, x: log_likelihood(vae, x, num_samples=5, chunk_size=0), "chunk_size: expected a positive"),
        (
            lambda vae, x: log_likelihood(vae, x, num_samples=5, prior_share=1.0),
            r"prior_share: expected a share in \[0, 1\)",
        ),
    ],
)
def test_invalid_arguments_raise_clear_errors(call, message):
    vae, evidence = linear_gaussian_vae()
    with pytest.raises(ValueError, match=message):
        call(vae, evidence.sample((2,)))


def test_importance_weights_do_not_overflow():
    vae, evidence = linear_gaussian_vae()
    x = evidence.sample((3,)) * 1e3
    assert torch.isfinite(log_likelihood(vae, x, num_samples=10)).all()
    assert torch.isfinite(importance_weighted_bound(vae, x, num_samples=10)).all()
