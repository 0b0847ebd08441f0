"""Conditional priors p(z | c): their base class, and a prior with a fixed context."""

from abc import abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.grid.guide import Guide
from priory.nn.conditional import Given
from priory.nn.encoders import Encoder
from priory.priors.base import Prior


class PriorOfAnother(Prior):
    """A prior that wraps another prior, the attribute `prior`, and has its sizes."""

    prior: Prior

    @property
    def needs_encoder(self) -> bool:  # type: ignore[override]
        """Whether the prior needs the encoder."""
        return self.prior.needs_encoder

    @property
    def latent_dim(self) -> int | None:  # type: ignore[override]
        """L, or None if the encoder decides."""
        return self.prior.latent_dim

    @property
    def guide(self) -> Guide | None:
        """The guide of a prior with a grid."""
        return getattr(self.prior, "guide", None)


class ConditionalPrior(Prior):
    """p(z | c) as a module. A subclass needs only `forward`."""

    @abstractmethod
    def forward(  # type: ignore[override]  # it needs a context, which `Prior.forward` does not take
        self, encoder: nn.Module | None = None, context: Float[Tensor, "*batch context"] | None = None
    ) -> Distribution:
        """Return p(z | c), with the batch shape of the context without its last axis, or () if it does not depend on c.

        Args:
            encoder: called as `encoder(pseudo_inputs, covariates)`.
            context: one for each row, (B, C), or one for all rows, (C,).
        """


class GivenPrior(PriorOfAnother):
    """A prior at a fixed context: p(z | c) if the prior is conditional, else p(z).

    Args:
        prior: any prior. If it needs the encoder, it must be conditional, because its pseudo-inputs need covariates.
        context: one for each row, (B, C), or one for all rows, (C,).

    Raises:
        TypeError: the prior needs the encoder and is not conditional.

    >>> from priory import StandardNormal
    >>> GivenPrior(StandardNormal(2), torch.zeros(3))().event_shape
    torch.Size([2])
    """

    context: Tensor

    def __init__(self, prior: Prior, context: Float[Tensor, "*batch context"]) -> None:
        super().__init__()
        if getattr(prior, "needs_encoder", False) and not isinstance(prior, ConditionalPrior):
            raise TypeError(
                f"prior: expected one whose pseudo-inputs have covariates, for an encoder q(z|x, c), got a "
                f"{type(prior).__name__}; give ConditionalMixturePrior(prior, covariates)"
            )
        self.prior = prior
        self.register_buffer("context", context, persistent=False)

    def forward(self, encoder: Encoder | None = None) -> Distribution:
        """Return p(z | c); an encoder's fixed context is ignored, because pseudo-inputs have their own covariates."""
        if not isinstance(self.prior, ConditionalPrior):
            return self.prior(None)
        module: Any = encoder.module if isinstance(encoder, Given) else encoder
        return self.prior(module, self.context)


def require_unconditional(argument: str, prior: nn.Module) -> None:
    """Raise a TypeError for a conditional prior inside another prior, which cannot pass it a context."""
    if isinstance(prior, ConditionalPrior):
        raise TypeError(
            f"{argument}: expected a prior p(z), got a {type(prior).__name__}, which gives p(z | c); give a prior "
            "without a context"
        )


def require_context(prior: Prior, context: Tensor | None) -> Tensor:
    """Return the context, or raise a TypeError if it is None."""
    if context is None:
        name = type(prior).__name__
        raise TypeError(
            f"{name}: expected a context, because it gives p(z | c), got none; call prior(encoder, context)"
        )
    return context
