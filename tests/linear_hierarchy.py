"""A linear-Gaussian model of several levels: all variables are jointly normal.

a ~ N(0, I),  b | a ~ N(W a + ..., .),  x | a, b ~ N(V (a, b) + ..., .);  q(a | x), q(b | x, a) likewise
"""

import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal

from priory import VAE, HierarchicalEncoder, HierarchicalPrior, StandardNormal, diagonal_normal
from priory.distributions.chain import Chain
from priory.nn.hierarchy import nested

LEVELS, NUM_INPUTS = (3, 2, 1), 4


class LinearNormal(nn.Module):
    """v -> N(W v + b, diag(scale^2))."""

    def __init__(self, num_inputs: int, latent_dim: int, scale: float) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.weight = nn.Parameter(0.4 * torch.randn(latent_dim, num_inputs))
        self.bias = nn.Parameter(0.3 * torch.randn(latent_dim))
        self.log_scale = nn.Parameter(torch.full((latent_dim,), scale).log() + 0.1 * torch.randn(latent_dim))

    def forward(self, v: Tensor) -> Independent:
        loc = v @ self.weight.T + self.bias
        return diagonal_normal(loc, self.log_scale.exp().expand_as(loc))

    def extended(self, known: MultivariateNormal) -> MultivariateNormal:
        """The joint distribution of v and of a draw given v."""
        mean, cov = known.mean, known.covariance_matrix
        across = self.weight @ cov
        below = torch.cat([across, across @ self.weight.T + torch.diag((2 * self.log_scale).exp())], 1)
        joint = torch.cat([torch.cat([cov, across.T], 1), below])
        return MultivariateNormal(torch.cat([mean, self.weight @ mean + self.bias]), joint)


class Hierarchy:
    """The model in float64, its parts by level, and its closed forms."""

    def __init__(self, num_levels: int = 2, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.levels = LEVELS[:num_levels]
        above = [sum(self.levels[:level]) for level in range(num_levels + 1)]
        self.encoders = [LinearNormal(NUM_INPUTS + above[i], size, 1.0) for i, size in enumerate(self.levels)]
        self.conditionals = [LinearNormal(above[i], self.levels[i], 0.8) for i in range(1, num_levels)]
        decoder = LinearNormal(above[-1], NUM_INPUTS, 1.5)
        prior = HierarchicalPrior(StandardNormal(self.levels[0]), nested(self.conditionals))
        encoder = HierarchicalEncoder(self.encoders[0], nested(self.encoders[1:]))
        self.vae = VAE(encoder, decoder, prior).double()

    def prior(self) -> MultivariateNormal:
        size = self.levels[0]
        joint = MultivariateNormal(torch.zeros(size).double(), torch.eye(size).double())
        for part in self.conditionals:
            joint = part.extended(joint)
        return joint

    def evidence(self) -> MultivariateNormal:
        """p(x)."""
        return part_of(self.vae.decoder.extended(self.prior()), slice(sum(self.levels), None))

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z | x) of a row."""
        joint, size = self.vae.decoder.extended(self.prior()), sum(self.levels)
        mean, cov = joint.mean, joint.covariance_matrix
        gain = cov[:size, size:] @ torch.linalg.inv(cov[size:, size:])
        left = cov[:size, :size] - gain @ cov[size:, :size]
        return MultivariateNormal(mean[:size] + gain @ (x - mean[size:]), (left + left.T) / 2)

    def approximate(self, x: Tensor) -> MultivariateNormal:
        """q(z | x) of a row."""
        joint = MultivariateNormal(x, 1e-13 * torch.eye(len(x)).double())
        for part in self.encoders:
            joint = part.extended(joint)
        return part_of(joint, slice(len(x), None))


def part_of(p: MultivariateNormal, chosen: slice) -> MultivariateNormal:
    return MultivariateNormal(p.mean[chosen], p.covariance_matrix[chosen, chosen])


class ExactEncoder(nn.Module):
    """p(z | x) as a chain of normals with full covariances."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__()
        self.hierarchy, self.levels = hierarchy, hierarchy.levels

    def forward(self, x: Tensor) -> Chain:
        exact = [self.hierarchy.posterior(row) for row in x]
        mean, cov = (
            torch.stack(column) for column in zip(*((p.mean, p.covariance_matrix) for p in exact), strict=True)
        )
        top = self.levels[0]
        gain = cov[:, top:, :top] @ torch.linalg.inv(cov[:, :top, :top])
        left = cov[:, top:, top:] - gain @ cov[:, :top, top:]

        def rest(a: Tensor) -> MultivariateNormal:
            return MultivariateNormal(mean[:, top:] + ((a - mean[:, :top]).unsqueeze(-2) @ gain.mT).squeeze(-2), left)

        return Chain(MultivariateNormal(mean[:, :top], cov[:, :top, :top]), rest, self.levels[1:])
