"""What a VAE is trained and judged by: per datum, in nats, unreduced."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from priory.vae import VAE


class Elbo(NamedTuple):
    """The evidence lower bound's two terms, in nats, one number per datum: elbo = reconstruction - kl."""

    reconstruction: Float[Tensor, "*batch"]
    kl: Float[Tensor, "*batch"]

    def value(self, beta: float | Tensor = 1.0) -> Float[Tensor, "*batch"]:
        """reconstruction - beta * kl; beta = 1 is the bound itself."""
        return self.reconstruction - beta * self.kl


def elbo(
    vae: VAE, x: Float[Tensor, "*batch input"], *, num_samples: int = 1, prior: Distribution | None = None
) -> Elbo:
    """The evidence lower bound of each datum, by Monte Carlo, with the closed form of the KL term where torch has one.

        log p(x) >= E_q(z|x) [log p(x|z)] - KL(q(z|x) || p(z))

    Args:
        vae: the model.
        x: data, (*batch, D).
        num_samples: draws from q(z|x) per datum.
        prior: p(z), where it has been evaluated already; `vae.latent_prior()` by default.

    Returns:
        Reconstruction and KL, each of shape (*batch,), in nats.

    Raises:
        ValueError: num_samples is not positive.

    Reference: Kingma & Welling 2014, arXiv:1312.6114, eq. 3.
    """
    _check_num_samples(num_samples)
    p_z = vae.latent_prior() if prior is None else prior
    q = vae.encode(x)
    z = q.rsample(torch.Size((num_samples,)))
    reconstruction = vae.decode(z, x).log_prob(x).mean(0)
    return Elbo(reconstruction, _kl(q, p_z, z))


def importance_weighted_bound(
    vae: VAE, x: Float[Tensor, "*batch input"], num_samples: int, *, prior: Distribution | None = None
) -> Float[Tensor, "*batch"]:
    """A lower bound of log p(x) that tightens with the number of samples, per datum, in nats.

        log p(x) >= E [log 1/S sum_s p(z_s) p(x|z_s) / q(z_s|x)],    z_s ~ q(z|x)

    All samples are held at once, for training; `priory.log_likelihood` streams them.

    Args:
        vae: the model.
        x: data, (*batch, D).
        num_samples: S.
        prior: p(z), where it has been evaluated already.

    Raises:
        ValueError: num_samples is not positive.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8.
    """
    _check_num_samples(num_samples)
    p_z = vae.latent_prior() if prior is None else prior
    q = vae.encode(x)
    z = q.rsample(torch.Size((num_samples,)))
    log_weights = p_z.log_prob(z) + vae.decode(z, x).log_prob(x) - q.log_prob(z)
    return torch.logsumexp(log_weights, 0) - math.log(num_samples)


def _kl(q: Distribution, p_z: Distribution, z: Float[Tensor, "sample *batch latent"]) -> Float[Tensor, "*batch"]:
    try:
        return kl_divergence(q, p_z)
    except NotImplementedError:  # torch has no closed form for this pair
        return (q.log_prob(z) - p_z.log_prob(z)).mean(0)


def _check_num_samples(num_samples: int) -> None:
    if num_samples < 1:
        raise ValueError(f"num_samples: expected a positive number of draws, got {num_samples}")
