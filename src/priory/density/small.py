"""The log-density of a small mixture at few points: all differences at once, with few operations."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from priory.density.components import Components, Exponentials, Gradients, Needed, lowest_exponent, working_dtype

SMALL = 2**16  # up to so many numbers b x k x L, this is faster than matrix products
# Up to this L, float32 is within 1e-4 nats: log p = -q/2 - sum_l log scale_l has an error of 4e-7 q/2. If q is large
# and log p small, q/2 is about sum_l log scale_l, which is below 7 L for scales of at least 1e-3.
LATENT_DIM_FOR_FLOAT32 = 8


def is_small(z: Float[Tensor, "point latent"], components: Components) -> bool:
    """Return whether this module is faster than the blocked functions."""
    return z.numel() * components.loc.shape[-2] <= SMALL


def log_prob(z: Float[Tensor, "point latent"], components: Components) -> Exponentials | None:
    """log p(z_b) and its exponentials; None if a log-density is infinite or NaN: use the blocked functions instead."""
    if z.shape[-1] > LATENT_DIM_FOR_FLOAT32:
        z, components = z.to(working_dtype(z.device)), components.to(working_dtype(z.device))
    terms = torch.sub(components.log_peaks, _standardized(z, components).square().sum(-1), alpha=0.5)
    largest = terms.amax(-1, keepdim=True)
    if not math.isfinite(float(largest.sum())):
        return None
    terms.sub_(largest).clamp_(min=lowest_exponent(terms.dtype)).exp_()
    total = terms.sum(-1)
    return Exponentials(total.log().add_(largest.squeeze(-1)), terms, total.reciprocal())


def log_prob_gradients(
    grad: Float[Tensor, " point"],
    z: Float[Tensor, "point latent"],
    components: Components,
    saved: Exponentials,
    needed: Needed,
) -> Gradients:
    """Gradients of sum_b grad_b log p(z_b) from the exponentials of `log_prob`."""
    dtype = saved.terms.dtype
    z, components = z.to(dtype), components.to(dtype)
    standardized = _standardized(z, components)
    weights = saved.terms * (grad * saved.reciprocal).unsqueeze(-1)
    pulled = weights.unsqueeze(-1) * standardized / components.scale
    of_z = -pulled.sum(-2) if needed.points else None
    if not needed.components:
        return Gradients(of_z)
    total = weights.sum(-2)
    of_scale = (pulled * standardized).sum(-3) - total.unsqueeze(-1) / components.scale
    return Gradients(of_z, total, pulled.sum(-3), of_scale)


def _standardized(z: Tensor, components: Components) -> Float[Tensor, "point component latent"]:
    return (z.unsqueeze(-2) - components.loc) / components.scale
