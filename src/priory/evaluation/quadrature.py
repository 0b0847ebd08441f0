"""Quadrature over one or two latent dimensions."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

GRID_NODES = 2**18  # at most
MASS_TOLERANCE = 1e-2
BOX_MARGIN = 0.15  # on each side, as a share of the range of the points


def gauss_hermite(
    loc: Float[Tensor, "normal latent"], scale: Float[Tensor, "normal latent"], nodes_per_side: int
) -> tuple[Float[Tensor, "node normal latent"], Float[Tensor, " node"]]:
    """Return nodes and weights such that sum_i w_i f(z_in) is E[f(z)] under N(loc_n, diag(scale_n^2)).

    The rule is exact for polynomials of degree 2 m - 1 in each dimension, with m nodes per side.

    Reference: Abramowitz & Stegun 1964, 25.4.46.

    >>> z, w = gauss_hermite(torch.tensor([[3.0]]), torch.tensor([[2.0]]), 4)
    >>> (w @ z.square().squeeze(-1)).round(decimals=4)  # mean^2 + variance
    tensor([13.])
    """
    nodes, weights = (torch.from_numpy(array).to(loc) for array in np.polynomial.hermite.hermgauss(nodes_per_side))
    latent_dim = loc.shape[-1]
    offsets = torch.cartesian_prod(*[nodes * math.sqrt(2)] * latent_dim).reshape(-1, 1, latent_dim)
    products = torch.cartesian_prod(*[weights / math.sqrt(math.pi)] * latent_dim).reshape(-1, latent_dim).prod(-1)
    return loc + scale * offsets, products


class GridNodes(NamedTuple):
    """Midpoints of the cells of a regular grid, and the probability of each cell under p(z); these sum to one."""

    z: Float[Tensor, "node latent"]
    probabilities: Float[Tensor, " node"]


def grid_nodes(p_z: Distribution, points: Float[Tensor, "point latent"], count: int) -> GridNodes | None:
    """Return p(z) on a grid of about `count` nodes around its samples, or None if it is too coarse or too small."""
    latent_dim = points.shape[-1]
    low, high = points.amin(0), points.amax(0)
    low, high = low - BOX_MARGIN * (high - low), high + BOX_MARGIN * (high - low)
    per_side = round(min(GRID_NODES, count) ** (1 / latent_dim))
    steps = (torch.arange(per_side, device=points.device) + 0.5) / per_side
    sides = low + (high - low) * steps.unsqueeze(-1)
    z = torch.cartesian_prod(*sides.unbind(-1)).reshape(-1, latent_dim)
    cell = ((high - low) / per_side).prod()
    probabilities = p_z.log_prob(z).exp() * cell
    mass = float(probabilities.sum())
    return GridNodes(z, probabilities / mass) if abs(mass - 1) < MASS_TOLERANCE else None
