"""The conditional mixture of Gaussians: weights, means and scales depend on the context."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory.distributions.mixture import Mixture
from priory.distributions.normal import at_least_float32, bounded_scale, diagonal_normal
from priory.priors.base import Features
from priory.priors.conditional import ConditionalPrior, require_context
from priory.priors.gaussians import MixtureOfGaussians


class ConditionalMixtureOfGaussians(ConditionalPrior):
    """p(z | c) = sum_k pi_k(c) N(z | loc_k(c), diag(scale_k(c)^2)); initially, the mixture does not depend on c.

        loc_k(c) = loc_k + A_k h(c),    log scale_k(c) = log scale_k + B_k h(c),    logit_k(c) = logit_k + w_k h(c)

    If h(c) = c indicates classes, each class has a separate mixture, and they share no parameters.

    Args:
        prior: the mixture at the start, for all contexts.
        context_dim: width of h(c).
        features: h, a module from c (..., C) to (..., context_dim); None for the identity.

    Raises:
        ValueError: context_dim is not positive, or h(c) has another width (raised by `forward`).

    Reference: Bishop 1994, *Mixture Density Networks*, eq. 22-27.

    >>> prior = ConditionalMixtureOfGaussians(MixtureOfGaussians(2, 5), context_dim=3)
    >>> prior(context=torch.eye(3)).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    summary = "K diagonal normals whose weights, means and scales depend on a context"
    reference = "Bishop 1994, Mixture Density Networks, eq. 22-27"

    def __init__(self, prior: MixtureOfGaussians, context_dim: int, features: nn.Module | None = None) -> None:
        super().__init__()
        if context_dim < 1:
            raise ValueError(f"context_dim: expected a positive width of h(c), got {context_dim}")
        self.prior, self.features = prior, nn.Identity() if features is None else features
        size = *prior.loc.shape, context_dim
        self.logit_slopes = nn.Parameter(torch.zeros(size[0], context_dim))
        self.loc_slopes, self.log_scale_slopes = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    @property
    def latent_dim(self) -> int | None:  # type: ignore[override]
        """L."""
        return self.prior.latent_dim

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        return {"context_dim": self.logit_slopes.shape[1]}

    def forward(  # type: ignore[override]
        self, encoder: nn.Module | None = None, context: Float[Tensor, "*batch context"] | None = None
    ) -> Mixture:
        """p(z | c), with the context's batch shape.

        Raises:
            TypeError: there is no context.
            ValueError: h(c) has another width.
        """
        h = at_least_float32(self.features(require_context(self, context)))
        if h.shape[-1] != self.logit_slopes.shape[1]:
            raise ValueError(
                f"features: expected h(c) of width {self.logit_slopes.shape[1]}, got shape {tuple(h.shape)}"
            )
        loc = self.prior.loc + torch.einsum("klh,...h->...kl", self.loc_slopes, h)
        log_scale = self.prior.log_scale + torch.einsum("klh,...h->...kl", self.log_scale_slopes, h)
        components = diagonal_normal(loc, bounded_scale(log_scale))
        return Mixture(self.prior.mixing_logits + h @ self.logit_slopes.mT, components)

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """Fit one mixture to the draws of all contexts, if its steps have closed forms."""
        return self.prior.fit_by_em(z, features, seed=seed)
