"""Objectives with several weighted draws: the importance-weighted bound, with two estimators of its gradient."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.model import LatentVariableModel, likelihood_of, log_prob_of_rows
from priory.objectives.bounds import Elbo, encoded
from priory.objectives.detached import detached
from priory.objectives.objective import Objective, Terms


@dataclass(frozen=True)
class ImportanceWeighted(Objective):
    """The importance-weighted bound of `num_samples` draws; see `importance_weighted_bound`.

        log 1/S sum_s w_s,    log w_s = log p(x|z_s) - beta (log q(z_s|x) - log p(z_s))

    With one draw it is the ELBO.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8.

    >>> ImportanceWeighted(num_samples=8)
    ImportanceWeighted(num_samples=8)
    """

    num_samples: int

    def __call__(
        self,
        model: LatentVariableModel,
        x: Float[Tensor, "batch *input"],
        beta: float = 1.0,
        *,
        prior: Distribution | None = None,
    ) -> Terms:
        p_z, q, z = encoded(model, x, self.num_samples, prior)
        return _terms(log_prob_of_rows(likelihood_of(model, z, x), x), q.log_prob(z) - p_z.log_prob(z), beta)[0]


@dataclass(frozen=True)
class DoublyReparameterized(ImportanceWeighted):
    """The importance-weighted bound; the variance of the encoder's gradient falls with the number of draws.

    With normalized weights v_s the gradient of the encoder is

        sum_s v_s (1 - beta (1 - v_s)) d log w_s / dz_s dz_s / dphi,

    and for beta = 1 the published sum_s v_s^2 ... Decoder and prior have the gradient of `ImportanceWeighted`. If a
    prior uses the encoder (VampPrior), the gradient through the prior is part of the prior's gradient.

    Reference: Tucker, Lawson, Gu & Maddison 2018, arXiv:1810.04152, eq. 8.

    >>> DoublyReparameterized(num_samples=8)
    DoublyReparameterized(num_samples=8)
    """

    def __call__(
        self,
        model: LatentVariableModel,
        x: Float[Tensor, "batch *input"],
        beta: float = 1.0,
        *,
        prior: Distribution | None = None,
    ) -> Terms:
        p_z, q, z = encoded(model, x, self.num_samples, prior)
        log_ratio = detached(q).log_prob(z) - p_z.log_prob(z)
        terms, weights = _terms(log_prob_of_rows(likelihood_of(model, z, x), x), log_ratio, beta)
        if z.requires_grad:
            z.register_hook(lambda gradient: gradient * (1 - beta * (1 - weights)).unsqueeze(-1))
        return terms


def _terms(
    log_likelihood: Float[Tensor, "sample batch"], log_ratio: Float[Tensor, "sample batch"], beta: float
) -> tuple[Terms, Float[Tensor, "sample batch"]]:
    """Return two parts of the bound, with the value and gradient of the bound at beta, and the normalized weights.

    log 1/S sum_s w_s = sum_s v_s (log w_s - log v_s) - log S for v_s = w_s / sum_t w_t. The derivative by v is zero
    there, so the weights can be constants.
    """
    weights = torch.softmax((log_likelihood - beta * log_ratio).detach(), 0)
    entropy = torch.special.entr(weights).sum(0)
    reconstruction = (weights * log_likelihood).sum(0) + entropy - math.log(len(weights))
    bound = Elbo(reconstruction, (weights * log_ratio).sum(0))
    return Terms(bound, Elbo(log_likelihood.mean(0), log_ratio.mean(0))), weights
