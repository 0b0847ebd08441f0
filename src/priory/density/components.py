"""A block of components against a block of points: log pi_k + log N(z_b | loc_k, scale_k^2), and its gradients.

There are two methods. `Products` expands the square, so everything is a matrix product of [z^2, z, 1] with
[-1/(2 scale^2), loc/scale^2, constant], and no array has size B x K x L. The expansion cancels digits, so it uses
float64 and coordinates relative to the center of the components, and computes a bound of its error. `Differences`
computes (z - loc)/scale directly: precise for any numbers, and about twenty times slower.

Shapes: points (*batch, b, L), components (*batch, k, L), joint log-densities (*batch, b, k).
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
DEVICES_WITHOUT_FLOAT64 = ("mps",)
TOLERANCE = 1e-5  # nats: the largest error that `Products` may have in a joint log-density
UNIT_ROUNDOFF = 2.0**-53
DIFFERENCES_AT_ONCE = 2**19  # numbers (z_bl - loc_kl)/scale_kl held at a time


class Components(NamedTuple):
    """K weighted diagonal normals."""

    log_weights: Float[Tensor, "*batch component"]
    loc: Float[Tensor, "*batch component latent"]
    scale: Float[Tensor, "*batch component latent"]

    def to(self, dtype: torch.dtype) -> "Components":
        return Components(*(parameter.to(dtype) for parameter in self))

    @property
    def log_peaks(self) -> Float[Tensor, "*batch component"]:
        """log pi_k + log N(loc_k | loc_k, scale_k^2), the largest joint log-density of each component."""
        return self.log_weights - self.scale.log().sum(-1) - 0.5 * LOG_2PI * self.scale.shape[-1]

    @property
    def center(self) -> Float[Tensor, " latent"]:
        """The mean of the means, in float64, for `Products`: a constant without a gradient."""
        return self.loc.detach().mean(tuple(range(self.loc.ndim - 1))).double()


class Exponentials(NamedTuple):
    """For each row of joint log-densities: log sum_k exp; exp(joint - largest); and one over the sum of the latter.

    The last is zero if all components are -inf.
    """

    log_sum: Float[Tensor, " point"]
    terms: Float[Tensor, "point component"]
    reciprocal: Float[Tensor, " point"]


class Gradients(NamedTuple):
    """Gradients of sum_b row_b sum_k r_bk (log pi_k + log N(z_b | loc_k, scale_k^2)), r and row fixed; or None."""

    z: Tensor | None
    log_weights: Tensor | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None


class Needed(NamedTuple):
    """Which gradients to compute: those of the points, those of the components."""

    points: bool = True
    components: bool = True


def lowest_exponent(dtype: torch.dtype) -> float:
    """Exponentials of smaller numbers do not change any sum, and those that underflow take fifty times as long."""
    return -700.0 if dtype == torch.float64 else -80.0


def has_float64(device: torch.device) -> bool:
    return device.type not in DEVICES_WITHOUT_FLOAT64


def working_dtype(device: torch.device) -> torch.dtype:
    """Return float64 if the device supports it, else float32."""
    return torch.float64 if has_float64(device) else torch.float32


class Differences:
    """The joint log-densities by direct differences."""

    def __init__(self, components: Components) -> None:
        components = components.to(working_dtype(components.loc.device))
        _, self.loc, self.scale = components
        self.log_peaks = components.log_peaks

    def joint(self, z: Float[Tensor, "*batch point latent"]) -> Float[Tensor, "*batch point component"]:
        """log pi_k + log N(z_b | loc_k, scale_k^2) in nats."""
        parts = [
            self.log_peaks.unsqueeze(-2) - 0.5 * self._standardized(part).square().sum(-1) for part in self._split(z)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -2)

    def gradient_of_points(self, z: Tensor, r: Tensor, row: Tensor) -> Float[Tensor, "*batch point latent"]:
        """See `Gradients`; r is (*batch, b, k), row (*batch, b)."""
        parts = [
            -(weight.unsqueeze(-1) * self._standardized(part) / self.scale.unsqueeze(-3)).sum(-2)
            for part, weight in self._parts(z, r * row.unsqueeze(-1))
        ]
        return torch.cat(parts, -2)

    def gradients_of_components(self, z: Tensor, r: Tensor, row: Tensor) -> Components:
        """See `Gradients`; r is (*batch, b, k), row (*batch, b)."""
        of_loc, of_scale = torch.zeros_like(self.loc), torch.zeros_like(self.loc)
        weights = r * row.unsqueeze(-1)
        for part, weight in self._parts(z, weights):
            standardized = self._standardized(part)
            pulled = weight.unsqueeze(-1) * standardized
            of_loc = of_loc + pulled.sum(-3)
            of_scale = of_scale + (pulled * standardized).sum(-3)
        total = weights.sum(-2)
        return Components(total, of_loc / self.scale, (of_scale - total.unsqueeze(-1)) / self.scale)

    def _parts(self, z: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        parts = self._split(z)
        yield from zip(parts, weights.split(parts[0].shape[-2], -2), strict=True)

    def _standardized(self, z: Tensor) -> Tensor:
        return (z.to(self.loc.dtype).unsqueeze(-2) - self.loc.unsqueeze(-3)) / self.scale.unsqueeze(-3)

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        per_point = math.prod(self.loc.shape) * max(1, math.prod(z.shape[:-2]) // math.prod(self.loc.shape[:-2]))
        return z.split(max(1, DIFFERENCES_AT_ONCE // max(1, per_point)), -2)


class Products:
    """The joint log-densities by a matrix product, in float64.

    With u the unit roundoff, c the center, and every term of the sum counted, the error for a point is at most

        (2 L + 8) u (|z - c|^2 max_kl 1/scale_kl^2 + max_k sum_l (loc_kl - c_l)^2 / scale_kl^2).

    Any center is correct; the center of the components loses the fewest digits.
    """

    def __init__(self, components: Components, center: Float[Tensor, " latent"]) -> None:
        components = components.to(torch.float64)
        self.loc, self.scale = components.loc - center, components.scale
        self.precision = self.scale.square().reciprocal_()
        weighted = self.loc * self.precision
        self._squared_lengths = torch.linalg.vecdot(self.loc, weighted)
        last = (components.log_peaks - 0.5 * self._squared_lengths).unsqueeze(-1)
        self.weights = torch.cat([-0.5 * self.precision, weighted, last, torch.ones_like(last)], -1)

    @functools.cached_property
    def reach(self) -> float:
        """Return the largest |z - c|^2 at which the error is below `TOLERANCE`; NaN if there is no such number.

        Points with NaN or infinity are never within reach: the comparison is false.
        """
        return float(self.squared_reach())

    def squared_reach(self) -> Float[Tensor, ""]:
        """`reach` as a tensor, for graphs, which have no Python numbers."""
        allowed = TOLERANCE / ((2 * self.loc.shape[-1] + 8) * UNIT_ROUNDOFF)
        return (allowed - self._squared_lengths.max()) / self.precision.max()  # ONNX has no `amax` over all axes

    def joint(
        self, features: Float[Tensor, "*batch point feature"], out: Tensor | None = None
    ) -> Float[Tensor, "*batch point component"]:
        """log pi_k + log N(z_b | loc_k, scale_k^2) + shift_b in nats, also written to `out`; see `point_features`."""
        return torch.matmul(features, self.weights.mT, out=out)

    @property
    def slopes(self) -> Float[Tensor, "*batch component slope"]:
        """[-1/(2 scale^2), (loc - c)/scale^2]: r @ slopes is the argument of `gradient_of_points`."""
        return self.weights[..., : 2 * self.loc.shape[-1]]

    @property
    def constants(self) -> Float[Tensor, "*batch component"]:
        """The joint log-densities at the center."""
        return self.weights[..., 2 * self.loc.shape[-1]]

    def gradients_of_components(self, moments: Float[Tensor, "*batch moment component"]) -> Components:
        """Given sum_b row_b r_bk [z^2, z, 1] of the centered points, see `Gradients`."""
        latent_dim = self.loc.shape[-1]
        second, first, zeroth = moments.mT.contiguous().split((latent_dim, latent_dim, 1), -1)
        moved = torch.addcmul(first, self.loc, zeroth, value=-1)
        spread = torch.addcmul(second, self.loc, first + moved, value=-1)
        return Components(zeroth.squeeze(-1), self.precision * moved, (self.precision * spread - zeroth) / self.scale)


def point_features(
    z: Float[Tensor, "*batch point latent"],
    center: Float[Tensor, " latent"],
    shift: Float[Tensor, "*batch point"] | None = None,
) -> Float[Tensor, "*batch point feature"]:
    """[z^2, z, 1, shift] of the centered points; `shift` is added to every joint log-density of its point."""
    z = z - center
    constants = z.new_tensor([1.0, 0.0]).expand(*z.shape[:-1], 2)
    if shift is not None:
        constants = torch.stack([constants[..., 0], shift], -1)
    return torch.cat([z.square(), z, constants], -1)


def gradient_of_points(
    pull: Float[Tensor, "*batch point slope"], centered: Float[Tensor, "*batch point latent"], row: Tensor
) -> Float[Tensor, "*batch point latent"]:
    """Given sum_k r_bk [-1/(2 scale_k^2), (loc_k - c)/scale_k^2] and z - c, see `Gradients`."""
    quadratic, linear = pull.chunk(2, -1)
    return torch.addcmul(linear, centered, quadratic, value=2) * row.unsqueeze(-1)
