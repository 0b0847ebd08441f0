"""All priors, as tests build them; also priors, networks and densities that are not part of the package."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Poisson,
    StudentT,
    constraints,
)

from mutants import PlainFlow, PlainMixture
from priory import (
    VAE,
    BernoulliDecoder,
    DensityPrior,
    FlowPrior,
    GaussianDecoder,
    Mixture,
    MixturePrior,
    NegativeBinomialDecoder,
    NormalEncoder,
    Prior,
    Rescale,
    mlp,
)
from priory.distributions.normal import diagonal_normal
from priory.nn.decoders import LikelihoodDecoder
from priory.priors.base import Encoder
from priory.workbench.data import Table
from priory.workbench.models.building import build_prior, class_of_prior
from priory.workbench.models.facts import Features
from priory.workbench.settings.model import ModelSettings
from priory.workbench.settings.priors import PRIORS

SMALL = {
    "components": 9,
    "points_per_side": 3,
    "prior_hidden": (8,),
    "grid_start": "mean",
    "grid_network": "mlp",
    "acceptance_hidden": (8,),
}


def made(name: str, latent_dim: int, features: Features, **settings: Any) -> Prior:
    """Return the prior of this name, with those of the settings that it has."""
    return build_prior(ModelSettings.of_prior(name, latent_dim=latent_dim, **SMALL | settings), features)


def slow_if(names: Collection[str], slow: Collection[str]) -> list[Any]:
    """Return the names as parameters of a test; those in `slow` have the mark."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


class StudentMixture(MixturePrior):
    """p(z) = sum_k pi_k prod_l StudentT(z_l | df, loc_kl, scale_kl)."""

    summary = "K products of Student-t distributions"
    reference = "a test"

    def __init__(self, latent_dim: int, num_components: int = 16, *, degrees_of_freedom: float = 6.0) -> None:
        super().__init__(num_components)
        self.latent_dim = latent_dim
        self.degrees_of_freedom = degrees_of_freedom
        self.loc = nn.Parameter(torch.randn(num_components, latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(num_components, latent_dim))

    def components(self, encoder: Encoder | None = None) -> Independent:
        return Independent(StudentT(self.degrees_of_freedom, self.loc, self.log_scale.exp()), 1)


class ExemplarPrior(Prior):
    """p(z) = 1/N sum_n N(z | mean of q(z | x_n), scale^2 I), with one learned scale."""

    needs_encoder = True

    def __init__(self, features: Float[Tensor, "datum feature"]) -> None:
        super().__init__()
        self.register_buffer("exemplars", features.clone())
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, encoder: Encoder | None = None) -> Any:
        if encoder is None:
            raise TypeError("ExemplarPrior: needs the encoder")
        loc = encoder(self.exemplars).mean
        normals = diagonal_normal(loc, self.log_scale.exp().expand_as(loc))
        return Mixture(torch.zeros(len(loc)).to(loc), normals)


MEMBERS = [*PRIORS, "family:StudentMixture", "family:ExemplarPrior"]
MIXTURES = [name for name in MEMBERS if issubclass(class_of_prior(name), MixturePrior)]


class PoissonDecoder(LikelihoodDecoder):
    """Counts, p(x_d | z) = Poisson(x_d | exp(offset + network(z)_d))."""

    def __init__(self, network: nn.Module, *, offset: float = 0.0) -> None:
        super().__init__(network, 1)
        self.offset = offset

    @classmethod
    def outputs_per_dimension(cls, **options: Any) -> int:
        return 1

    @classmethod
    def support(cls, **options: Any) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @classmethod
    def preprocessing(cls, rows: Tensor, **options: Any) -> Rescale:
        return Rescale(0.0, max(1.0, float(rows.max())))

    def forward(self, z: Tensor) -> Independent:
        return Independent(Poisson(torch.exp(self.offset + self.outputs(z).squeeze(-1))), 1)


class Residual(nn.Module):
    """A perceptron with skip connections; a network for the encoder or the decoder."""

    def __init__(self, num_inputs: int, num_outputs: int, num_blocks: int = 1) -> None:
        super().__init__()
        self.out_features = num_outputs
        self.blocks = nn.ModuleList(nn.Linear(num_inputs, num_inputs) for _ in range(num_blocks))
        self.head = nn.Linear(num_inputs, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(x)


class RowWidthPrior(Prior):
    """N(0, h^2 I) with h the standard deviation of the training rows, a number that is not in the state_dict."""

    def __init__(self, latent_dim: int, features: Tensor) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.width = float(features.std())

    def forward(self, encoder: Encoder | None = None) -> Independent:
        return diagonal_normal(torch.zeros(self.latent_dim), torch.full((self.latent_dim,), self.width))


class Spread(Prior):
    """N(0, width^2 I), with a required width."""

    def __init__(self, latent_dim: int, width: float) -> None:
        super().__init__()
        self.latent_dim, self.width = latent_dim, width

    def forward(self, encoder: Encoder | None = None) -> Independent:
        return diagonal_normal(torch.zeros(self.latent_dim), torch.full((self.latent_dim,), self.width))


class LooseDecoder(PoissonDecoder):
    """A decoder whose columns are batch dimensions instead of an event."""

    def forward(self, z: Tensor) -> Any:
        return super().forward(z).base_dist


def read_lines(path: Path, as_written: Collection[str]) -> Table:
    """Read numbers separated by spaces, one row in each line."""
    matrix = np.loadtxt(path)
    return Table(matrix, tuple(f"x{i}" for i in range(matrix.shape[1])))


class Wide(Residual):
    """The same with another default."""

    def __init__(self, num_inputs: int, num_outputs: int, num_blocks: int = 2) -> None:
        super().__init__(num_inputs, num_outputs, num_blocks)


L = 3  # latent dimensions of `small_vae`
OTHERS = {
    "normal": lambda: DensityPrior(MultivariateNormal(torch.zeros(L), torch.eye(L))),
    "low rank": lambda: DensityPrior(LowRankMultivariateNormal(torch.zeros(L), torch.ones(L, 1), torch.ones(L))),
    "student": lambda: DensityPrior(Independent(StudentT(3.0, torch.zeros(L), torch.ones(L)), 1)),
    "plain mixture": lambda: DensityPrior(PlainMixture(L), latent_dim=L),
    "plain flow": lambda: DensityPrior(PlainFlow(L), latent_dim=L),
    "spline flow": lambda: FlowPrior.spline(L, hidden=(8,)),
}
DECODERS = {
    "bernoulli": BernoulliDecoder,
    "gaussian": GaussianDecoder,
    "negative-binomial": NegativeBinomialDecoder,
    "poisson": PoissonDecoder,
}


def small_vae(prior: str, decoder: str = "gaussian", num_rows: int = 18) -> tuple[VAE, Tensor]:
    """Return a VAE with this prior or density, in evaluation mode, and rows for it, (N, 5)."""
    torch.manual_seed(0)
    draws = {"gaussian": torch.randn, "bernoulli": lambda *shape: torch.rand(*shape).round()}
    x = draws.get(decoder, lambda *shape: torch.poisson(5 * torch.rand(*shape)))(num_rows, 5)
    likelihood = DECODERS[decoder].from_data(mlp(L, [8], 5), x)
    preprocess = DECODERS[decoder].preprocessing(x)
    p_z = OTHERS[prior]() if prior in OTHERS else made(prior, L, Features(preprocess(x), *preprocess.feature_range))
    network = mlp(5, [8], 2 * L) if decoder == "gaussian" else Residual(5, 2 * L)
    return VAE(NormalEncoder(network), likelihood, p_z, preprocess).eval(), x
