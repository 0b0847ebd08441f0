"""Trustworthiness and continuity of a map: ranks of neighbors in data space and on the map."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

DISTANCES_AT_ONCE = 2**23  # distances from some rows to all


def trustworthiness(
    x: Float[Tensor, "datum input"], places: Float[Tensor, "datum grid"], num_neighbors: int = 10
) -> Float[Tensor, " datum"]:
    """Measure how close neighbors on the map are in data space; 1 if they are neighbors there too.

        t_n = 1 - 2 / (k (2N - 3k - 1)) sum_j max(0, r(n, j) - k),   j the k neighbors of n on the map

    with r(n, j) the rank of j among the other rows by their distance from n in data space. The mean over rows is the
    trustworthiness. `continuity` exchanges data and map: it falls if the map separates neighbors in data space. If
    cells are NaN, a distance uses the cells that both rows have, scaled up to all.

    Args:
        x: rows in data space.
        places: the same rows on the map.
        num_neighbors: k.

    Raises:
        ValueError: the rows do not match, or are not more than twice as many as the neighbors.

    Reference: Venna & Kaski 2001, Neighborhood preservation in nonlinear projection methods, eq. 2.

    >>> x = torch.arange(8.0).unsqueeze(-1)
    >>> trustworthiness(x, 2 * x, num_neighbors=2).mean()
    tensor(1., dtype=torch.float64)
    """
    return trustworthiness_of_maps(x, [places], num_neighbors)[0]


def trustworthiness_of_maps(
    x: Float[Tensor, "datum input"], maps: Sequence[Float[Tensor, "datum grid"]], num_neighbors: int
) -> list[Float[Tensor, " datum"]]:
    """`trustworthiness` of several maps of the same rows, whose ranks in data space are found once."""
    size, k = len(x), num_neighbors
    if any(len(places) != size for places in maps) or not 1 <= k < size / 2:
        raise ValueError(
            f"x, places, num_neighbors: expected as many rows in both, more than twice the neighbors, got {size}, "
            f"{', '.join(str(len(places)) for places in maps)} and {k}"
        )
    x, *maps = (values - values.nanmean(0) for values in (x.double(), *(m.double() for m in maps)))  # squares cancel
    parts: list[list[Tensor]] = [[] for _ in maps]
    for rows in torch.arange(size, device=x.device).split(max(1, DISTANCES_AT_ONCE // size)):
        distances = _squared_distances(x, rows)
        ranks, order = torch.empty_like(distances), torch.arange(1, size + 1, device=x.device).to(distances)
        ranks.scatter_(1, distances.argsort(stable=True), order.expand_as(ranks))
        for part, places in zip(parts, maps, strict=True):
            near = _squared_distances(places, rows).topk(k, largest=False).indices
            part.append((ranks.gather(1, near) - k).clamp(min=0.0).sum(1))
    return [1 - 2 / (k * (2 * size - 3 * k - 1)) * torch.cat(part) for part in parts]


def continuity(
    x: Float[Tensor, "datum input"], places: Float[Tensor, "datum grid"], num_neighbors: int = 10
) -> Float[Tensor, " datum"]:
    """Measure how close neighbors in data space are on the map; see `trustworthiness`."""
    return trustworthiness(places, x, num_neighbors)


def _squared_distances(x: Float[Tensor, "datum input"], rows: Tensor) -> Float[Tensor, "row datum"]:
    """Return distances from these rows to all: infinity to itself, and the largest number if no cell is in both."""
    missing = x.isnan()
    if not bool(missing.any()):
        squares = x.square().sum(-1)
        distances = squares[rows].unsqueeze(-1) + squares - 2 * x[rows] @ x.mT
    else:
        there, filled = (~missing).double(), x.nan_to_num(0.0)
        squares = filled.square()
        total = squares[rows] @ there.mT + there[rows] @ squares.mT - 2 * filled[rows] @ filled.mT
        distances = total * (x.shape[1] / (there[rows] @ there.mT))
        distances = distances.nan_to_num(torch.finfo(distances.dtype).max)  # no cell: 0 times infinity
    distances = distances.clamp(min=0.0)
    return distances.scatter(1, rows.unsqueeze(-1), torch.inf)
