"""The joint log-densities for `torch.export` and ONNX, with the same operations for any number of points."""

import torch
from torch import Tensor

from priory.density.components import Components, Products


def is_exporting() -> bool:
    """Return whether `torch.export` or `torch.onnx.export` records a graph; torch before 2.7 does not report it."""
    exporting = getattr(torch.compiler, "is_exporting", None)
    return exporting is not None and exporting()


@torch.no_grad()  # `torch.cond` warns if computed operands have gradients
def exported_joint(z: Tensor, components: Components) -> Tensor:
    """log pi_k + log N(z_b | loc_k, scale_k^2) in nats, in float64: (*batch, b, k).

    The exported program decides at run time: it uses a matrix product if that is precise enough for all of its points,
    else differences. See `Products` and `Differences`.
    """
    center = components.center
    products = Products(components, center)
    z = z - center
    near = (z.square().sum(-1) <= products.squared_reach()).all()
    of_product = (products.slopes.mT.contiguous(), products.constants)
    of_differences = (products.loc, products.precision, components.to(center.dtype).log_peaks)
    return torch.cond(near, _by_product, _by_differences, (z, *of_product, *of_differences))


def _by_product(z: Tensor, slopes: Tensor, constants: Tensor, *unused: Tensor) -> Tensor:
    return torch.cat([z.square(), z], -1) @ slopes + constants.unsqueeze(-2)


def _by_differences(
    z: Tensor, slopes: Tensor, constants: Tensor, loc: Tensor, precision: Tensor, log_peaks: Tensor
) -> Tensor:
    """Use one latent dimension at a time, so that no array has size b x k x L."""
    joint = log_peaks.unsqueeze(-2)
    for value, mean, weight in zip(z.unbind(-1), loc.unbind(-1), precision.unbind(-1), strict=True):
        joint = joint - 0.5 * (value.unsqueeze(-1) - mean.unsqueeze(-2)).square() * weight.unsqueeze(-2)
    return joint
