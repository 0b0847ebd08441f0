"""A correct mixture and a correct flow, and copies with one known error each.

They use neither a base class nor the mixture of the package, because the checks must work for any class.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from oracles import small_encoder
from priory import latent_grid

NUM_COMPONENTS = 4


class PlainMixture(nn.Module):
    """A joint mixture of diagonal normals with its own log_prob, written as the formula, and its own sample."""

    def __init__(self, latent_dim: int = 2, distance: float = 3.0, num_components: int = NUM_COMPONENTS) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(latent_dim)
        shape = (num_components, latent_dim)
        corners = torch.randint(0, 2, shape, generator=generator) * 2.0 - 1
        corners[:1], corners[1:2] = -1.0, 1.0
        self.loc = nn.Parameter(distance * corners + 0.3 * torch.randn(shape, generator=generator))
        self.log_scale = nn.Parameter(torch.full(shape, math.log(0.6)))
        self.mixing_logits = nn.Parameter(0.5 * torch.randn(num_components, generator=generator))

    def log_prob(self, z: Tensor) -> Tensor:
        terms = Normal(self.loc, self.log_scale.exp()).log_prob(z.unsqueeze(-2)).sum(-1)
        return torch.logsumexp(torch.log_softmax(self.mixing_logits, -1) + terms, -1)

    def sample(self, shape: torch.Size) -> Tensor:
        index = torch.distributions.Categorical(logits=self.mixing_logits).sample(shape)
        return torch.normal(self.loc[index], self.scale_of_samples()[index])

    def scale_of_samples(self) -> Tensor:
        return self.log_scale.exp()


class PerDimension(PlainMixture):
    """A log-sum-exp over components in each dimension, summed over dimensions: a product of marginals."""

    def log_prob(self, z: Tensor) -> Tensor:
        terms = Normal(self.loc, self.log_scale.exp()).log_prob(z.unsqueeze(-2))
        return torch.logsumexp(torch.log_softmax(self.mixing_logits, -1)[:, None] + terms, -2).sum(-1)


class SquaredScaleInSamples(PlainMixture):
    def scale_of_samples(self) -> Tensor:
        return torch.exp(2 * self.log_scale)


class FirstComponent(PlainMixture):
    def sample(self, shape: torch.Size) -> Tensor:
        first = torch.zeros(shape, dtype=torch.long)
        return torch.normal(self.loc[first], self.scale_of_samples()[first])


class FirstOfSeen(torch.distributions.MixtureSameFamily):
    """torch's mixture with a sampler that always takes the first component."""

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.component_distribution.sample(sample_shape)[..., 0, :]


class FirstOfSeenComponents(PlainMixture):
    """The same error in a distribution with accessible components."""

    log_prob = sample = None  # type: ignore[assignment]

    def forward(self) -> Distribution:
        normals = Independent(Normal(self.loc, self.log_scale.exp()), 1)
        return FirstOfSeen(torch.distributions.Categorical(logits=self.mixing_logits), normals)


class UnnormalizedWeights(PlainMixture):
    def log_prob(self, z: Tensor) -> Tensor:
        terms = Normal(self.loc, self.log_scale.exp()).log_prob(z.unsqueeze(-2)).sum(-1)
        return torch.logsumexp(self.mixing_logits + terms, -1)


class ConstantAdded(PlainMixture):
    """A common workaround for log 0: the mass becomes infinite, although hardly any of it is near the draws."""

    constant = 1e-10

    def log_prob(self, z: Tensor) -> Tensor:
        return torch.log(super().log_prob(z).exp() + self.constant)


class ParameterWithoutGradient(PlainMixture):
    def log_prob(self, z: Tensor) -> Tensor:
        terms = Normal(self.loc, self.log_scale.exp()).log_prob(z.unsqueeze(-2)).sum(-1)
        return torch.logsumexp(torch.log_softmax(self.mixing_logits.detach(), -1) + terms, -1)


class ScaleWithoutGradient(PlainMixture):
    """The scale is in the graph with a gradient of zero, although the density depends on it."""

    def log_prob(self, z: Tensor) -> Tensor:
        scale = self.log_scale.detach().exp() + 0 * self.log_scale
        terms = Normal(self.loc, scale).log_prob(z.unsqueeze(-2)).sum(-1)
        return torch.logsumexp(torch.log_softmax(self.mixing_logits, -1) + terms, -1)


