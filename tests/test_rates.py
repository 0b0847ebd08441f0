"""Rate and ELBO of priors without a closed form, compared with plain Monte Carlo in float64."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from family import MEMBERS, OTHERS, slow_if, small_vae
from oracles import components_loop
from priory import VAE, Mixture, elbo, evaluate, importance_weighted_bound
from priory.evaluation import importance, importance_estimate
from priory.model import likelihood_of
from priory.objectives import guided_elbo

PRIORS = [*MEMBERS, *OTHERS]
DRAWS = 2000
ERRORS = 5  # largest difference of two estimates, in standard errors


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def model(prior: str, decoder: str) -> tuple[VAE, Tensor]:
    """Return a model with narrow, separate posteriors, so that rates are about the latent dimension; and rows."""
    vae, x = small_vae(prior, decoder)
    with torch.no_grad():
        for parameter in vae.encoder.parameters():
            parameter.mul_(2.0)
        for module in vae.encoder.modules():
            if isinstance(module, nn.Linear) and module.out_features == 6:
                module.bias[3:] -= 1.5  # log-variances
    return vae, x[:6]


def log_prior(p_z, z: Tensor) -> Tensor:
    return components_loop(z, p_z) if isinstance(p_z, Mixture) else p_z.log_prob(z)


@torch.no_grad()
def plain(vae: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return rates and reconstructions of draws z ~ q(z|x), (draw, row), by the formulas."""
    vae, x = copy.deepcopy(vae).double(), x.double()
    q = vae.encode(x)
    loc, scale = q.mean, q.stddev
    noise = torch.randn(DRAWS, *loc.shape, dtype=torch.float64)
    z = loc + scale * noise
    log_q = (-0.5 * noise**2 - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
    return log_q - log_prior(vae.latent_prior(), z), likelihood_of(vae, z, x).log_prob(x)


def assert_same_mean(estimates: Tensor, draws: Tensor, count: int) -> None:
    """Check that estimates of the rows, by `count` draws each, agree with the mean of these draws."""
    error = draws.std(0) * math.sqrt(1 / DRAWS + 1 / count)
    apart = estimates.detach().double() - draws.mean(0)
    assert (apart.abs() <= ERRORS * error + 1e-5).all()
    assert apart.mean().abs() <= ERRORS * error.norm() / len(error) + 1e-5


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("prior", PRIORS)
def test_importance_sampling_agrees_with_monte_carlo(prior, pooled, monkeypatch):
    """Rate and reconstruction are means over the draws of q, for pooled and separate draws of the prior."""
    monkeypatch.setattr(importance, "ENOUGH_HITS", 0.0 if pooled else math.inf)
    vae, x = model(prior, "bernoulli")
    rates, reconstructions = plain(vae, x)
    assert rates.mean() > 0.5
    estimate = importance_estimate(vae, x, num_samples=500, prior_share=0.7)
    assert_same_mean(estimate.kl, rates, 150)
    assert_same_mean(estimate.reconstruction, reconstructions, 150)
    with torch.no_grad():  # draws of the prior, because the narrow posteriors miss most of p(x)
        log_prob = vae.decode(vae.latent_prior().sample((DRAWS, 1))).log_prob(x).double()
    truth = torch.logsumexp(log_prob, 0) - math.log(DRAWS)
    torch.testing.assert_close(estimate.log_likelihood, truth, rtol=0, atol=0.15)


@pytest.mark.parametrize("decoder", ["bernoulli", "negative-binomial"])
@pytest.mark.parametrize("prior", ["mog", "flow", "family:StudentMixture"])
def test_evaluate_agrees_with_monte_carlo(prior, decoder):
    """A decoder with covariates decodes draws of the prior for each row; other decoders do so once for all rows."""
    vae, x = model(prior, decoder)
    rates, reconstructions = plain(vae, x)
    metrics = evaluate(vae, x, num_samples=400)
    assert_same_mean(metrics.per_row["rate"], rates, 200)
    assert_same_mean(-metrics.per_row["distortion"], reconstructions, 200)
    assert_same_mean(metrics.per_row["elbo"], reconstructions - rates, 200)
    for name in ("rate", "elbo"):
        assert metrics[name].value == pytest.approx(metrics.per_row[name].mean().item())


@pytest.mark.parametrize("prior", slow_if(PRIORS, {"noise-contrastive"}))
def test_bounds_of_training_agree_with_monte_carlo(prior):
    vae, x = model(prior, "gaussian")
    rates, reconstructions = plain(vae, x)
    bound = elbo(vae, x, num_samples=1000)
    assert_same_mean(bound.kl, rates, 1000)
    assert_same_mean(bound.reconstruction, reconstructions, 1000)
    torch.testing.assert_close(bound.value(), bound.reconstruction - bound.kl)
    bounds = torch.logsumexp((reconstructions - rates).unflatten(0, (-1, 8)), 1) - math.log(8)
    several = torch.stack([importance_weighted_bound(vae, x, num_samples=8) for _ in range(100)])
    error = bounds.std(0) * math.sqrt(1 / len(bounds) + 1 / len(several))
    assert ((several.mean(0) - bounds.mean(0)).abs() <= ERRORS * error).all()


class FixedGuide(nn.Module):
    """Responsibilities that depend on one feature."""

    def __init__(self, num_components: int) -> None:
        super().__init__()
        self.slope = torch.linspace(-1, 1, num_components)

    def log_responsibilities(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.log_softmax(features[..., :1] * self.slope.to(features), -1)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("prior", ["gtm", "gtm-vamp", "mog"])
def test_guided_elbo_equals_its_formula(prior, weight):
    """Reconstruction - (1 - w) KL(q || p) - w (KL(r || pi) + sum_k r_k KL(q || p_k)), with unequal weights."""
    vae, x = model(prior, "gaussian")
    vae.prior.mixing_logits.data = torch.randn(vae.prior.num_components)
    vae.prior.guide = FixedGuide(vae.prior.num_components)
    rates, reconstructions = plain(vae, x)
    vae64 = copy.deepcopy(vae).double()
    with torch.no_grad():
        q, p_z = vae64.encode(x.double()), vae64.latent_prior()
        r = vae64.prior.guide.log_responsibilities(vae64.preprocess(x.double())).exp()
        of_nodes = []
        for k in range(vae.prior.num_components):
            m, s = p_z.components.mean[k], p_z.components.stddev[k]
            divergence = torch.log(s / q.stddev) + (q.stddev**2 + (q.mean - m) ** 2) / (2 * s**2) - 0.5
            of_nodes.append(divergence.sum(-1))
        prior_over_nodes = Categorical(logits=vae64.prior.mixing_logits)
        of_r = torch.distributions.kl_divergence(Categorical(probs=r), prior_over_nodes)
        bracket = of_r + (r * torch.stack(of_nodes, -1)).sum(-1)
    bound = guided_elbo(vae, x, weight, num_samples=2000)
    assert_same_mean(bound.reconstruction, reconstructions, 2000)
    kl = bound.kl.detach().double()
    expected = (1 - weight) * rates.mean(0) + weight * bracket
    torch.testing.assert_close(kl, expected, rtol=0.02, atol=0.3)
    assert (kl - expected).mean().abs() < 0.1
