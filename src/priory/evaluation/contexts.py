"""The prior of a conditional model, averaged over contexts."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from priory.distributions.mixture import Mixture
from priory.distributions.normal import diagonal_normal, is_diagonal_normal
from priory.model import AnyModel, ConditionalModel, device_of, given, latent_prior_of
from priory.rows import Rows, context_at

MOST_CONTEXTS = 64  # contexts that are averaged if there are quantities: evenly spaced rows represent all rows


def overall_prior(model: AnyModel, rows: Rows) -> Distribution:
    """Return p(z); for a conditional model, its average over the contexts of these rows (see `marginal_prior`)."""
    return marginal_prior(model, rows) if isinstance(model, ConditionalModel) else latent_prior_of(model)


def marginal_prior(model: ConditionalModel, rows: Rows) -> Distribution:
    """Return p(z) = 1/N sum_n p(z | c_n) over the contexts of these rows; if there are more than 64, over 64 of them.

    >>> from priory import ConditionalMixtureOfGaussians, ConditionalVAE, MixtureOfGaussians, with_context
    >>> prior = ConditionalMixtureOfGaussians(MixtureOfGaussians(2, 5), context_dim=3)
    >>> model = ConditionalVAE(torch.nn.Identity(), torch.nn.Identity(), prior)
    >>> marginal_prior(model, with_context(torch.zeros(4, 6), torch.eye(3)[[0, 1, 1, 0]])).num_components
    10
    """
    context = context_at(rows, torch.arange(len(rows)))
    assert context is not None
    contexts, counts = context.unique(dim=0, return_counts=True)
    if len(contexts) > MOST_CONTEXTS:
        chosen = torch.linspace(0, len(rows) - 1, MOST_CONTEXTS).long()
        contexts, counts = context[chosen], torch.ones(MOST_CONTEXTS)
    return averaged(latent_prior_of(given(model, contexts)), (counts / counts.sum()).to(device_of(model)))


def averaged(p: Distribution, weights: Tensor) -> Distribution:
    """Return sum_i w_i p_i(z) of a batch of distributions as one mixture; mixtures are flattened.

    >>> p = diagonal_normal(torch.zeros(3, 2), torch.ones(3, 2))
    >>> averaged(p, torch.tensor([0.5, 0.25, 0.25])).log_prob(torch.zeros(2))
    tensor(-1.8379)
    """
    if not p.batch_shape:
        return p
    log_weights = weights.log()
    if not isinstance(p, Mixture):
        return Mixture(log_weights, p)
    joint = log_weights.unsqueeze(-1) + p.log_weights
    if len(p.components.batch_shape) == 1:  # all contexts share the components
        return Mixture(torch.logsumexp(joint, 0), p.components)
    if not is_diagonal_normal(p.components):
        return Mixture(log_weights, p)
    assert isinstance(p.components, Independent)
    loc, scale = (each.expand(*joint.shape, -1).flatten(0, 1) for each in (p.components.mean, p.components.stddev))
    return Mixture(joint.flatten(), diagonal_normal(loc, scale))
