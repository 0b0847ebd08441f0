"""Formulas as plain loops in float64, with which tests compare results."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from priory import Mixture, NormalEncoder, mlp


def mixture_log_prob_loop(z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log sum_k pi_k prod_l N(z_l | loc_kl, scale_kl^2), one scalar at a time."""
    result = []
    log_weights, loc, scale = log_weights.detach(), loc.detach(), scale.detach()
    for point in z.double().reshape(-1, z.shape[-1]).tolist():
        terms = []
        for k in range(len(loc)):
            total = float(log_weights[k])
            for x, m, s in zip(point, loc[k].double().tolist(), scale[k].double().tolist(), strict=True):
                total += -0.5 * math.log(2 * math.pi) - math.log(s) - 0.5 * ((x - m) / s) ** 2
            terms.append(total)
        largest = max(terms)
        result.append(largest + math.log(sum(math.exp(t - largest) for t in terms)) if largest > -math.inf else largest)
    return torch.tensor(result, dtype=torch.float64).reshape(z.shape[:-1])


def components_loop(z: Tensor, p_z: Mixture) -> Tensor:
    """log sum_k pi_k p_k(z) of any mixture, one component at a time, by torch's density in float64."""
    base: Any = p_z.components.base_dist
    precise = type(base)(**{name: getattr(base, name).detach().double() for name in base.arg_constraints})
    terms = [
        p_z.log_weights[k].detach().double() + precise.log_prob(z.double().unsqueeze(-2))[..., k, :].sum(-1)
        for k in range(p_z.num_components)
    ]
    return torch.stack(terms).logsumexp(0)


def quadrature_grid(low: float, high: float, points: int, dim: int = 2) -> tuple[Tensor, float]:
    """Midpoints of a regular grid over a square, and the area of a cell, in float64."""
    width = (high - low) / points
    side = low + width * (torch.arange(points, dtype=torch.float64) + 0.5)
    return torch.cartesian_prod(*[side] * dim).reshape(-1, dim), width**dim


def small_encoder(num_features: int = 6, latent_dim: int = 2) -> nn.Module:
    return NormalEncoder(mlp(num_features, [8], 2 * latent_dim))
