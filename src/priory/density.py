"""The log-density of diagonal normals, every point against every component: the kernel of all mixture priors.

    log N(z_b | loc_k, diag(scale_k^2)) = -1/2 sum_l ((z_bl - loc_kl) / scale_kl)^2 - sum_l log scale_kl - L/2 log(2 pi)

Expanding the square turns the sum over l into a matrix product of [z^2, z] with [-1/(2 scale^2), loc/scale^2], so
nothing of size B x K x L is made for one set of components. The expansion cancels: in float32 it is off by up to 0.8
nats at scale 0.01. Therefore the product runs in float64, on coordinates centred on the components. Where a device has
no float64, the differences are taken directly.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
DEVICES_WITHOUT_FLOAT64 = ("mps",)


def diagonal_normal_log_prob(
    z: Float[Tensor, "*batch latent"],
    loc: Float[Tensor, "*components component latent"],
    scale: Float[Tensor, "*components component latent"],
) -> Float[Tensor, "*shape component"]:
    """Log-density in nats of each point under each diagonal normal; the last axis of the result is the component.

    Args:
        z: points; its batch shape broadcasts against that of the components without their last axis.
        loc: the normals' means.
        scale: the normals' standard deviations, positive.

    Returns:
        One number per point and component, in the widest dtype of the arguments and never below float32.

    >>> diagonal_normal_log_prob(torch.zeros(2), torch.zeros(3, 2), torch.ones(3, 2))
    tensor([-1.8379, -1.8379, -1.8379])
    """
    dtype = torch.promote_types(
        torch.promote_types(z.dtype, loc.dtype), torch.promote_types(scale.dtype, torch.float32)
    )
    if z.device.type in DEVICES_WITHOUT_FLOAT64:
        return _by_differences(z.to(dtype), loc.to(dtype), scale.to(dtype))
    with torch.autocast(z.device.type, enabled=False):
        return _by_matrix_product(z.double(), loc.double(), scale.double()).to(dtype)


def _by_matrix_product(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    centre = loc.detach().mean(-2, keepdim=True)  # any constant is exact; the components' own middle cancels least
    z, loc = z - centre.squeeze(-2), loc - centre
    precision = scale.pow(-2)
    features = torch.cat([z.square(), z], -1)
    weights = torch.cat([-0.5 * precision, loc * precision], -1)
    constant = -0.5 * (loc.square() * precision).sum(-1) - scale.log().sum(-1) - 0.5 * LOG_2PI * z.shape[-1]
    if weights.ndim == 2:
        return features @ weights.mT + constant
    return (features.unsqueeze(-2) @ weights.mT).squeeze(-2) + constant


def _by_differences(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    squares = ((z.unsqueeze(-2) - loc) / scale).square()
    return -0.5 * squares.sum(-1) - scale.log().sum(-1) - 0.5 * LOG_2PI * z.shape[-1]
