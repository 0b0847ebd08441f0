"""The log-density of a mixture of diagonal normals, block by block, with its gradients from further matrix products.

    log p(z_b) = log sum_k exp(joint_bk),    joint_bk = log pi_k + log N(z_b | loc_k, diag(scale_k^2))

Forward walks over blocks of components and points with an online log-sum-exp and keeps one number per point; backward
computes the responsibilities of each block again: the algorithm of flash attention, for mixtures. Memory is that of
the arguments, their gradients and a block. Where all fits into one block, its exponentials are kept in between.

Nothing here is recorded by autograd: `functions.py` calls it.

References: Dao et al. 2022, arXiv:2205.14135 (blocks and recomputation); Milakov & Gimelshein 2018, arXiv:1805.02867
(online softmax).
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from priory.density.components import (
    Block,
    Components,
    Exponentials,
    Gradients,
    Pair,
    Wanted,
    has_float64,
    lowest_exponent,
    working_dtype,
)
from priory.density.small import SMALL

POINTS_AT_ONCE = 1024
BLOCK_ON_CPU = 2**19  # numbers b x k held at a time: what the caches hold
BLOCK_ELSEWHERE = 2**24
PREPARED_AT_ONCE = 2**22  # numbers b x L and k x L prepared at a time


class BlockSizes(NamedTuple):
    """How many points and components are taken at a time."""

    points: int
    components: int


def block_sizes(num_points: int, components: Components) -> BlockSizes:
    """Sizes that keep a block in the cache and its matrix products efficient."""
    num_components, latent_dim = components.loc.shape
    block = BLOCK_ON_CPU if components.loc.device.type == "cpu" else BLOCK_ELSEWHERE
    prepared = max(1, PREPARED_AT_ONCE // max(1, latent_dim))
    points = max(1, min(num_points, POINTS_AT_ONCE, prepared))
    size = max(1, min(num_components, block // points, prepared))
    return BlockSizes(max(1, min(num_points, block // size, prepared)), size)


def component_blocks(num_points: int, components: Components, size: int) -> Iterator[tuple[slice, Block]]:
    """The components, `size` at a time: where they stand, and prepared for evaluation."""
    num_components, latent_dim = components.loc.shape
    direct = num_points * num_components * latent_dim <= SMALL or not has_float64(components.loc.device)
    centre = None if direct else components.loc.mean(0).double()
    for start in range(0, num_components, size):
        part = slice(start, start + size)
        yield part, Block(Components(*(parameter[part] for parameter in components)), centre)


def exponentials(joint: Float[Tensor, "point component"]) -> Exponentials:
    """See `Exponentials`; `joint` is overwritten."""
    largest = joint.amax(-1)
    empty = largest == -math.inf
    joint.sub_(largest.masked_fill(empty, 0.0).unsqueeze(-1)).clamp_(min=lowest_exponent(joint.dtype)).exp_()
    total = joint.sum(-1)
    return Exponentials(largest + total.log(), joint, total.reciprocal().masked_fill(empty, 0.0))


def log_prob(z: Float[Tensor, "point latent"], components: Components) -> Exponentials:
    """log p(z_b) in nats, in the working dtype; and the exponentials where there is only one block, else empties."""
    sizes = block_sizes(len(z), components)
    if len(z) <= sizes.points and len(components.loc) <= sizes.components:
        ((_, block),) = component_blocks(len(z), components, sizes.components)
        return exponentials(block.at(z).joint())
    result = torch.full((len(z),), -math.inf, dtype=working_dtype(z.device), device=z.device)
    for _, block in component_blocks(len(z), components, sizes.components):
        for rows, points in zip(result.split(sizes.points), z.split(sizes.points), strict=True):
            torch.logaddexp(rows, exponentials(block.at(points).joint()).log_sum, out=rows)
    return Exponentials(result, result.new_empty(0), result.new_empty(0))


def log_prob_gradients(
    grad: Float[Tensor, " point"],
    z: Float[Tensor, "point latent"],
    components: Components,
    found: Exponentials,
    wanted: Wanted,
) -> Gradients:
    """Gradients of sum_b grad_b log p(z_b); zero where the density is zero.

    Args:
        grad: what the loss changes by with each log-density.
        z: the points.
        components: the mixture.
        found: what `log_prob` returned.
        wanted: which gradients.
    """
    empty = found.log_sum == -math.inf
    grad = grad.to(found.log_sum.dtype).masked_fill(empty, 0.0)
    z = z.masked_fill(empty.unsqueeze(-1), 0.0)  # infinity times zero is NaN
    if len(found.reciprocal) == len(z):
        return gradients(z, components, lambda rows, part, pair: found.terms, grad * found.reciprocal, wanted)

    def responsibilities(rows: slice, part: slice, pair: Pair) -> Tensor:
        joint = pair.joint()
        return joint.clamp_(min=lowest_exponent(joint.dtype)).exp_()

    shift = -found.log_sum.masked_fill(empty, 0.0)
    return gradients(z, components, responsibilities, grad, wanted, shift)


def joint_log_prob(
    z: Float[Tensor, "point latent"], components: Components, dtype: torch.dtype
) -> Float[Tensor, "point component"]:
    """log pi_k + log N(z_b | loc_k, diag(scale_k^2)) in nats, all of them."""
    sizes = block_sizes(len(z), components)
    result = torch.empty(len(z), len(components.loc), dtype=dtype, device=z.device)
    for part, block in component_blocks(len(z), components, sizes.components):
        for start in range(0, len(z), sizes.points):
            rows = slice(start, start + sizes.points)
            result[rows, part] = block.at(z[rows]).joint()
    return result


def joint_gradients(
    grad: Float[Tensor, "point component"], z: Float[Tensor, "point latent"], components: Components, wanted: Wanted
) -> Gradients:
    """Gradients of sum_bk grad_bk joint_bk."""
    row = torch.ones(len(z), dtype=working_dtype(z.device), device=z.device)
    return gradients(z, components, lambda rows, part, pair: grad[rows, part].to(row.dtype), row, wanted)


def gradients(
    z: Float[Tensor, "point latent"],
    components: Components,
    weights: Callable[[slice, slice, Pair], Float[Tensor, "point component"]],
    row: Float[Tensor, " point"],
    wanted: Wanted,
    shift: Float[Tensor, " point"] | None = None,
) -> Gradients:
    """Gradients of sum_b row_b sum_k weights_bk joint_bk with the weights held fixed, in the arguments' dtypes.

    Args:
        z: the points.
        components: the mixture.
        weights: gives those of a block, from its rows, its components and the prepared pair of them.
        row: a factor for each point.
        wanted: which gradients.
        shift: added to the joint log-densities of the pairs that `weights` is given.
    """
    sizes = block_sizes(len(z), components)
    of_z = torch.zeros(z.shape, dtype=row.dtype, device=z.device)
    sums = [torch.empty_like(parameter) for parameter in components] if wanted.components else [None] * 3
    for part, block in component_blocks(len(z), components, sizes.components):
        total: list[Tensor | None] = [None] * 3
        for start in range(0, len(z), sizes.points):
            rows = slice(start, start + sizes.points)
            pair = block.at(z[rows], None if shift is None else shift[rows])
            found = pair.gradients(weights(rows, part, pair), row[rows], wanted)
            if found.z is not None:
                of_z[rows] += found.z
            total = [
                new if old is None or new is None else old.add_(new) for old, new in zip(total, found[1:], strict=True)
            ]
        for result, value in zip(sums, total, strict=True):
            if result is not None and value is not None:
                result[part] = value
    return Gradients(of_z.to(z.dtype) if wanted.points else None, *sums)
