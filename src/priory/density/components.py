"""A block of components against a block of points: log pi_k + log N(z_b | loc_k, scale_k^2), and its gradients.

Two ways to the same numbers. `Products` expands the square, so that all is a matrix product of [z^2, z, 1] with
[-1/(2 scale^2), loc/scale^2, constant], and nothing of size B x K x L is made. The expansion cancels: it runs in
float64, on coordinates centred on the components, and knows a bound of its error. `Differences` takes (z - loc)/scale
as it stands: exact for any numbers, and some twenty times slower.

Shapes: points (*batch, b, L), components (*batch, k, L), joint log-densities (*batch, b, k).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
DEVICES_WITHOUT_FLOAT64 = ("mps",)
TOLERANCE = 1e-5  # nats: the largest error of a joint log-density that `Products` may leave
UNIT_ROUNDOFF = 2.0**-53
DIFFERENCES_AT_ONCE = 2**19  # numbers (z_bl - loc_kl)/scale_kl held at a time


class Components(NamedTuple):
    """K weighted diagonal normals."""

    log_weights: Float[Tensor, "*batch component"]
    loc: Float[Tensor, "*batch component latent"]
    scale: Float[Tensor, "*batch component latent"]

    def to(self, dtype: torch.dtype) -> "Components":
        """The same in another dtype."""
        return Components(*(parameter.to(dtype) for parameter in self))


class Exponentials(NamedTuple):
    """Of one row of joint log-densities each: log sum_k exp; exp(joint - largest); one over the sum of those.

    The last is zero where all components are -inf.
    """

    log_sum: Float[Tensor, " point"]
    terms: Float[Tensor, "point component"]
    reciprocal: Float[Tensor, " point"]


class Gradients(NamedTuple):
    """Of sum_b row_b sum_k r_bk (log pi_k + log N(z_b | loc_k, scale_k^2)); None where none was wanted."""

    z: Tensor | None
    log_weights: Tensor | None
    loc: Tensor | None
    scale: Tensor | None


class Wanted(NamedTuple):
    """Which gradients are: that of the points, those of the components."""

    points: bool = True
    components: bool = True


def lowest_exponent(dtype: torch.dtype) -> float:
    """Exponentials of less are zero to any sum, and those that underflow take fifty times as long."""
    return -700.0 if dtype == torch.float64 else -80.0


def has_float64(device: torch.device) -> bool:
    """Whether the device computes in float64."""
    return device.type not in DEVICES_WITHOUT_FLOAT64


def working_dtype(device: torch.device) -> torch.dtype:
    """float64 where the device has it, else float32."""
    return torch.float64 if has_float64(device) else torch.float32


class Differences:
    """The joint log-densities by direct differences.

    Args:
        components: of any floating dtype.
    """

    def __init__(self, components: Components) -> None:
        dtype = working_dtype(components.loc.device)
        log_weights, self.loc, self.scale = components.to(dtype)
        self.constant = log_weights - self.scale.log().sum(-1) - 0.5 * LOG_2PI * self.loc.shape[-1]

    def joint(self, z: Float[Tensor, "*batch point latent"]) -> Float[Tensor, "*batch point component"]:
        """log pi_k + log N(z_b | loc_k, scale_k^2) in nats."""
        parts = [
            self.constant.unsqueeze(-2) - 0.5 * self._standardised(part).square().sum(-1) for part in self._split(z)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -2)

    def gradients(self, z: Tensor, r: Tensor, row: Tensor, wanted: Wanted) -> Gradients:
        """See `Gradients`; r is (*batch, b, k), row (*batch, b)."""
        weights = r * row.unsqueeze(-1)
        to_points, pulls, squares = [], [], []
        parts = self._split(z)
        for part, weight in zip(parts, weights.split(parts[0].shape[-2], -2), strict=True):
            standardised = self._standardised(part)
            pulled = weight.unsqueeze(-1) * standardised
            if wanted.points:
                to_points.append(-(pulled / self.scale.unsqueeze(-3)).sum(-2))
            if wanted.components:
                pulls.append(pulled.sum(-3))
                squares.append((pulled * standardised).sum(-3))
        of_z = torch.cat(to_points, -2) if wanted.points else None
        if not wanted.components:
            return Gradients(of_z, None, None, None)
        total = weights.sum(-2)
        of_scale = (sum(squares[1:], squares[0]) - total.unsqueeze(-1)) / self.scale
        return Gradients(of_z, total, sum(pulls[1:], pulls[0]) / self.scale, of_scale)

    def _standardised(self, z: Tensor) -> Tensor:
        return (z.to(self.loc.dtype).unsqueeze(-2) - self.loc.unsqueeze(-3)) / self.scale.unsqueeze(-3)

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        per_point = math.prod(self.loc.shape) * max(1, math.prod(z.shape[:-2]) // math.prod(self.loc.shape[:-2]))
        return z.split(max(1, DIFFERENCES_AT_ONCE // max(1, per_point)), -2)


class Products:
    """The joint log-densities by a matrix product, in float64.

    With u the unit roundoff, c the centre, and every term of the sum counted, the result for a point is off by at most

        (2 L + 8) u (|z - c|^2 max_kl 1/scale_kl^2 + max_k sum_l (loc_kl - c_l)^2 / scale_kl^2).

    Args:
        components: of any floating dtype, on a device that has float64.
        centre: subtracted from all coordinates; any constant is exact, the components' own middle cancels least.
    """

    def __init__(self, components: Components, centre: Float[Tensor, " latent"]) -> None:
        log_weights, loc, self.scale = components.to(torch.float64)
        self.centre = centre
        self.loc = loc - centre
        self.precision = self.scale.square().reciprocal()
        weighted = self.loc * self.precision
        self._squared_lengths = (self.loc * weighted).sum(-1)
        constant = log_weights - 0.5 * self._squared_lengths - self.scale.log().sum(-1) - 0.5 * LOG_2PI * loc.shape[-1]
        last = constant.unsqueeze(-1)
        self.weights = torch.cat([-0.5 * self.precision, weighted, last, torch.ones_like(last)], -1)

    def features(
        self, z: Float[Tensor, "*batch point latent"], shift: Float[Tensor, "*batch point"] | None = None
    ) -> Float[Tensor, "*batch point feature"]:
        """[z^2, z, 1, shift] of the centred points; `shift` is added to every joint log-density of its point."""
        z = z.double() - self.centre
        one = z.new_ones(1).expand(*z.shape[:-1], 1)
        last = torch.zeros_like(one) if shift is None else shift.unsqueeze(-1)
        return torch.cat([z.square(), z, one, last], -1)

    def are_precise(self, features: Float[Tensor, "point feature"]) -> Bool[Tensor, " point"]:
        """Which points have an error below `TOLERANCE`; not those with NaN or infinity."""
        latent_dim = self.loc.shape[-1]
        squared_norm = features[:, :latent_dim].sum(-1)
        bound = squared_norm * self.precision.amax() + self._squared_lengths.amax()
        return bound <= TOLERANCE / ((2 * latent_dim + 8) * UNIT_ROUNDOFF)

    def joint(self, features: Float[Tensor, "*batch point feature"]) -> Float[Tensor, "*batch point component"]:
        """log pi_k + log N(z_b | loc_k, scale_k^2) + shift_b in nats."""
        return features @ self.weights.mT

    def gradients(self, features: Tensor, r: Tensor, row: Tensor, wanted: Wanted) -> Gradients:
        """See `Gradients`; r is (*batch, b, k), row (*batch, b)."""
        latent_dim = self.loc.shape[-1]
        of_z = None
        if wanted.points:
            quadratic, linear = (r @ self.weights[..., : 2 * latent_dim]).split(latent_dim, -1)
            of_z = (2 * features[..., latent_dim : 2 * latent_dim] * quadratic + linear) * row.unsqueeze(-1)
        if not wanted.components:
            return Gradients(of_z, None, None, None)
        moments = ((features[..., : 2 * latent_dim + 1] * row.unsqueeze(-1)).mT @ r).mT
        second, first, zeroth = moments.split((latent_dim, latent_dim, 1), -1)
        spread = second - self.loc * (2 * first - self.loc * zeroth)
        of_loc = self.precision * (first - self.loc * zeroth)
        return Gradients(of_z, zeroth.squeeze(-1), of_loc, (self.precision * spread - zeroth) / self.scale)


class Block:
    """A block of components that takes products for the points where they are exact enough, else differences.

    Args:
        components: (k,), (k, L), (k, L).
        centre: see `Products`; None takes differences for all points.
    """

    def __init__(self, components: Components, centre: Float[Tensor, " latent"] | None) -> None:
        self.components = components
        self.products = None if centre is None else Products(components, centre)

    def at(self, z: Float[Tensor, "point latent"], shift: Float[Tensor, " point"] | None = None) -> "Pair":
        """Prepare a block of points; `shift` is added to every joint log-density of its point."""
        return Pair(self, z, shift)


class Pair:
    """A block of components and one of points; see `Block.at`."""

    def __init__(self, block: Block, z: Float[Tensor, "point latent"], shift: Float[Tensor, " point"] | None) -> None:
        self._block, self._z, self._shift = block, z, shift
        self._features = None if block.products is None else block.products.features(z, shift)
        self._direct: Tensor | None = None  # the points that need differences; None for all of them or none
        if block.products is not None and self._features is not None:
            precise = block.products.are_precise(self._features)
            if not bool(precise.all()):
                self._direct = (~precise).nonzero().squeeze(-1)
                self._precise = precise.nonzero().squeeze(-1)

    def joint(self) -> Float[Tensor, "point component"]:
        """log pi_k + log N(z_b | loc_k, scale_k^2) + shift_b in nats."""
        if self._block.products is None or self._features is None:
            return self._by_differences(slice(None))
        joint = self._block.products.joint(self._features)
        if self._direct is not None:
            joint[self._direct] = self._by_differences(self._direct)
        return joint

    def gradients(self, r: Tensor, row: Tensor, wanted: Wanted) -> Gradients:
        """See `Gradients`; r is (b, k), row (b,)."""
        products, direct = self._block.products, self._direct
        if products is None or self._features is None:
            return Differences(self._block.components).gradients(self._z, r, row, wanted)
        if direct is None:
            return products.gradients(self._features, r, row, wanted)
        some = products.gradients(self._features[self._precise], r[self._precise], row[self._precise], wanted)
        others = Differences(self._block.components).gradients(self._z[direct], r[direct], row[direct], wanted)
        of_z = None
        if some.z is not None and others.z is not None:
            of_z = r.new_empty(self._z.shape).index_copy(0, self._precise, some.z).index_copy(0, direct, others.z)
        sums = [None if a is None or b is None else a + b for a, b in zip(some[1:], others[1:], strict=True)]
        return Gradients(of_z, *sums)

    def _by_differences(self, points: slice | Tensor) -> Tensor:
        joint = Differences(self._block.components).joint(self._z[points])
        return joint if self._shift is None else joint + self._shift[points].unsqueeze(-1)
