"""What a prior is: a module that, called, returns a distribution over z."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.distributions.mixture import Mixture
from priory.nn.encoders import Encoder


@dataclass(frozen=True)
class PriorSpec:
    """What a command line knows when it builds a prior; each prior takes from it what it needs.

    Attributes:
        latent_dim: L.
        num_features: width of what the encoder's first layer reads.
        num_components: K of a mixture without a grid.
        points_per_side: nodes along each side of a grid.
        grid_dim: C, dimensions of the grid.
        hidden: widths of the hidden layers of a prior's own network.
        learn_weights: whether mixing weights are learned or uniform.
        learn_pseudo_inputs: whether the pseudo-inputs of a VampPrior are learned or stay where they start.
        initialize: where pseudo-inputs start: "data", "mean" (plus noise) or "uniform" over the range.
        feature_range: smallest and largest value of a feature; None where there is no bound.
        features: training rows as the encoder's first layer reads them, (N, num_features); None when a model is
            rebuilt only to take saved weights.
        flow_transforms: coupling layers of a flow.
        grid_start: how a grid starts: "gtm", as a classical GTM of the features, which then guides it, or "mean".
        grid_network: the network behind a grid: "mlp", or "rbf", radial basis functions as in the classical GTM.
        basis_per_side: radial basis functions along each side; None for half of
            `points_per_side`, rounded up.
        basis_width: standard deviation of a radial basis function, in spacings between their centers.
    """

    latent_dim: int
    num_features: int
    num_components: int = 16
    points_per_side: int = 4
    grid_dim: int = 2
    hidden: Sequence[int] = (256, 256)
    learn_weights: bool = True
    learn_pseudo_inputs: bool = True
    initialize: str = "data"
    feature_range: tuple[float | None, float | None] = (None, None)
    features: Float[Tensor, "datum feature"] | None = None
    flow_transforms: int = 3
    grid_start: str = "mean"
    grid_network: str = "mlp"
    basis_per_side: int | None = None
    basis_width: float = 1.0

    @property
    def num_nodes(self) -> int:
        """Nodes of the grid."""
        return self.points_per_side**self.grid_dim

    @property
    def functions_per_side(self) -> int:
        """Radial basis functions along each side."""
        return self.basis_per_side or (self.points_per_side + 1) // 2

    @property
    def grid_widths(self) -> tuple[int, ...]:
        """What the network behind a grid computes at each node, before its outputs."""
        if self.grid_network == "rbf":
            return (self.functions_per_side**self.grid_dim + 1,)
        return (self.grid_dim, *self.hidden)

    @property
    def rows(self) -> Float[Tensor, "datum feature"]:
        """Features to start from: the training rows, or a row of constants that saved weights will overwrite."""
        if self.features is not None:
            return self.features
        return torch.full((1, self.num_features), self.feature_range[0] or 0.0)


class Prior(nn.Module, ABC):
    """p(z) as a module: parameters, devices and `state_dict` are its own, the numbers are its distribution's.

    Calling it evaluates it once; use what it returns for any number of z. The encoder is an argument, never a child,
    so it stays out of the prior's `state_dict`, and the caller decides about its mode and gradients.

    Attributes:
        latent_dim: L, or None where the encoder decides.
        summary: one sentence for `priory priors`.
        reference: authors, year, equation.
    """

    latent_dim: int | None = None
    summary: ClassVar[str]
    reference: ClassVar[str]

    @abstractmethod
    def forward(self, encoder: Encoder | None = None) -> Distribution:
        """p(z), with batch shape () and event shape (L,)."""

    @classmethod
    @abstractmethod
    def from_spec(cls, spec: PriorSpec) -> Self:
        """The prior that the command line builds."""

    def fit_by_em(
        self,
        z: Float[Tensor, "draw latent"],
        features: Callable[[], Float[Tensor, "datum feature"]] | None = None,
        *,
        seed: int = 0,
    ) -> bool:
        """Fit it to encoded data by expectation maximization, where its steps have a closed form.

        Args:
            z: draws from the aggregate posterior, (M, L), several for each datum.
            features: gives data as the encoder's first layer reads them, (N, D), for pseudo-inputs.
            seed: of its own generator.

        Returns:
            Whether it was done; where it was not, nothing has changed.
        """
        return False

    @classmethod
    def num_values(cls, spec: PriorSpec) -> int:
        """About how many numbers it holds, and computes where it is evaluated: for an estimate of the memory."""
        return 0


class MixturePrior(Prior):
    """p(z) = sum_k pi_k p_k(z), with pi = softmax(mixing_logits): owns the weights; subclasses make the components.

    Args:
        num_components: K.
        learn_weights: a parameter if true; uniform weights in a buffer otherwise.
    """

    mixing_logits: Tensor

    def __init__(self, num_components: int, *, learn_weights: bool = True) -> None:
        super().__init__()
        if num_components < 1:
            raise ValueError(f"num_components: expected at least one, got {num_components}")
        logits = torch.zeros(num_components)
        if learn_weights and num_components > 1:  # the weight of a single component is one, whatever its logit
            self.mixing_logits = nn.Parameter(logits)
        else:
            self.register_buffer("mixing_logits", logits)

    @property
    def num_components(self) -> int:
        """K."""
        return self.mixing_logits.shape[0]

    @property
    def mixing_weights(self) -> Float[Tensor, " component"]:
        """pi, summing to one."""
        return torch.softmax(self.mixing_logits, -1)

    @abstractmethod
    def components(self, encoder: Encoder | None = None) -> Distribution:
        """The components, with batch shape (K,) and event shape (L,)."""

    def forward(self, encoder: Encoder | None = None) -> Mixture:
        """p(z), with batch shape () and event shape (L,)."""
        return Mixture(self.mixing_logits, self.components(encoder))


def check_vector_density(argument: str, p_z: Distribution) -> int:
    """L of a distribution over vectors without a batch, or a ValueError that says what came instead."""
    if len(p_z.event_shape) != 1 or p_z.batch_shape:
        raise ValueError(
            f"{argument}: expected one density over vectors (batch shape (), event shape (L,)), got batch shape "
            f"{tuple(p_z.batch_shape)} and event shape {tuple(p_z.event_shape)}; wrap independent dimensions in "
            "torch.distributions.Independent(density, 1)"
        )
    return p_z.event_shape[0]


def encode_pseudo_inputs(prior: Prior, encoder: Encoder | None, pseudo_inputs: Tensor) -> Distribution:
    """q(z | u_k) of all pseudo-inputs in one pass, with a clear word where the encoder is missing."""
    if encoder is None:
        name = type(prior).__name__
        raise TypeError(
            f"{name}: its components are q(z|u_k), so it needs the encoder; call prior(encoder) with a module or "
            "function that maps a batch of pseudo-inputs to a distribution over z"
        )
    return encoder(pseudo_inputs)
