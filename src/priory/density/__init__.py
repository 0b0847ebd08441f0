"""The log-density of mixtures of diagonal normals, exact and at the speed of matrix products.

    log p(z) = log sum_k pi_k N(z | loc_k, diag(scale_k^2)),

    log N(z_b | loc_k, scale_k^2) = -1/2 sum_l ((z_bl - loc_kl) / scale_kl)^2 - sum_l log scale_kl - L/2 log(2 pi)

Every prior of the family spends its time in this function. Results are within 1e-4 max(1, |log p|) of a sum in float64
for any scales and centers; `components.py` has the method. Only the arguments, their gradients and one block of b x k
numbers are in memory; `log_prob.py` has the method.
"""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from priory.density import functions
from priory.density.components import Components, working_dtype
from priory.density.functions import JointLogProb, is_transformed, recorded_joint
from priory.density.streaming import expected_value, top_responsibilities

__all__ = [
    "Components",
    "expected_value",
    "is_transformed",
    "joint_log_prob",
    "mixture_log_prob",
    "top_responsibilities",
    "working_dtype",
]


def mixture_log_prob(
    z: Float[Tensor, "*points latent"],
    log_weights: Float[Tensor, "*batch component"],
    loc: Float[Tensor, "*batch component latent"],
    scale: Float[Tensor, "*batch component latent"],
) -> Float[Tensor, "*points"]:
    """log p(z) of a mixture of diagonal normals, in nats, one number per point.

    Differentiable in all arguments, any number of times; if the density is zero, so are the gradients. Gradients of
    gradients, `torch.func` and mixtures with a batch shape need memory for one number per point and component.

    Args:
        z: points; their batch shape broadcasts with that of the mixture.
        log_weights: log pi_k; -inf switches a component off.
        loc: the normals' means.
        scale: the normals' standard deviations, positive.

    Returns:
        log p(z) in the widest dtype of the arguments, and never below float32.

    >>> mixture_log_prob(torch.zeros(2), torch.tensor([0.5, 0.5]).log(), torch.zeros(2, 2), torch.ones(2, 2))
    tensor(-1.8379)
    """
    dtype = _result_dtype(z, log_weights, loc, scale)
    if loc.ndim > 2 or log_weights.ndim > 1:
        return torch.logsumexp(joint_log_prob(z, log_weights, loc, scale), -1)
    rows = z if z.ndim == 2 else z.reshape(math.prod(z.shape[:-1]), z.shape[-1])
    result = functions.mixture_log_prob(rows.to(dtype), Components(log_weights, loc, scale).to(dtype)).to(dtype)
    return result if z.ndim == 2 else result.reshape(z.shape[:-1])


def joint_log_prob(
    z: Float[Tensor, "*points latent"],
    log_weights: Float[Tensor, "*batch component"],
    loc: Float[Tensor, "*batch component latent"],
    scale: Float[Tensor, "*batch component latent"],
) -> Float[Tensor, "*points component"]:
    """log pi_k + log N(z | loc_k, diag(scale_k^2)) in nats; the last axis of the result is the component.

    Args and dtype as in `mixture_log_prob`.

    >>> joint_log_prob(torch.zeros(2), torch.zeros(3), torch.zeros(3, 2), torch.ones(3, 2))
    tensor([-1.8379, -1.8379, -1.8379])
    """
    dtype = _result_dtype(z, log_weights, loc, scale)
    if loc.ndim == 2 and log_weights.ndim > 1:  # all batches have the same components
        return joint_log_prob(z, log_weights.new_zeros(len(loc)), loc, scale) + log_weights.to(dtype)
    if loc.ndim > 2:
        return recorded_joint(z.unsqueeze(-2), Components(log_weights, loc, scale)).squeeze(-2).to(dtype)
    rows = z.reshape(math.prod(z.shape[:-1]), z.shape[-1])
    if torch.compiler.is_compiling():
        joint = recorded_joint(rows, Components(log_weights, loc, scale)).to(dtype)
    else:
        joint = JointLogProb.apply(rows, log_weights, loc, scale, dtype)
    return joint.reshape(*z.shape[:-1], loc.shape[-2])


def _result_dtype(*arguments: Tensor) -> torch.dtype:
    dtypes = {argument.dtype for argument in arguments} | {torch.float32}
    return functools.reduce(torch.promote_types, dtypes)
