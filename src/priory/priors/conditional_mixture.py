"""Conditional mixtures: all contexts share the components and differ in the weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory.distributions.mixture import Mixture
from priory.nn.conditional import Given
from priory.priors.base import Features, MixturePrior, log_prior_of
from priory.priors.conditional import ConditionalPrior, PriorOfAnother, require_context
from priory.priors.covariates import Covariates


class ConditionalMixturePrior(PriorOfAnother, ConditionalPrior):
    """p(z | c) = sum_k p(k | c) p_k(z),  p(k | c) = pi_k p(c | k) / sum_j pi_j p(c | j),  for any mixture prior.

    All contexts share the components, such as the nodes of a grid. So there is one map, and each context has a density
    p(k | c) on it. Averaged over p(c) = sum_k pi_k p(c | k), the result is the mixture itself. If components are
    posteriors q(z | u_k, c_k), the encoder reads each pseudo-input with its own covariates c_k, the center of p(c | k).

    Args:
        prior: the mixture, such as a `VampPrior` or a `GTMPrior`.
        covariates: c_k and p(c | k).
        weights: whether the weights depend on c. If not, p(z) is the same for all contexts, and encoder and decoder
            model the differences between contexts (a batch effect).

    >>> from priory import ConditionalEncoder, NormalEncoder, VampPrior, mlp
    >>> from priory.priors import ComponentCovariates
    >>> prior = ConditionalMixturePrior(VampPrior(torch.rand(5, 6)), ComponentCovariates((3,), torch.ones(5, 3) / 3))
    >>> encoder = ConditionalEncoder(NormalEncoder(mlp(6 + 3, [8], 4)))
    >>> prior(encoder, torch.eye(3)).batch_shape
    torch.Size([3])
    """

    summary = "any mixture, with weights p(k | c) that depend on a context"
    reference = "Tomczak & Welling 2018, arXiv:1705.07120, eq. 9, with a context"

    prior: MixturePrior

    def __init__(self, prior: MixturePrior, covariates: Covariates, *, weights: bool = True) -> None:
        super().__init__()
        self.prior, self.covariates, self.weights = prior, covariates, weights

    def joint(self, encoder: nn.Module | None = None) -> Mixture:
        """Return the mixture over all contexts, p(z) = sum_k pi_k p_k(z)."""
        return self.prior(None if encoder is None else Given(encoder, self.covariates.of_components(self.prior)))

    def log_weights(self, context: Float[Tensor, "*batch context"]) -> Float[Tensor, "*batch component"]:
        """log p(k | c), in nats."""
        log_prob = self.covariates.log_prob(context, self.covariates.logits(self.prior))
        return torch.log_softmax(self.prior.mixing_logits + log_prob, -1)

    def forward(  # type: ignore[override]
        self, encoder: nn.Module | None = None, context: Float[Tensor, "*batch context"] | None = None
    ) -> Mixture:
        """p(z | c), with the context's batch shape, or () if the weights do not depend on it.

        Raises:
            TypeError: there is no context, or the components need an encoder and there is none.
            ValueError: the context has another width.
        """
        joint = self.joint(encoder)
        return Mixture(self.log_weights(require_context(self, context)), joint.components) if self.weights else joint

    def log_prior(self, encoder: nn.Module) -> Float[Tensor, ""] | None:
        """Return the log-density of the mixture's parameters, in nats per datum; None if the mixture has none."""
        return log_prior_of(self.prior, Given(encoder, self.covariates.of_components(self.prior)))

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """Fit one mixture to the draws of all contexts, if its steps have closed forms."""
        return self.prior.fit_by_em(z, features, seed=seed)
