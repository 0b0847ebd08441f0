"""The conditional mixture of Gaussians: weights, means and scales depend on the context."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory.distributions.mixture import Mixture
from priory.distributions.normal import at_least_float32, bounded_scale, diagonal_normal
from priory.priors.base import Features
from priory.priors.conditional import ConditionalPrior, require_context
from priory.priors.gaussians import MixtureOfGaussians


class ConditionalMixtureOfGaussians(ConditionalPrior):
    """p(z | c) = sum_k pi_k(c) N(z | loc_k(c), diag(scale_k(c)^2)), a mixture of Gaussians that a network of c changes.

        (logits of pi(c), loc(c), log scale(c)) = those of the mixture + network(c)

    Args:
        prior: the mixture of Gaussians.
        network: from c (..., C) to K (1 + 2 L) numbers: logits of the weights, then means, then log-scales. A linear
            layer of indicators of classes makes separate mixtures, which share nothing.

    Raises:
        ValueError: the network gives another width (when called).

    Reference: Bishop 1994, *Mixture Density Networks*, eq. 22-27.

    >>> prior = ConditionalMixtureOfGaussians(MixtureOfGaussians(2, 5), nn.Linear(3, 5 * (1 + 2 * 2)))
    >>> prior(context=torch.eye(3)).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    summary = "K diagonal normals whose weights, means and scales depend on a context"
    reference = "Bishop 1994, Mixture Density Networks, eq. 22-27"

    def __init__(self, prior: MixtureOfGaussians, network: nn.Module) -> None:
        super().__init__()
        self.prior, self.network = prior, network

    @property
    def latent_dim(self) -> int | None:  # type: ignore[override]
        """L."""
        return self.prior.latent_dim

    def forward(  # type: ignore[override]
        self, encoder: nn.Module | None = None, context: Float[Tensor, "*batch context"] | None = None
    ) -> Mixture:
        """p(z | c), with the context's batch shape.

        Raises:
            TypeError: there is no context.
            ValueError: the network gives another width.
        """
        loc = self.prior.loc
        output = at_least_float32(self.network(require_context(self, context)))
        expected = len(loc) + 2 * loc.numel()
        if output.shape[-1] != expected:
            raise ValueError(f"network: expected K (1 + 2 L) = {expected} numbers, got shape {tuple(output.shape)}")
        logits, moved, log_scale = output.split((len(loc), loc.numel(), loc.numel()), -1)
        components = diagonal_normal(
            loc + moved.unflatten(-1, loc.shape), bounded_scale(self.prior.log_scale + log_scale.unflatten(-1, loc.shape))
        )
        return Mixture(self.prior.mixing_logits + logits, components)

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """Fit the mixture of all contexts, if its steps have a closed form."""
        return self.prior.fit_by_em(z, features, seed=seed)
