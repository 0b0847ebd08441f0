"""Components of a mixture prior: how many are distinguishable, and how many the data use."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from priory.distributions.mixture import Mixture
from priory.distributions.normal import is_diagonal_normal
from priory.evaluation.aggregate import AggregatePosterior
from priory.evaluation.estimates import Bootstrap, Estimate, mean
from priory.evaluation.quadrature import gauss_hermite

PRIOR_SAMPLES = 10_000
RESPONSIBILITIES_AT_ONCE, NUMBERS_AT_ONCE = 4096, 2**24  # rows and numbers of the B x K matrix
NODES_PER_SIDE = {1: 64, 2: 20}  # by latent dimension
PAIRS_FOR_QUADRATURE = 2**31  # most pairs of a node and a component: a minute
MOST_PAIRS = 2**27  # most pairs of a draw and a component: half a minute
UNUSED = 0.1  # a component is unused if its mean responsibility is below this share of its weight


@torch.no_grad()
def effective_components(p_z: Mixture, *, num_samples: int = PRIOR_SAMPLES) -> Estimate:
    """Number of distinguishable components of the prior, exp(I(k; z)), between 1 and K.

        I(k; z) = E_p(k, z) [log p(z|k) - log p(z)] = E_p(z) [KL(p(k|z) || pi)]

    In one and two dimensions this is a Gauss-Hermite quadrature over the components, with a standard error of zero. In
    more dimensions, and above 2300 components in two, it is a mean over draws of the prior; the error of the mean is
    carried through the exponential to first order.

    Args:
        p_z: the mixture, without batch dimensions.
        num_samples: number of draws, if they are needed; fewer above 13 000 components.
    """
    latent_dim = p_z.event_shape[0]
    pairs = NODES_PER_SIDE.get(latent_dim, math.inf) ** latent_dim * p_z.num_components**2
    if is_diagonal_normal(p_z.components) and pairs <= PAIRS_FOR_QUADRATURE:
        loc, scale = p_z.components.mean.double(), p_z.components.stddev.double()
        z, weights = gauss_hermite(loc, scale, NODES_PER_SIDE[latent_dim])
        information = weights @ _divergence_of_responsibilities(p_z, z) @ p_z.log_weights.double().exp()
        return Estimate(math.exp(max(float(information), 0.0)), 0.0)
    draws = p_z.sample(torch.Size((min(num_samples, MOST_PAIRS // p_z.num_components),)))
    sampled = mean(_divergence_of_responsibilities(p_z, draws))
    return Estimate(max(sampled.value, 0.0), sampled.se).exp()


def _divergence_of_responsibilities(p_z: Mixture, z: Tensor) -> Float[Tensor, "*batch"]:
    """KL(p(k|z) || pi) in nats, in float64."""
    rows = z.reshape(-1, z.shape[-1])
    log_weights = p_z.log_weights.double().clamp_min(torch.finfo(torch.float64).min)
    parts = []
    for part in rows.split(rows_at_once(p_z)):
        log_posterior = torch.log_softmax(p_z.component_log_prob(part).double(), -1)
        posterior = log_posterior.exp()
        parts.append((torch.special.xlogy(posterior, posterior) - posterior * log_weights).sum(-1))
    return torch.cat(parts).reshape(z.shape[:-1])


def rows_at_once(p_z: Mixture) -> int:
    """Return the number of rows whose responsibilities are computed at a time.

    >>> from priory import diagonal_normal
    >>> rows_at_once(Mixture(torch.zeros(2**20), diagonal_normal(torch.zeros(2**20, 1), torch.ones(2**20, 1))))
    16
    """
    return max(1, min(RESPONSIBILITIES_AT_ONCE, NUMBERS_AT_ONCE // p_z.num_components))


@torch.no_grad()
def component_use(p_z: Mixture, aggregate: AggregatePosterior) -> dict[str, Estimate]:
    """Measure the use of the components: the mean responsibilities p(k|z) over the aggregate posterior.

    Returns:
        `used_components`, the perplexity exp(H) of the mean responsibilities, between 1 and K; and `unused_weight`, the
        total mixing weight of components whose mean responsibility is below a tenth of their weight. Standard errors
        are by the bootstrap.
    """
    z, weights = aggregate.points
    bootstrap = Bootstrap(len(aggregate))
    averages: Tensor | None = None
    for start in range(0, len(aggregate), rows_at_once(p_z)):
        rows = z[:, start : start + rows_at_once(p_z)]
        share = sum(
            weight * p_z.responsibilities(part).cpu().double()
            for weight, part in zip(weights.tolist(), rows, strict=True)
        )
        averages_of_rows = bootstrap.averages(start, share)
        averages = averages_of_rows if averages is None else averages + averages_of_rows
    assert averages is not None
    prior_weights = p_z.log_weights.cpu().double().exp()
    return {
        "used_components": Bootstrap.estimate(averages, lambda a: torch.exp(-torch.special.xlogy(a, a).sum(-1))),
        "unused_weight": Bootstrap.estimate(averages, lambda a: (prior_weights * (a < UNUSED * prior_weights)).sum(-1)),
    }
