"""Lower bounds of log p(x) per datum, in nats, unreduced."""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from priory.model import LatentVariableModel, context_of, latent_prior_of, likelihood_of, log_prob_of_rows, posterior_of
from priory.vae import features_of


class Elbo(NamedTuple):
    """The two terms of the evidence lower bound per datum, in nats: elbo = reconstruction - kl.

    >>> terms = Elbo(torch.tensor([-3.0]), torch.tensor([2.0]))
    >>> terms.value(), terms.value(beta=0.5)
    (tensor([-5.]), tensor([-4.]))
    """

    reconstruction: Float[Tensor, "*batch"]
    kl: Float[Tensor, "*batch"]

    def value(self, beta: float | Tensor = 1.0) -> Float[Tensor, "*batch"]:
        """Return reconstruction - beta * kl; beta = 1 gives the bound."""
        return self.reconstruction - beta * self.kl


def elbo(
    model: LatentVariableModel,
    x: Float[Tensor, "*batch input"],
    *,
    num_samples: int = 1,
    prior: Distribution | None = None,
) -> Elbo:
    """Evidence lower bound of each datum by Monte Carlo; the KL term has a closed form if torch has one.

        log p(x) >= E_q(z|x) [log p(x|z)] - KL(q(z|x) || p(z))

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has.
        x: data, (*batch, D).
        num_samples: draws from q(z|x) per datum.
        prior: p(z), if it has been evaluated already; `model.latent_prior()` by default.

    Returns:
        Reconstruction and KL, each of shape (*batch,), in nats.

    Raises:
        ValueError: num_samples is not positive.

    Reference: Kingma & Welling 2014, arXiv:1312.6114, eq. 3.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> x = torch.rand(9, 6).round()
    >>> loss = -elbo(vae, x).value().mean()
    >>> loss.backward()
    """
    p_z, q, z = encoded(model, x, num_samples, prior)
    reconstruction = log_prob_of_rows(likelihood_of(model, z, x), x).mean(0)
    return Elbo(reconstruction, _kl(q, p_z, z))


def guided_elbo(
    model: LatentVariableModel,
    x: Float[Tensor, "*batch input"],
    weight: float = 1.0,
    *,
    num_samples: int = 1,
    prior: Distribution | None = None,
) -> Elbo:
    """Lower bound for training a map: it pulls each datum to the grid nodes that the prior's guide assigns to it.

        log p(x) >= E_q [log p(x|z)] - (1 - weight) KL(q || p) - weight (KL(r || pi) + sum_k r_k KL(q || p_k))

    with r = r(k | x), the responsibilities of `model.prior.guide` in data space. The last bracket is KL(q r || p), the
    divergence of the joint posterior of z and k, which is at least KL(q || p). So for any weight from 0 to 1 this is a
    lower bound of the ELBO, and equal to it if r is p(k | z). Both parts use the same Monte Carlo draws.

    Args:
        model: a model whose attribute `prior` has a `guide` and gives a mixture.
        x: data, (*batch, D).
        weight: strength of the guide, from 0 (the ELBO) to 1.
        num_samples: draws from q(z|x) per datum.
        prior: p(z), if it has been evaluated already.

    Returns:
        Reconstruction, and the sum of all subtracted terms as `kl`, each of shape (*batch,), in nats.

    Raises:
        ValueError: num_samples is not positive, weight is outside of [0, 1], or the prior has no guide.

    Reference: Tomczak 2022, *Deep Generative Modeling*, eq. 4.50 (the prior over nodes); the amortized posterior over
    them is the responsibility of Bishop, Svensen & Williams 1998, eq. 2.10.

    >>> from priory import GTM, VAE, BernoulliDecoder, GTMVampPrior, NormalEncoder, mlp
    >>> x = torch.rand(60, 6).round()
    >>> prior = GTMVampPrior.from_gtm(GTM(points_per_side=4).fit(x.numpy()), low=0.0, high=1.0)
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)
    >>> guided_elbo(vae, x, weight=0.5).value().shape
    torch.Size([60])
    """
    return guided_terms(model, x, weight, num_samples=num_samples, prior=prior)[0]


