"""Holes: regions with samples of the prior but no data, and regions with data but no samples of the prior."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.evaluation.aggregate import AggregatePosterior
from priory.evaluation.estimates import RESAMPLES, Estimate
from priory.evaluation.quadrature import GridNodes, grid_nodes

REGION = 0.95
DRAWS = 10_000
PAIRS_FOR_QUADRATURE = 2**27  # nodes of a grid x rows


@torch.no_grad()
def coverage(p_z: Distribution, aggregate: AggregatePosterior) -> dict[str, Estimate]:
    """Measure the shares of prior and aggregate posterior in each other's 95 % region; equal distributions give 0.95.

    A distribution's 95 % region is its region of highest density, {z : p(z) >= t}, with 95 % of its mass.

    Returns:
        `prior_in_aggregate`, the share of the prior inside the aggregate posterior's region; the rest of the prior's
        samples come from holes. `aggregate_in_prior` is the reverse. In one and two dimensions both are quadratures on
        a grid with a standard error of zero, if the grid is fine enough; else means over 10 000 draws, with errors by
        the bootstrap. The errors treat these rows, and so the aggregate posterior, as fixed.
    """
    both = (p_z, aggregate.density)
    draws = [density.sample(torch.Size((DRAWS,))) for density in both]
    grids: list[GridNodes] = []
    if draws[0].shape[-1] <= 2:
        count = PAIRS_FOR_QUADRATURE // len(aggregate)
        found = (grid_nodes(density, z, count) for density, z in zip(both, draws, strict=True))
        grids = [grid for grid in found if grid is not None]
    if len(grids) == 2:
        nodes = [grid.z for grid in grids]
        weights = [grid.probabilities.double().unsqueeze(0) for grid in grids]
    else:
        nodes, weights = draws, [_resampled(DRAWS, seed).to(draws[0].device) for seed in range(2)]
    # log-densities under prior and aggregate posterior (columns), at the points of either (rows)
    log_prob = [[density.log_prob(z).double() for density in both] for z in nodes]
    edges = [_threshold(log_prob[i][i], weights[i]) for i in range(2)]
    shares = [(weights[i] * (log_prob[i][1 - i] >= edges[1 - i].unsqueeze(-1))).sum(-1) for i in range(2)]
    return dict(zip(("prior_in_aggregate", "aggregate_in_prior"), map(_estimate, shares), strict=True))


def _resampled(size: int, seed: int) -> Float[Tensor, "resample point"]:
    """Return weights of draws: equal ones in the first row, those of a bootstrap sample in each of the others."""
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
