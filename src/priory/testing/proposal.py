"""Mixtures of normals fitted to draws: normalized densities close to the sampler's, for ratios and statistics."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priory.distributions.mixture import Mixture
from priory.distributions.normal import diagonal_normal

Points = Float[Tensor, "point latent"]
STEPS = 12  # of EM; the fit must be close, but not optimal
SIZES = (1, 4, 16, 64)  # numbers of components that are tried
TINY = 1e-300  # prevents division by zero if draws do not vary


class Proposal(Protocol):
    """A normalized density from which draws can be made; float64 on the CPU."""

    def log_prob(self, z: Points) -> Float[Tensor, " point"]: ...

    def draw(self, number: int) -> Points: ...


@dataclass(frozen=True)
class AffineMixture:
    """z = loc + matrix y, with y from a mixture of diagonal normals.

    log q(z) = log q_y(matrix^-1 (z - loc)) - log |det matrix|
    """

    mixture: Mixture  # distribution of y
    loc: Float[Tensor, " latent"]
    matrix: Float[Tensor, "latent latent2"]  # lower triangular with a positive diagonal

    def log_prob(self, z: Points) -> Float[Tensor, " point"]:
        y = _inverse(z, self.loc, self.matrix)
        return self.mixture.log_prob(y) - self.matrix.diagonal().log().sum()

    def draw(self, number: int) -> Points:
        return self.loc + self.mixture.sample((number,)) @ self.matrix.T

    def widened(self, factor: float) -> "AffineMixture":
        """Return the same density with the scales of its components multiplied."""
        base = self.mixture.components.base_dist  # type: ignore[attr-defined]
        wider = Mixture(self.mixture.log_weights, diagonal_normal(base.loc, factor * base.scale))
        return AffineMixture(wider, self.loc, self.matrix)


@dataclass(frozen=True)
class Shared:
    """sum_i share_i q_i(z): a mixture of several densities."""

    shares: Sequence[float]  # weights of the densities; they sum to one
    parts: Sequence[Proposal]

    def log_prob(self, z: Points) -> Float[Tensor, " point"]:
        terms = [math.log(share) + part.log_prob(z) for share, part in zip(self.shares, self.parts, strict=True)]
        return torch.logsumexp(torch.stack(terms), 0)

    def draw(self, number: int) -> Points:
        """Return draws from q, in random order."""
        chosen = torch.multinomial(torch.tensor(self.shares), number, replacement=True)
        counts = torch.bincount(chosen, minlength=len(self.shares)).tolist()
        drawn = [part.draw(count) for part, count in zip(self.parts, counts, strict=True)]
        return torch.cat(drawn)[torch.randperm(number)]


def one_normal(draws: Points, factor: float = 1.0) -> AffineMixture:
    """Return the normal with the draws' mean and covariance, and its scales multiplied by a factor."""
    zero, one = torch.zeros(1, draws.shape[-1]).double(), torch.ones(1, draws.shape[-1]).double()
    mixture = Mixture(torch.zeros(1).double(), diagonal_normal(zero, factor * one))
    return AffineMixture(mixture, draws.mean(0), _cholesky(draws))


def fitted(draws: Points, held_out: Points) -> AffineMixture:
    """Fit a mixture by EM: the number of components grows while it helps on held-out draws; the axes are those of the
    coordinates or those of the draws' covariance, whichever fits better.

    Reference: Dempster, Laird & Rubin 1977; k-means++ starts, Arthur & Vassilvitskii 2007.
    """
    axes = torch.diag(draws.std(0) + TINY)
    matrices = (axes, _cholesky(draws)) if draws.shape[-1] > 1 else (axes,)
    candidates = (c for matrix in matrices for c in _best_of_sizes(draws, held_out, matrix))
    return max(candidates, key=lambda candidate: candidate.log_prob(held_out).mean().item())


def _best_of_sizes(draws: Points, held_out: Points, matrix: Tensor) -> Iterator[AffineMixture]:
    """Yield mixtures of growing size, until a larger one does not help enough."""
    score = -math.inf
    for num_components in SIZES:
        candidate = _expectation_maximization(draws, num_components, matrix)
        previous, score = score, candidate.log_prob(held_out).mean().item()
        yield candidate
        if score < previous + 0.01:  # nats; a smaller gain is not worth four times the components
            return


def _expectation_maximization(draws: Points, num_components: int, matrix: Tensor) -> AffineMixture:
    loc = draws.mean(0)
    y = _inverse(draws, loc, matrix)
    closest = torch.cdist(y, y[_spread_out(y, num_components)]).argmin(-1)
    mixture = _maximized(y, torch.nn.functional.one_hot(closest, num_components).to(y))
    for _ in range(STEPS if num_components > 1 else 0):
        mixture = _maximized(y, mixture.responsibilities(y))
    return AffineMixture(mixture, loc, matrix)


def _maximized(y: Points, responsibilities: Float[Tensor, "point component"]) -> Mixture:
    """The M step; two additional draws with the overall variance keep small components from collapsing."""
    counts = responsibilities.sum(0).unsqueeze(-1) + TINY
    loc = responsibilities.T @ y / counts
    variance = (responsibilities.T @ y.square() / counts - loc.square()).clamp_min(0)
    pooled = (counts * variance).sum(0) / counts.sum()
    variance = (counts * variance + 2 * pooled) / (counts + 2) + 1e-10
    return Mixture(counts.squeeze(-1).log(), diagonal_normal(loc, variance.sqrt()))


def _spread_out(y: Points, number: int) -> Int[Tensor, " chosen"]:
    """Return indices of draws that are far from each other, by k-means++."""
    chosen = [0]
    distance = (y - y[0]).square().sum(-1)
    for _ in range(number - 1):
        chosen.append(int(torch.multinomial(distance + 1e-12, 1)))
        distance = torch.minimum(distance, (y - y[chosen[-1]]).square().sum(-1))
    return torch.tensor(chosen)


def _inverse(z: Points, loc: Tensor, matrix: Tensor) -> Points:
    """Return y with z = loc + matrix y."""
    return torch.linalg.solve_triangular(matrix, (z - loc).T, upper=False).T


def _cholesky(draws: Points) -> Float[Tensor, "latent latent2"]:
    covariance = torch.cov(draws.T).reshape(draws.shape[-1], -1)
    covariance.diagonal().mul_(1 + 1e-9).add_(TINY)
    return torch.linalg.cholesky(covariance)