def guided_terms(
    model: LatentVariableModel,
    x: Float[Tensor, "*batch input"],
    weight: float,
    *,
    num_samples: int,
    prior: Distribution | None = None,
) -> tuple[Elbo, Float[Tensor, "*batch"]]:
    """Return `guided_elbo`, and KL(q || p) from the same draws; the ELBO is its reconstruction minus this KL."""
    guide = guide_of(model)
    if guide is None:
        prior = getattr(model, "prior", None)
        raise ValueError(
            f"model: expected a prior with a guide, as GTMVampPrior.from_gtm makes it, got a {type(prior).__name__} "
            "without a guide; use elbo, or give the prior a guide"
        )
    if not 0 <= weight <= 1:
        raise ValueError(f"weight: expected a number from 0 to 1, got {weight}")
    log_r = guide.log_responsibilities(features_of(model, x), context_of(model))
    p_z, q, z = encoded(model, x, num_samples, prior)
    reconstruction = log_prob_of_rows(likelihood_of(model, z, x), x).mean(0)
    log_q, log_p_k = q.log_prob(z), p_z.component_log_prob(z)
    log_ratio = log_r.clamp(min=torch.finfo(log_r.dtype).min) - log_p_k  # a node without weight: 0 log 0 = 0
    expected_log_ratio = (log_r.exp() * log_ratio).sum(-1)
    log_p = torch.logsumexp(log_p_k, -1)
    kl = log_q + weight * expected_log_ratio - (1 - weight) * log_p
    return Elbo(reconstruction, kl.mean(0)), (log_q - log_p).mean(0)


def guide_of(model: LatentVariableModel) -> Any:
    """Return the guide of the model's prior, or None."""
    return getattr(getattr(model, "prior", None), "guide", None)


def importance_weighted_bound(
    model: LatentVariableModel, x: Float[Tensor, "*batch input"], *, num_samples: int, prior: Distribution | None = None
) -> Float[Tensor, "*batch"]:
    """Lower bound of log p(x) per datum in nats; it tightens with the number of samples.

        log p(x) >= E [log 1/S sum_s p(z_s) p(x|z_s) / q(z_s|x)],    z_s ~ q(z|x)

    All samples are in memory at once, for training; `priory.log_likelihood` streams them.

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has.
        x: data, (*batch, D).
        num_samples: S.
        prior: p(z), if it has been evaluated already.

    Raises:
        ValueError: num_samples is not positive.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> x = torch.rand(9, 6).round()
    >>> importance_weighted_bound(vae, x, num_samples=8).shape
    torch.Size([9])
    """
    p_z, q, z = encoded(model, x, num_samples, prior)
    log_weights = p_z.log_prob(z) + log_prob_of_rows(likelihood_of(model, z, x), x) - q.log_prob(z)
    return torch.logsumexp(log_weights, 0) - math.log(num_samples)


def encoded(
    model: LatentVariableModel, x: Float[Tensor, "*batch input"], num_samples: int, prior: Distribution | None
) -> tuple[Any, Distribution, Float[Tensor, "sample *batch latent"]]:
    """Return p(z), which is evaluated if `prior` is None; q(z | x); and draws of z from it."""
    p_z = latent_prior_of(model) if prior is None else prior
    q = posterior_of(model, x)
    return p_z, q, draws_from(q, num_samples)


def draws_from(q: Distribution, num_samples: int) -> Float[Tensor, "sample *batch latent"]:
    """Draw z from q(z|x), as a differentiable function of the parameters of q.

    Raises:
        TypeError: the distribution is not reparameterized.
        ValueError: num_samples is not positive.

    >>> from priory import diagonal_normal
    >>> draws_from(diagonal_normal(torch.zeros(3, 2), torch.ones(3, 2)), 5).shape
    torch.Size([5, 3, 2])
    """
    if num_samples < 1:
        raise ValueError(f"num_samples: expected a positive number of draws, got {num_samples}")
    if not q.has_rsample:
        raise TypeError(
            f"encode: expected a reparameterized q(z|x), with rsample, got {type(q).__name__} without it: no "
            "gradient of its draws reaches the encoder; return priory.diagonal_normal(loc, scale), or write an "
            "objective that needs no rsample: fit(..., objective=function)"
        )
    return q.rsample(torch.Size((num_samples,)))


def _kl(q: Distribution, p_z: Distribution, z: Float[Tensor, "sample *batch latent"]) -> Float[Tensor, "*batch"]:
    try:
        return kl_divergence(q, p_z)
    except NotImplementedError:  # torch has no closed form for this pair
        return (q.log_prob(z) - p_z.log_prob(z)).mean(0)
