"""The VampPrior mixture: clusters around encoded pseudo-inputs; training determines how many."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent

from priory.distributions.normal import bounded_scale, diagonal_normal
from priory.priors.base import Encoder
from priory.priors.vamp import VampPrior


class VampPriorMixture(VampPrior):
    """A Bayesian mixture of Gaussians in latent space; its K centers are distributed as the encoder's posteriors.

        p(z | k) = N(z | m_k, diag(1 / precision_k)),    m_k ~ q(. | u_k) = N(loc(u_k), diag(scale(u_k)^2))
        p(z) = sum_k pi_k N(z | loc(u_k), diag(scale(u_k)^2 + 1 / precision_k))

    Its parameters have a prior, `log_prior`, which `fit` adds to the objective: a finite Dirichlet process over the
    weights, a normal over the centers and a Wishart over the precisions. The Dirichlet process empties the clusters
    that the data do not need. So K is the largest number of clusters, and `responsibilities` of p(z) assigns data to
    them.

    Differences from the published code: precisions are diagonal, as the posteriors of this package are. The
    concentration is fixed, not learned. One gradient step updates networks and prior, while the published code
    alternates; as there, the gradient of `log_prior` changes only the prior.

    Args:
        pseudo_inputs: their initial values, (K, *input); see `VampPrior`.
        latent_dim: L.
        concentration: of the Dirichlet process: pi ~ Dirichlet(concentration / K, ...).
        evidence_rows: number of rows against which the prior of the parameters is weighted. Fewer rows leave fewer
            clusters: a cluster with a smaller share than 1 / evidence_rows becomes empty. The published code uses its
            batch size; the number of training rows gives the maximum a posteriori.
        low: smallest value of the pseudo-inputs' space, or None.
        high: largest value of that space, or None.
        learn_pseudo_inputs: True makes them parameters; False keeps them in a buffer.
        learn_weights: learned mixing weights, or uniform ones.

    Raises:
        TypeError: pseudo_inputs is not a tensor.
        ValueError: an argument is not positive, or pseudo_inputs has no rows or leaves the range.

    Reference: Stirn & Knowles 2024, arXiv:2402.04412, with the code of the authors (`priors.py`).

    >>> from priory import NormalEncoder, mlp
    >>> prior = VampPriorMixture.from_data(torch.rand(100, 6), num_components=5, latent_dim=2, low=0.0, high=1.0)
    >>> encoder = NormalEncoder(mlp(6, [8], 4))
    >>> prior(encoder).responsibilities(torch.zeros(3, 2)).shape, prior.log_prior(encoder).shape
    (torch.Size([3, 5]), torch.Size([]))
    """

    summary = "clusters around the encoder's posteriors at K pseudo-inputs; a Dirichlet process removes needless ones"
    reference = "Stirn & Knowles 2024, arXiv:2402.04412"

    def __init__(
        self,
        pseudo_inputs: Float[Tensor, "component *input"],
        *,
        latent_dim: int,
        concentration: float = 1.0,
        evidence_rows: float = 256.0,
        low: float | None = None,
        high: float | None = None,
        learn_pseudo_inputs: bool = True,
        learn_weights: bool = True,
    ) -> None:
        positive = {"latent_dim": latent_dim, "concentration": concentration, "evidence_rows": evidence_rows}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name}: expected a finite number above zero, got {value}")
        super().__init__(
            pseudo_inputs, low=low, high=high, learn_pseudo_inputs=learn_pseudo_inputs, learn_weights=learn_weights
        )
        self.latent_dim, self.concentration, self.evidence_rows = latent_dim, concentration, evidence_rows
        self.log_precision = nn.Parameter(torch.zeros(len(pseudo_inputs), latent_dim))

    def components(self, encoder: Encoder | None = None) -> Independent:
        """The K clusters; batch shape (K,) and event shape (L,)."""
        q: Any = super().components(encoder)
        variance = q.variance + self._widths.square()
        return diagonal_normal(q.mean, variance.sqrt())

    def log_prior(self, encoder: Encoder) -> Float[Tensor, ""]:
        """Log-density of the parameters in nats per datum, up to a constant: their log-prior over `evidence_rows`.

            log Dirichlet(pi | concentration / K) + sum_k (E[log N(m_k | 0, I)] + log Wishart(precision_k | L + 2, V))

        with V = K^(2/L) / (L + 2) I. The expected precision is K^(2/L) I, so that K clusters fill a standard normal.
        """
        size, latents = self.log_precision.shape
        weights = (self.concentration / size - 1) * torch.log_softmax(self.mixing_logits, -1).sum()
        q = super().components(encoder)
        centers = -0.5 * (q.mean.square() + q.variance).sum()
        rate = 0.5 * (latents + 2) / size ** (2 / latents)
        precisions = (0.5 * self.log_precision - rate * self._widths.pow(-2)).sum()
        return (weights + centers + precisions) / self.evidence_rows

    @property
    def _widths(self) -> Float[Tensor, "component latent"]:
        """The standard deviations of the clusters around their centers."""
        return bounded_scale(-0.5 * self.log_precision)
