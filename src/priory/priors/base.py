"""Base classes of priors: modules that return a distribution over z when they are called."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.distributions.mixture import Mixture
from priory.model import cast_like, evaluation_mode, owner, require_posterior
from priory.nn.encoders import Encoder

Features: TypeAlias = Callable[[], Float[Tensor, "datum feature"]]


class Prior(nn.Module, ABC):
    """p(z) as a module. A subclass needs only `forward`.

    Calling a prior evaluates it once; use the distribution that it returns for any number of z. The encoder is an
    argument, not a submodule: it stays out of the prior's `state_dict`, and the caller decides about its gradients.
    Parameters stay in float32 when a whole model is cast to half precision.

    A prior may have a method `log_prior(encoder)`, which returns the log-density of its parameters in nats per datum,
    or None. `fit` and `refit` add it to their objective with the weight of the KL term; its gradient changes only the
    parameters of the prior. See `VampPriorMixture`.

    Attributes:
        latent_dim: L, or None if the encoder decides.
        needs_encoder: whether `forward` needs the encoder.
        summary: one sentence about the prior, for lists of priors.
        reference: authors, year, equation.

    A prior that is built from the training rows has four more methods, which `fit` and `refit` call: `attach(rows,
    features)` and `detach()` before and after the training; `leave_out(numbers)`, a context manager around each step
    that gets the numbers of the batch's rows; and `refresh(encoder)` after each epoch. See `ExemplarPrior`.

    >>> from priory import diagonal_normal
    >>> class Wide(Prior):
    ...     latent_dim = 2
    ...
    ...     def forward(self, encoder=None):
    ...         return diagonal_normal(torch.zeros(2), torch.full((2,), 3.0))
    >>> Wide()().sample((5,)).shape
    torch.Size([5, 2])
    """

    latent_dim: int | None = None
    needs_encoder: ClassVar[bool] = False
    summary: ClassVar[str] = ""
    reference: ClassVar[str] = ""

    @abstractmethod
    def forward(self, encoder: Encoder | None = None) -> Distribution:
        """p(z), with batch shape () and event shape (L,)."""

    def extra_repr(self) -> str:
        """The sizes of the prior: L here; subclasses add theirs."""
        if self.latent_dim is not None:
            return f"L={self.latent_dim}"
        return "L from the encoder" if self.needs_encoder else ""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Keep parameters in float32 at least: half precision changes the density, and torch cannot draw from some."""

        def widened(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if not moved.is_floating_point() or moved.dtype.itemsize >= torch.float32.itemsize:
                return moved
            return tensor.to(moved.device, torch.float32)

        return super()._apply(widened, recurse)

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """Fit the prior to encoded data by expectation maximization, if its steps have closed forms.

        Args:
            z: draws from the aggregate posterior, (M, L), several for each datum.
            features: returns data as the encoder's first layer reads them, (N, D); needed for pseudo-inputs.
            seed: seed of a separate generator.

        Returns:
            True if the prior was fitted; False if it has no such fit, and then nothing has changed.
        """
        return False

    def refit_loss(self, p_z: Distribution, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, ""]:
        """Return the loss of a gradient step of `refit`: -E log p(z), unless the prior is learned in another way.

        Args:
            p_z: the evaluated prior.
            z: draws from the aggregate posterior.
        """
        return -p_z.log_prob(z).mean()


class MixturePrior(Prior):
    """p(z) = sum_k pi_k p_k(z), with pi = softmax(mixing_logits). Holds the weights; subclasses make the components.

    Args:
        num_components: K.
        learn_weights: True makes the weights a parameter; False keeps uniform weights in a buffer.

    >>> from priory import diagonal_normal
    >>> class Corners(MixturePrior):
    ...     def components(self, encoder=None):
    ...         loc = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    ...         return diagonal_normal(loc, torch.full((2, 2), 0.1))
    >>> Corners(2)().responsibilities(torch.tensor([1.0, 1.0])).detach().round()
    tensor([0., 1.])
    """

    mixing_logits: Tensor
    components_are_clusters: ClassVar[bool] = True  # rather than nodes of a map, or training rows

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
    def learn_weights(self) -> bool:
        """Whether the weights are parameters; the weight of a single component never is one."""
        return isinstance(self.mixing_logits, nn.Parameter)

    @property
    def mixing_weights(self) -> Float[Tensor, " component"]:
        """pi, the weights of the components; they sum to one."""
        return torch.softmax(self.mixing_logits, -1)

    @abstractmethod
    def components(self, encoder: Encoder | None = None) -> Distribution:
        """The components, with batch shape (K,) and event shape (L,)."""

    def forward(self, encoder: Encoder | None = None) -> Mixture:
        """p(z), with batch shape () and event shape (L,).

        Raises:
            TypeError: the prior needs the encoder, and there is none.
            ValueError: the components are not distributions over vectors.
        """
        if self.needs_encoder:
            require_encoder(self, encoder)
        components = self.components(encoder)
        if len(components.event_shape) != 1:
            raise ValueError(
                f"components: expected batch shape (K,) and event shape (L,), got batch shape "
                f"{tuple(components.batch_shape)} and event shape {tuple(components.event_shape)}; wrap independent "
                "dimensions in torch.distributions.Independent(components, 1)"
            )
        return Mixture(self.mixing_logits, components)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, (f"K={self.num_components}", super().extra_repr())))


def check_vector_density(argument: str, p_z: Distribution) -> int:
    """Return L of a distribution over vectors without batch dimensions; raise a ValueError for any other."""
    if len(p_z.event_shape) != 1 or p_z.batch_shape:
        raise ValueError(
            f"{argument}: expected one density over vectors (batch shape (), event shape (L,)), got batch shape "
            f"{tuple(p_z.batch_shape)} and event shape {tuple(p_z.event_shape)}; wrap independent dimensions in "
            "torch.distributions.Independent(density, 1)"
        )
    return p_z.event_shape[0]


def log_prior_of(prior: nn.Module, encoder: Encoder | None) -> Float[Tensor, ""] | None:
    """Return the log-density of a prior's parameters, in nats per datum; None if the prior has none."""
    log_prior = getattr(prior, "log_prior", None)
    return None if log_prior is None else log_prior(encoder)


def require_encoder(prior: Prior, encoder: Encoder | None) -> Encoder:
    """Return the encoder, or raise a TypeError if it is None."""
    if encoder is None:
        name = type(prior).__name__
        raise TypeError(
            f"{name}: its components are q(z|u_k), so it needs the encoder; call prior(encoder) with a module or "
            "function that maps a batch of pseudo-inputs to a distribution over z"
        )
    return encoder


def posteriors(prior: Prior, encoder: Encoder | None, pseudo_inputs: Float[Tensor, "component *input"]) -> Distribution:
    """Encode all pseudo-inputs to q(z | u_k) in one pass of the encoder in evaluation mode; batch shape (K,).

    In training mode, the pseudo-inputs would influence each other through batch norm and change its statistics, and
    dropout would change the prior in each step.

    Raises:
        TypeError: there is no encoder, or it did not return a distribution.
        ValueError: it did not return a distribution over vectors.
    """
    encoder = require_encoder(prior, encoder)
    with evaluation_mode(encoder):
        return require_posterior("encoder", encoder(cast_like(pseudo_inputs, owner(encoder))))