class PlainTriangles(PlainMixture):
    """torch's mixture of normals whose parameters are Cholesky factors, which torch requires to be triangular."""

    log_prob = sample = None  # type: ignore[assignment]

    def __init__(self, latent_dim: int = 2, num_components: int = NUM_COMPONENTS) -> None:
        super().__init__(latent_dim, num_components=num_components)
        del self.log_scale
        self.scale_tril = nn.Parameter(torch.eye(latent_dim).repeat(num_components, 1, 1))

    def forward(self) -> Distribution:
        normals = MultivariateNormal(self.loc, scale_tril=self.scale_tril)
        return torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(logits=self.mixing_logits), normals
        )


class ValidationSwitchedOff(PlainMixture):
    def __init__(self, latent_dim: int = 2) -> None:
        super().__init__(latent_dim)
        Distribution.set_default_validate_args(False)


class SeedInSampler(PlainMixture):
    """Every call returns the same draws, and the caller's generator is seeded again."""

    def sample(self, shape: torch.Size) -> Tensor:
        torch.manual_seed(0)
        return super().sample(shape)


class PlainVamp(nn.Module):
    """q(z|u_k) at pseudo-inputs, weighted equally; the encoder is an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.randn(NUM_COMPONENTS, 6))

    def forward(self, encoder: nn.Module) -> Distribution:
        weights = torch.distributions.Categorical(logits=torch.zeros_like(self.pseudo_inputs[:, 0]))
        return torch.distributions.MixtureSameFamily(weights, encoder(self.pseudo_inputs))


class EncoderInside(PlainVamp):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self) -> Distribution:
        return super().forward(self.encoder)


class PlainGrid(nn.Module):
    """Equally weighted normals at the images of a grid's nodes under a network; the grid is a buffer."""

    def __init__(self, latent_dim: int = 2) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.network = nn.Linear(2, latent_dim)
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))
        self.keep(latent_grid(2))

    def keep(self, grid: Tensor) -> None:
        self.register_buffer("grid", grid)

    def forward(self) -> Distribution:
        loc = self.network(self.grid)
        weights = torch.distributions.Categorical(logits=torch.zeros_like(loc[:, 0]))
        normals = Independent(Normal(loc, self.log_scale.exp().expand_as(loc)), 1)
        return torch.distributions.MixtureSameFamily(weights, normals)


class GridNotBuffer(PlainGrid):
    def keep(self, grid: Tensor) -> None:
        self.grid = grid


class PlainNormal(nn.Module):
    """N(0, variance I) at initialization, as documented."""

    def __init__(self, latent_dim: int = 2, variance: float = 0.25) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.log_scale = nn.Parameter(torch.full((latent_dim,), math.log(self.start(variance))))

    def start(self, variance: float) -> float:
        return math.sqrt(variance)

    def forward(self) -> Distribution:
        return Independent(Normal(self.loc, self.log_scale.exp()), 1)


class VarianceAsScale(PlainNormal):
    def start(self, variance: float) -> float:
        return variance


class PlainFlow(nn.Module):
    """z = A e + b with a lower triangular A: log p(z) = log N(A^-1 (z - b) | 0, I) - log |det A|."""

    def __init__(self, latent_dim: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(latent_dim)
        self.raw = nn.Parameter(0.2 * torch.randn(latent_dim, latent_dim, generator=generator))
        self.loc = nn.Parameter(torch.randn(latent_dim, generator=generator))
        self.log_diagonal = nn.Parameter(torch.full((latent_dim,), 0.4))

    def matrix(self) -> Tensor:
        return self.raw.tril(-1) + torch.diag(self.log_diagonal.exp())

    def log_prob(self, z: Tensor) -> Tensor:
        noise = (z - self.loc) @ torch.linalg.inv(self.matrix()).T
        return Normal(0.0, 1.0).log_prob(noise).sum(-1) - self.times() * self.log_diagonal.sum()

    def times(self) -> int:
        return 1

    def sample(self, shape: torch.Size) -> Tensor:
        return self.loc + torch.randn(*shape, len(self.loc)).to(self.loc) @ self.matrix().T


class LogDeterminantCountedLTimes(PlainFlow):
    def times(self) -> int:
        return len(self.loc)


def unit_encoder() -> nn.Module:
    torch.manual_seed(1)
    return small_encoder()


def named_start() -> Distribution:
    return MultivariateNormal(torch.zeros(2), 0.25 * torch.eye(2))
