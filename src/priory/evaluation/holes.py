"""Holes: regions with samples of the prior but no data; and regions with data but no samples of the prior."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.evaluation.aggregate import AggregatePosterior
from priory.evaluation.estimates import RESAMPLES, Estimate
from priory.evaluation.quadrature import GridNodes, grid_nodes

REGION = 0.95
DRAWS = 10_000
PAIRS_FOR_QUADRATURE = 2**27  # most pairs of a grid node and a row


@torch.no_grad()
def coverage(p_z: Distribution, aggregate: AggregatePosterior) -> dict[str, Estimate]:
    """Measure how much of the prior lies in the 95 % region of the aggregate posterior, and the reverse.

    A distribution's 95 % region is its region of highest density, {z : p(z) >= t}, with 95 % of its mass. Both shares
    are 0.95 if the distributions are equal.

    Returns:
        `prior_in_aggregate`, the share of the prior inside the aggregate posterior's region; the other samples of the
        prior lie in holes. `aggregate_in_prior` is the reverse. In one and two dimensions both are quadratures on a
        grid, with a standard error of zero, if the grid is fine enough. Otherwise they are means over 10 000 draws,
        with bootstrap errors. The errors treat these rows, and so the aggregate posterior, as fixed.
    """
    both = (p_z, aggregate.density)
    draws = [density.sample(torch.Size((DRAWS,))) for density in both]
    grids: list[GridNodes] = []
    if draws[0].shape[-1] <= 2:
        count = PAIRS_FOR_QUADRATURE // len(aggregate)
        candidates = (grid_nodes(density, z, count) for density, z in zip(both, draws, strict=True))
        grids = [grid for grid in candidates if grid is not None]
    if len(grids) == 2:
        nodes = [grid.z for grid in grids]
        weights = [grid.probabilities.double().unsqueeze(0) for grid in grids]
    else:
        nodes, weights = draws, [_resampled(DRAWS, seed).to(draws[0].device) for seed in range(2)]
    # Log-densities under prior and aggregate posterior (columns), at the points of each (rows)
    log_prob = [[density.log_prob(z).double() for density in both] for z in nodes]
    edges = [_threshold(log_prob[i][i], weights[i]) for i in range(2)]
    shares = [(weights[i] * (log_prob[i][1 - i] >= edges[1 - i].unsqueeze(-1))).sum(-1) for i in range(2)]
    return dict(zip(("prior_in_aggregate", "aggregate_in_prior"), map(_estimate, shares), strict=True))


def _resampled(size: int, seed: int) -> Float[Tensor, "resample point"]:
    """Return weights of draws: the first row has equal weights, every other row those of a bootstrap sample."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(size, (RESAMPLES, size), generator=generator)
    ones = torch.ones(RESAMPLES, size, dtype=torch.float64)
    return torch.cat([ones[:1], torch.zeros_like(ones).scatter_add_(-1, draws, ones)]) / size


def _threshold(
    log_prob: Float[Tensor, " point"], weights: Float[Tensor, "resample point"]
) -> Float[Tensor, " resample"]:
    """Return the log-density below which 5 % of the weight lies."""
    ordered, order = log_prob.sort()
    below = weights[:, order].cumsum(-1)
    first = torch.searchsorted(below, below.new_full((len(below), 1), 1 - REGION)).squeeze(-1)
    return ordered[first.clamp(max=len(ordered) - 1)]


def _estimate(resampled: Float[Tensor, " resample"]) -> Estimate:
    error = float(resampled[1:].std()) if len(resampled) > 2 else 0.0
    return Estimate(float(resampled[0]), error)
