"""Expectations and maxima of the responsibilities of many points, without the matrix of all responsibilities.

    p(k | z_b) = exp(joint_bk - log p(z_b))

Autograd records nothing here.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priory.density.blocks import KEPT, PointBlock, Walk
from priory.density.components import Components, lowest_exponent, working_dtype
from priory.density.log_prob import exponentials


def expected_value(
    z: Float[Tensor, "point latent"], components: Components, values: Float[Tensor, "component value"]
) -> Float[Tensor, "point value"]:
    """E[values_k | z_b] = sum_k p(k | z_b) values_k, in the working dtype; NaN if all components are -inf.

    Args:
        z: the points.
        components: the mixture.
        values: one row for each component, such as its node on a grid.
    """
    values = values.to(working_dtype(z.device))
    results = []
    for points, joints in _point_blocks(z, components):
        log_sum = torch.full((len(points),), -math.inf, dtype=values.dtype, device=z.device)
        result = values.new_zeros(len(points), values.shape[-1])
        for part, joint in joints:
            of_block = exponentials(joint)
            mean = (of_block.terms * of_block.reciprocal.unsqueeze(-1)) @ values[part]
            together = torch.logaddexp(log_sum, of_block.log_sum)
            share = torch.exp(of_block.log_sum - together).unsqueeze(-1)
            result = torch.where(share > 0, torch.lerp(result, mean, share), result)
            log_sum = together
        results.append(result.masked_fill((log_sum == -math.inf).unsqueeze(-1), math.nan))
    return torch.cat(results)


def top_responsibilities(
    z: Float[Tensor, "point latent"], components: Components, count: int
) -> tuple[Float[Tensor, "point count"], Int[Tensor, "point count"]]:
    """The `count` largest p(k | z_b) of each point, in the working dtype, largest first, and their components.

    Args:
        z: the points.
        components: the mixture.
        count: number of responsibilities, from 1 to the number of components.
    """
    shares, indices = [], []
    for points, joints in _point_blocks(z, components):
        dtype = working_dtype(z.device)
        log_sum = torch.full((len(points),), -math.inf, dtype=dtype, device=z.device)
        best = torch.empty(len(points), 0, dtype=dtype, device=z.device)
        index = torch.empty(len(points), 0, dtype=torch.long, device=z.device)
        for part, joint in joints:
            largest, where = joint.topk(min(count, joint.shape[-1]), -1)
            index = torch.cat([index, where + part.start], -1)
            best, order = torch.cat([best, largest], -1).topk(min(count, best.shape[-1] + largest.shape[-1]), -1)
            index = index.gather(-1, order)
            log_sum = torch.logaddexp(log_sum, exponentials(joint).log_sum)
        shift = log_sum.masked_fill(log_sum == -math.inf, 0.0).unsqueeze(-1)
        exponent = best - shift
        shares.append(torch.where(exponent < lowest_exponent(dtype), 0.0, exponent.exp()))
        indices.append(index)
    return torch.cat(shares), torch.cat(indices)


def _point_blocks(z: Tensor, components: Components) -> Iterator[tuple[Tensor, Iterator[tuple[slice, Tensor]]]]:
    """Yield blocks of points, with the joint log-densities of each block of components for them."""
    walk = Walk(z, components)
    prepared = list(walk.component_blocks()) if components.loc.numel() <= KEPT else None

    def joints(points: PointBlock) -> Iterator[tuple[slice, Tensor]]:
        for part, block in walk.component_blocks() if prepared is None else prepared:
            pair = block.at(points)
            yield part, pair.joint(out=walk.workspace(pair))

    for _, points in walk.point_blocks():
        yield points.z, joints(points)
