"""Pathwise gradients of samples from a mixture of diagonal normals."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def reparameterized(
    z: Float[Tensor, "*sample latent"],
    log_weights: Float[Tensor, "*batch component"],
    loc: Float[Tensor, "*batch component latent"],
    scale: Float[Tensor, "*batch component latent"],
) -> Float[Tensor, "*sample latent"]:
    """Return the same samples, with the gradient of the path on which they move when the mixture changes.

    Coordinate by coordinate, the distribution function of z_l given the coordinates before it is again a mixture,

        F_l(z_l | z_<l) = sum_k w_kl Phi((z_l - loc_kl) / scale_kl),    w_kl = p(k | z_1, ..., z_{l-1}),

    and keeping every F_l fixed while theta changes gives

        dz_l/dtheta = -(dF_l/dtheta + sum_{j<l} dF_l/dz_j dz_j/dtheta) / p(z_l | z_<l).

    The gradient of an expectation is then the mean of the function's gradient times this one, also for the mixing
    weights. If components are far apart, the gradients of the weights have a large variance, because they come from
    rare samples between the components. Needs memory for about ten numbers per sample, component and latent dimension.

    z are samples of this mixture, in float64 if scales are tiny compared with the means; their gradients are ignored.

    References: Graves 2016, arXiv:1607.05690; Figurnov, Mohamed & Mnih 2018, arXiv:1805.08498, sec. 3.
    """
    z = z.detach()
    log_share, columns = log_weights, []
    for value, center, width in zip(z.unbind(-1), loc.unbind(-1), scale.unbind(-1), strict=True):
        share = torch.softmax(log_share, -1)
        standardized = (value.unsqueeze(-1) - center) / width
        cumulated = (share * torch.special.ndtr(standardized)).sum(-1)
        density = (share * torch.exp(-0.5 * standardized.square()) / width).sum(-1).detach() / math.sqrt(2 * math.pi)
        column = value - (cumulated - cumulated.detach()) / density
        columns.append(column)
        log_share = log_share - 0.5 * ((column.unsqueeze(-1) - center) / width).square() - width.log()
    return torch.stack(columns, -1)
