"""Normals with one variance for all components and dimensions: their joint log-densities are one matrix product.

    log pi_k + log N(x_n | loc_k, variance I) = x_n . loc_k / variance + constant_k + shift_n,

    constant_k = log pi_k - |loc_k|^2 / (2 variance),    shift_n = -|x_n|^2 / (2 variance) - D_n/2 log(2 pi variance)

Terms of row n alone are left out of the sum over components. Missing cells are integrated out, so a row has its own
number D_n of dimensions and its own |loc_k|^2, summed over its observed cells: a second product. Center rows and means
first, because the products lose |x| |loc| / variance roundoffs.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from priory.density.components import LOG_2PI, Exponentials
from priory.density.log_prob import exponentials


class MaskedRows(NamedTuple):
    """Rows in which cells may be missing."""

    x: Float[Tensor, "point input"]  # zero for a missing cell
    present: Float[Tensor, "point input"] | None  # 1 for an observed cell, 0 for a missing one; None if all exist


class IsotropicNormals:
    """sum_k pi_k N(x | loc_k, variance I), and the responsibilities of its components."""

    def __init__(
        self, log_weights: Float[Tensor, " component"], loc: Float[Tensor, "component input"], variance: float
    ) -> None:
        self.log_weights, self.variance = log_weights, variance
        self._pull = (loc / variance).mT
        self._halves = loc.square().mT / (2 * variance)
        self._constants = log_weights - self._halves.sum(0)

    def shift(
        self, squares: Float[Tensor, " point"], present_cells: Float[Tensor, " point"] | int
    ) -> Float[Tensor, " point"]:
        """shift_n, the common part of all joint log-densities of a row, from its sum of squares and number of cells."""
        log_peak = LOG_2PI + torch.log(squares.new_tensor(self.variance))
        return -0.5 * (squares / self.variance + present_cells * log_peak)

    def exponentials(self, rows: MaskedRows) -> Exponentials:
        """Exponentials of rows: log_sum plus `shift` is log p(x_n), terms times reciprocal are the responsibilities."""
        x, present = rows
        if present is None:
            return exponentials(torch.addmm(self._constants, x, self._pull))
        joint = torch.addmm(self.log_weights, x, self._pull)
        return exponentials(joint.addmm_(present, self._halves, alpha=-1))
