"""Positions of rows on a grid, from their responsibilities."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

REACH = 3.0  # grid steps; docs/maps.md has the measurements behind this choice


class Places(NamedTuple):
    """Positions of rows on a map of nodes u_k, with responsibilities r_k = p(k | x).

    Attributes:
        place: sum_k r_k u_k / sum_k r_k over the nodes near the likeliest one, (N, C); plots draw rows there. A row
            with NaN among its r_k has no position: all its numbers are NaN, and its nodes -1.
        mean: E[u | x] = sum_k r_k u_k over all nodes, (N, C); it may lie between two distant peaks.
        scale: the standard deviation of u given x, for each coordinate, (N, C).
        node: the likeliest node, (N,), or -1; `mode` has its coordinates.
        next_node: the second likeliest, (N,).
        responsibility: p(k | x) of the likeliest node, (N,).
        mode: the likeliest node's coordinates, (N, C).
    """

    place: Float[Tensor, "datum grid"]
    mean: Float[Tensor, "datum grid"]
    scale: Float[Tensor, "datum grid"]
    node: Int[Tensor, " datum"]
    next_node: Int[Tensor, " datum"]
    responsibility: Float[Tensor, " datum"]
    mode: Float[Tensor, "datum grid"]

    @property
    def exist(self) -> Bool[Tensor, " datum"]:
        """Return whether each row has a position, (N,)."""
        return self.node >= 0

    def columns(self) -> dict[str, Shaped[Tensor, " datum"]]:
        """Return the columns of a table of the rows: `u1`, `u2`, ..., their scales, `node`, `responsibility`."""
        axes = range(1, self.place.shape[1] + 1)
        return {
            **{f"u{axis}": self.place[:, axis - 1] for axis in axes},
            **{f"u{axis}_scale": self.scale[:, axis - 1] for axis in axes},
            "node": self.node,
            **{f"node_u{axis}": self.mode[:, axis - 1] for axis in axes},
            "responsibility": self.responsibility,
        }


def places_of(share: Float[Tensor, "datum node"], nodes: Float[Tensor, "node grid"], reach: float = REACH) -> Places:
    """Return the positions of rows with these responsibilities.

    The responsibilities of a row often have more than one peak, and the mean over all nodes lies between the peaks. So
    the position of a row is the mean over the nodes within `reach` of the likeliest one.

    Args:
        share: p(k | x); each row sums to one.
        nodes: u_k.
        reach: in grid steps; 0 gives the likeliest node itself, infinity gives E[u | x].

    >>> nodes = torch.tensor([[-1.0], [0.0], [1.0]])
    >>> result = places_of(torch.tensor([[0.5, 0.1, 0.4]]), nodes, reach=1)
    >>> result.place, result.mean
    (tensor([[-0.8333]]), tensor([[-0.1000]]))
    """
    responsibility, top = share.topk(min(2, share.shape[1]), dim=1)
    lost = responsibility[:, :1].isnan()
    mode = nodes[top[:, 0]].masked_fill(lost, torch.nan)
    top = top.masked_fill(lost, -1)
    mean = share @ nodes
    variance = share @ nodes.square() - mean.square()
    return Places(
        mean_of_near(share, within_reach(mode, nodes, reach), nodes),
        mean,
        variance.clamp(min=0.0).sqrt(),
        top[:, 0],
        top[:, -1],
        responsibility[:, 0],
        mode,
    )


def within_reach(
    places: Float[Tensor, "place grid"], nodes: Float[Tensor, "node grid"], reach: float
) -> Bool[Tensor, "place node"]:
    """Return whether each node lies within `reach` grid steps of each position."""
    step = grid_steps(nodes)
    distance = torch.cdist(places / step, nodes / step, compute_mode="donot_use_mm_for_euclid_dist")  # exact zeros
    return distance <= reach + 1e-6


def mean_of_near(
    share: Float[Tensor, "datum node"], near: Bool[Tensor, "datum node"], nodes: Float[Tensor, "node grid"]
) -> Float[Tensor, "datum grid"]:
    """Return sum_k r_k u_k / sum_k r_k over the near nodes, (N, C)."""
    share = share * near
    return share @ nodes / share.sum(1, keepdim=True)


def grid_steps(nodes: Float[Tensor, "node grid"]) -> Float[Tensor, " grid"]:
    """Return the smallest distance between coordinates of nodes along each axis, (C,); 1 if all are equal."""
    sides = [column.unique() for column in nodes.T]
    return torch.stack([side.diff().min() if len(side) > 1 else torch.ones_like(side[0]) for side in sides])
