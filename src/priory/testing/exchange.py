"""Markov kernels that leave a density unchanged, and an exact test of whether a sampler draws from this density.

A Metropolis-Hastings kernel is reversible. If it starts at a draw from the density for which it was built, start and
end are exchangeable: for any statistic t, t(end) - t(start) is symmetric about zero, even if the kernel mixes slowly.
The kernel uses only differences of log p, so it cannot detect a missing constant.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from priory.testing.proposal import Points, Proposal

LogProb = Callable[[Points], Float[Tensor, " point"]]
ALPHA = 1e-8  # largest probability that one check rejects a correct prior


def excess(differences: Float[Tensor, "chain statistic"]) -> Float[Tensor, " statistic"]:
    """sum_i d_i / sqrt(sum_i d_i^2) of each column.

    For independent symmetric d_i its tails are at most those of a sum of signs: P(|.| > x) <= 2 exp(-x^2/2), for any
    number of chains and any distribution (Efron 1969, JASA 64; Hoeffding 1963).
    """
    differences = differences.double()
    return differences.sum(0) / (differences.square().sum(0).sqrt() + 1e-300)


def limit(num_statistics: int) -> float:
    """Return a bound that the largest |excess| of so many statistics exceeds with probability at most ALPHA.

    >>> round(limit(100), 2)
    6.89
    """
    return math.sqrt(2 * math.log(2 * num_statistics / ALPHA))


def random_walk(log_prob: LogProb, z: Points, spread: Points, steps: int) -> Points:
    """Take symmetric steps along random subsets of coordinates; every chain keeps its step size and subset."""
    share = torch.rand(len(z), 1, dtype=z.dtype)
    moved = torch.rand_like(z) < share
    moved[torch.arange(len(z)), torch.randint(z.shape[-1], (len(z),))] = True
    # From a thousandth of the spread (components may be narrow) to twice the spread; shorter for more coordinates.
    size = torch.exp(torch.empty(len(z), 1, dtype=z.dtype).uniform_(math.log(1e-3), math.log(2.0)))
    scale = spread * moved * (2 * size / moved.sum(-1, keepdim=True).sqrt())
    value = log_prob(z)
    for _ in range(steps):
        z, value = _accepted(log_prob, z, value, z + scale * torch.randn_like(z), torch.zeros(()))
    return z


def independence(log_prob: LogProb, z: Points, proposal: Proposal, steps: int) -> Points:
    """Propose points from a fixed density, independent of the chain's state: these steps reach other modes."""
    value, log_q = log_prob(z), proposal.log_prob(z)
    for _ in range(steps):
        candidate = proposal.draw(len(z))
        candidate_log_q = proposal.log_prob(candidate)
        moved, value = _accepted(log_prob, z, value, candidate, log_q - candidate_log_q)
        log_q = torch.where((moved == candidate).all(-1), candidate_log_q, log_q)
        z = moved
    return z


def coordinate_swap(log_prob: LogProb, first: Points, second: Points) -> tuple[Points, Points]:
    """Exchange a random subset of coordinates between two independent draws, if the joint density p(a) p(b) accepts it.

    Every coordinate keeps its own distribution, so only the dependence between coordinates matters.
    """
    swapped = torch.rand_like(first) < torch.rand(len(first), 1, dtype=first.dtype)
    new_first, new_second = torch.where(swapped, second, first), torch.where(swapped, first, second)
    log_ratio = log_prob(new_first) + log_prob(new_second) - log_prob(first) - log_prob(second)
    accept = _accept(log_ratio).unsqueeze(-1)
    return torch.where(accept, new_first, first), torch.where(accept, new_second, second)


def _accepted(
    log_prob: LogProb, z: Points, value: Tensor, candidate: Points, log_correction: Tensor
) -> tuple[Points, Tensor]:
    """One step of Metropolis-Hastings."""
    candidate_value = log_prob(candidate)
    accept = _accept(candidate_value - value + log_correction)
    return torch.where(accept.unsqueeze(-1), candidate, z), torch.where(accept, candidate_value, value)


def _accept(log_ratio: Float[Tensor, " chain"]) -> Bool[Tensor, " chain"]:
    return torch.rand_like(log_ratio).log() < log_ratio


class PointStatistics:
    """Functions of z whose averages agree if two distributions agree: log-densities, moments, Fourier features.

    The features cos(w z + b) have random directions w and sizes from a tenth to three whitened standard deviations.
    They detect joint structure of any shape (as a kernel two-sample test does; Rahimi & Recht 2007). The proposal is
    fitted to separate draws; `draws`, also separate, set the scales.
    """

    NUM_FEATURES = 64

    def __init__(self, log_prob: LogProb, proposal: Proposal, draws: Points) -> None:
        self.log_prob, self.proposal = log_prob, proposal
        self.loc, self.scale = draws.mean(0), draws.std(0) + 1e-300
        directions = torch.nn.functional.normalize(
            torch.randn(draws.shape[-1], self.NUM_FEATURES, dtype=draws.dtype), dim=0
        )
        sizes = torch.exp(torch.empty(self.NUM_FEATURES, dtype=draws.dtype).uniform_(math.log(0.1), math.log(3.0)))
        projections = (draws - self.loc) / self.scale @ directions
        self.frequencies = directions * sizes / (projections.std(0) + 1e-300)
        self.phases = 2 * math.pi * torch.rand(self.NUM_FEATURES, dtype=draws.dtype)
        self.names = [
            "log p",
            "the log-density fitted to the draws",
            "the distance from the mean",
            *[f"Fourier feature {i}" for i in range(self.NUM_FEATURES)],
            *[f"z_{i}" for i in range(draws.shape[-1])],
            *[f"z_{i}^2" for i in range(draws.shape[-1])],
        ]

    def __call__(self, z: Points) -> Float[Tensor, "chain statistic"]:
        scaled = (z - self.loc) / self.scale
        columns = torch.stack([self.log_prob(z), self.proposal.log_prob(z), scaled.square().sum(-1).sqrt()], -1)
        features = torch.cos(scaled @ self.frequencies + self.phases)
        return torch.cat([columns, features, scaled, scaled.square()], -1)
