"""Log-densities of all pairs of a distribution and a value; one matrix product for some families."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent

from priory.density import joint_log_prob
from priory.distributions import BinaryVector, CategoricalLevels
from priory.distributions.normal import NORMALS, at_least_float32


def by_matrix_product(p: Distribution) -> bool:
    """Return whether `log_prob_of_pairs` is one matrix product, so that more values cost little."""
    if isinstance(p, BinaryVector):
        return True
    if not isinstance(p, Independent) or p.reinterpreted_batch_ndims != len(p.event_shape):
        return False
    return type(p.base_dist) in (*NORMALS, Bernoulli, Categorical, CategoricalLevels)


def log_prob_of_pairs(p: Distribution, values: Float[Tensor, "value *event"]) -> Float[Tensor, "distribution value"]:
    """Return log p_a(v_b) of every distribution a and every value b, in nats, at least in float32.

    Diagonal normals are computed as the components of a mixture. The log-density of binary and categorical vectors is
    linear in the value, or in its indicators:

        log p_a(v) = v . logits_a - sum_d softplus(logits_ad),    log p_a(v) = sum_d log_softmax(logits_ad)[v_d]

    p has the batch shape (A,), and values are (B, *event); values of discrete families are not checked.

    >>> log_prob_of_pairs(BinaryVector(torch.zeros(3, 4)), torch.ones(2, 4)).exp()
    tensor([[0.0625, 0.0625],
            [0.0625, 0.0625],
            [0.0625, 0.0625]])
    """
    if by_matrix_product(p) and type(p.base_dist) in NORMALS:  # type: ignore[attr-defined]
        loc, scale = p.mean.flatten(1), p.stddev.flatten(1)
        return joint_log_prob(values.flatten(1), loc.new_zeros(len(loc)), loc, scale).mT
    if by_matrix_product(p):
        with torch.autocast(values.device.type, enabled=False):
            log_prob = _linear_log_prob(p, values)
        if not bool(log_prob.isnan().any()):
            return log_prob  # NaN is zero times infinity, from infinite logits or impossible values
    return p.log_prob(values.unsqueeze(1)).mT


def _linear_log_prob(p: Distribution, values: Float[Tensor, "value *event"]) -> Float[Tensor, "distribution value"]:
    assert isinstance(p, Independent)
    values, logits = values.flatten(1), at_least_float32(p.base_dist.logits)
    num_levels = logits.shape[-1]
    logits = logits.flatten(1)
    if isinstance(p.base_dist, Bernoulli):
        return logits @ values.to(logits.dtype).mT - F.softplus(logits).sum(-1, keepdim=True)
    indicators = F.one_hot(values.long(), num_levels).flatten(1)  # a categorical's logits are normalized by torch
    return logits @ indicators.to(logits.dtype).mT
