"""Prepared blocks of components and of points; the terms of the density and its gradients for a pair of blocks.

A pair uses `Products` for the points for which they are precise enough, and `Differences` for the others.
"""

import math
from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from priory.density.components import (
    Components,
    Differences,
    Products,
    gradient_of_points,
    has_float64,
    point_features,
    working_dtype,
)
from priory.density.small import SMALL

POINTS_AT_ONCE = 512
BLOCK_ON_CPU = 2**19  # b x k numbers held at a time: they fit into the caches, and keep two cores busy
BLOCK_ELSEWHERE = 2**24
PREPARED_AT_ONCE = 2**22  # b x L and k x L numbers prepared at a time
KEPT = 2**23  # b x L numbers of prepared points that are kept from one block of components to the next
KEPT_IN_CACHE = 2**17  # the same if there is one block of components: above, preparing points again is cheaper


class BlockSizes(NamedTuple):
    """How many points and components are in a block."""

    points: int
    components: int


def block_sizes(num_points: int, components: Components) -> BlockSizes:
    """Choose sizes that keep a block in the cache and its matrix products efficient."""
    num_components, latent_dim = components.loc.shape
    on_cpu = components.loc.device.type == "cpu"
    block, least = (BLOCK_ON_CPU, POINTS_AT_ONCE) if on_cpu else (BLOCK_ELSEWHERE, 2 * POINTS_AT_ONCE)
    prepared = max(1, PREPARED_AT_ONCE // max(1, latent_dim))
    points = max(1, min(num_points, least, prepared))
    size = max(1, min(num_components, block // points, prepared))
    return BlockSizes(max(1, min(num_points, block // size, prepared)), size)


class PointBlock(NamedTuple):
    """A block of points; the last four fields are None if all points use differences."""

    z: Float[Tensor, "point latent"]
    shift: Float[Tensor, " point"] | None  # added to every joint log-density of the point
    row: Float[Tensor, " point"] | None  # a factor of the point's gradients
    features: Float[Tensor, "point feature"] | None
    weighted: Float[Tensor, "point moment"] | None  # row [z^2, z, 1]
    squared_norm: Float[Tensor, " point"] | None
    largest_norm: float | None  # an upper bound of the squared norms; NaN if one is NaN

    def with_row(self, row: Float[Tensor, " point"]) -> "PointBlock":
        """Return the same block with a factor for the gradients."""
        weighted = None if self.features is None else self.features[:, :-1] * row.unsqueeze(-1)
        return self._replace(row=row, weighted=weighted)

    def with_shift(self, shift: Float[Tensor, " point"]) -> "PointBlock":
        features = self.features
        if features is not None:
            features = features.clone()  # `cat` takes 1.5 times as long
            features[:, -1] = shift
        return self._replace(shift=shift, features=features)

    def part(self, rows: slice) -> "PointBlock":
        shift, row, features, weighted, squared_norm = (None if x is None else x[rows] for x in self[1:6])
        return PointBlock(self.z[rows], shift, row, features, weighted, squared_norm, self.largest_norm)


def prepare_points(
    z: Float[Tensor, "point latent"],
    center: Float[Tensor, " latent"] | None,
    shift: Float[Tensor, " point"] | None = None,
    row: Float[Tensor, " point"] | None = None,
) -> PointBlock:
    """Make a `PointBlock`; without a center, all points use differences."""
    if center is None:
        return PointBlock(z, shift, row, None, None, None, None)
    features = point_features(z, center, shift)
    squared_norm = features[:, : z.shape[-1]].sum(-1)
    largest_norm = float(squared_norm.amax()) if len(z) else 0.0
    points = PointBlock(z, shift, None, features, None, squared_norm, largest_norm)
    return points if row is None else points.with_row(row)


class Walk:
    """All pairs of blocks: components outside, points inside; points are prepared once if they fit into memory.

    `shift` is added to the joint log-densities of a point, and `row` is a factor of its gradients.
    """

    def __init__(
        self,
        z: Float[Tensor, "point latent"],
        components: Components,
        shift: Tensor | None = None,
        row: Tensor | None = None,
    ) -> None:
        self.z, self.components, self._shift, self.row = z, components, shift, row
        self.sizes = block_sizes(len(z), components)
        direct = z.numel() * len(components.loc) <= SMALL or not has_float64(z.device)
        self.center = None if direct else components.center
        self._workspace: Tensor | None = None
        self._block: tuple[slice, ComponentBlock] | None = None  # the block of components, if there is only one
        most = KEPT if len(components.loc) > self.sizes.components else KEPT_IN_CACHE
        self._kept = prepare_points(z, self.center, shift, row) if z.numel() <= most else None

    def again(self, row: Float[Tensor, " point"]) -> "Walk":
        """Return the same walk with its prepared points and a factor for each point."""
        other = copy(self)
        other.row = row
        other._kept = None if self._kept is None else self._kept.with_row(row)
        return other

    def component_blocks(self) -> Iterator[tuple[slice, "ComponentBlock"]]:
        """Yield the slice of the components of each block, and the block."""
        size = self.sizes.components
        if size >= len(self.components.loc):
            if self._block is None:
                self._block = slice(0, size), ComponentBlock(self.components, self.center)
            yield self._block
            return
        for start in range(0, len(self.components.loc), size):
            part = slice(start, start + size)
            yield part, ComponentBlock(Components(*(parameter[part] for parameter in self.components)), self.center)

    def point_blocks(self) -> Iterator[tuple[slice, PointBlock]]:
        """Yield the slice of the points of each block, and the block."""
        for start in range(0, max(1, len(self.z)), self.sizes.points):
            rows = slice(start, start + self.sizes.points)
            if self._kept is None:
                shift, row = (None if x is None else x[rows] for x in (self._shift, self.row))
                yield rows, prepare_points(self.z[rows], self.center, shift, row)
            else:
                yield rows, self._kept.part(rows)

    def workspace(self, pair: "Pair") -> Float[Tensor, "point component"]:
        """Return memory for the joint log-densities of a pair, the same at each call.

        New memory for every block would take as long as a narrow matrix product.
        """
        if self._workspace is None:
            numbers = self.sizes.points * self.sizes.components
            self._workspace = torch.empty(numbers, dtype=working_dtype(self.z.device), device=self.z.device)
        return self._workspace[: math.prod(pair.shape)].view(pair.shape)


class ComponentBlock:
    """A block of components; without a center (see `Products`), all points use differences."""

    def __init__(self, components: Components, center: Float[Tensor, " latent"] | None) -> None:
        self.components = components
        self.products = None if center is None else Products(components, center)

    def at(self, points: PointBlock) -> "Pair":
        return Pair(self, points)


class Pair:
    """A block of components and one of points."""

    def __init__(self, block: ComponentBlock, points: PointBlock) -> None:
        self._block, self._points = block, points
        self.shape = len(points.z), len(block.components.loc)
        self._direct: Tensor | None = None  # the points that need differences; None if all or none do
        if block.products is None or points.squared_norm is None or points.largest_norm is None:
            return
        if not points.largest_norm <= block.products.reach:
            precise = points.squared_norm <= block.products.reach
            if not bool(precise.all()):
                self._direct, self._precise = (which.nonzero().squeeze(-1) for which in (~precise, precise))

    def largest_of_some(self, count: int) -> Float[Tensor, " point"] | None:
        """Return the largest joint log-density under about `count` components of the block; None if it is expensive."""
        products, features = self._block.products, self._points.features
        if products is None or features is None or self._direct is not None or self.shape[1] < 4 * count:
            return None
        return (features @ products.weights[:: self.shape[1] // count].mT).amax(-1)

    def with_shift(self, shift: Float[Tensor, " point"]) -> "Pair":
        other = copy(self)
        other._points = self._points.with_shift(shift)
        return other

    def joint(self, out: Float[Tensor, "point component"] | None = None) -> Float[Tensor, "point component"]:
        """log pi_k + log N(z_b | loc_k, scale_k^2) + shift_b in nats, also written to `out`."""
        if self._block.products is None or self._points.features is None:
            joint = self._by_differences(slice(None))
            return joint if out is None else out.copy_(joint)
        joint = self._block.products.joint(self._points.features, out)
        if self._direct is not None:
            joint[self._direct] = self._by_differences(self._direct)
        return joint

    def add_to_points(self, r: Float[Tensor, "point component"], sums: "PointSums", rows: slice) -> None:
        """Add to the points' gradient the part that comes from these components, with the weights r."""
        products, direct = self._block.products, self._direct
        if products is None:
            sums.direct[rows] += self._differences.gradient_of_points(self._points.z, r, self._row)
        elif direct is None:
            sums.pull[rows].addmm_(r, products.slopes)
        else:
            sums.pull[rows].index_add_(0, self._precise, r[self._precise] @ products.slopes)
            gradient = self._differences.gradient_of_points(self._points.z[direct], r[direct], self._row[direct])
            sums.direct[rows].index_add_(0, direct, gradient)

    def add_to_components(self, r: Float[Tensor, "point component"], sums: "ComponentSums") -> None:
        """Add to the components' gradients the part that comes from these points, with the weights r."""
        weighted, direct = self._points.weighted, self._direct
        if weighted is None:
            sums.add(self._differences.gradients_of_components(self._points.z, r, self._row))
        elif direct is None:
            sums.moments.addmm_(weighted.mT, r)
        else:
            sums.moments.addmm_(weighted[self._precise].mT, r[self._precise])
            sums.add(self._differences.gradients_of_components(self._points.z[direct], r[direct], self._row[direct]))

    @property
    def _differences(self) -> Differences:
        return Differences(self._block.components)

    @property
    def _row(self) -> Tensor:
        assert self._points.row is not None
        return self._points.row

    def _by_differences(self, points: slice | Tensor) -> Tensor:
        joint = self._differences.joint(self._points.z[points])
        return joint if self._points.shift is None else joint + self._points.shift[points].unsqueeze(-1)


class PointSums:
    """The gradient of all points: a sum over blocks of components."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._direct: Tensor | None = None
        if walk.center is not None:
            self.pull = self._zeros(2 * walk.z.shape[-1])

    @property
    def direct(self) -> Float[Tensor, "point latent"]:
        """The part from differences; allocated when it is first used."""
        if self._direct is None:
            self._direct = self._zeros(self._walk.z.shape[-1])
        return self._direct

    def gradient(self) -> Float[Tensor, "point latent"]:
        """Return the gradient in the dtype of the points."""
        z, center, row = self._walk.z, self._walk.center, self._walk.row
        if center is None or row is None:
            return self.direct.to(z.dtype)
        total = gradient_of_points(self.pull, z - center, row)
        if self._direct is not None:
            # z - c may be infinite or NaN if all parts come from differences.
            total = torch.where(self.pull.any(-1, keepdim=True), total, 0.0) + self._direct
        return total.to(z.dtype)

    def _zeros(self, width: int) -> Tensor:
        z = self._walk.z
        return torch.zeros(len(z), width, dtype=working_dtype(z.device), device=z.device)


class ComponentSums:
    """The gradients of a block of components: sums over blocks of points."""

    def __init__(self, block: ComponentBlock) -> None:
        self._products = block.products
        self._direct: list[Components] = []
        if block.products is not None:
            shape = block.products.slopes.shape[-1] + 1, len(block.components.loc)
            self.moments = torch.zeros(shape, dtype=torch.float64, device=block.components.loc.device)

    def add(self, gradients: Components) -> None:
        """Add a part from differences."""
        self._direct.append(gradients)

    def gradients(self) -> Components:
        """Return the gradients of the log-weights, means and scales."""
        parts = list(self._direct)
        if self._products is not None:
            parts.append(self._products.gradients_of_components(self.moments))
        return Components(*(sum(tensors[1:], tensors[0]) for tensors in zip(*parts, strict=True)))
