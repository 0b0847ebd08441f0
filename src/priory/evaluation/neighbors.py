"""Trustworthiness and continuity of a map, from ranks of neighbors in data space and on the map."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priory._support.optional import require

DISTANCES_AT_ONCE = 2**23  # distances computed at a time
ROUNDING = 1e-12  # error of a squared distance, relative to the squares whose difference it is


def trustworthiness(
    x: Float[Tensor, "datum input"], places: Float[Tensor, "datum grid"], num_neighbors: int = 10
) -> Float[Tensor, " datum"]:
    """Measure how close neighbors on the map are in data space; 1 if they are also neighbors there.

            t_n = 1 - 2 / (k (2N - 3k - 1)) sum_j max(0, r(n, j) - k),   j the k neighbors of n on the map

        with r(n, j) the rank of j among the other rows by their distance from n in data space. The mean over rows is
        the trustworthiness. `continuity` exchanges data and map: it falls if the map separates neighbors in data space.
        If cells are NaN, a distance uses the cells that both rows have, scaled up to all columns.

    Args:
        x: rows in data space.
        places: positions of the same rows on the map.
        num_neighbors: k.

    Raises:
        ValueError: the numbers of rows differ, or there are not more than twice as many rows as neighbors.

    Reference: Venna & Kaski 2001, Neighborhood preservation in nonlinear projection methods, eq. 2.

    >>> x = torch.arange(8.0).unsqueeze(-1)
    >>> trustworthiness(x, 2 * x, num_neighbors=2).mean()
    tensor(1., dtype=torch.float64)
    """
    return trustworthiness_of_maps(x, [places], num_neighbors)[0]


def trustworthiness_of_maps(
    x: Float[Tensor, "datum input"], maps: Sequence[Float[Tensor, "datum grid"]], num_neighbors: int
) -> list[Float[Tensor, " datum"]]:
    """`trustworthiness` of several maps of the same rows; the ranks in data space are computed once."""
    size, k = len(x), num_neighbors
    if any(len(places) != size for places in maps) or not 1 <= k < size / 2:
        raise ValueError(
            f"x, places, num_neighbors: expected as many rows in both, more than twice num_neighbors, got {size}, "
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


class Neighborhoods(NamedTuple):
    """The measures of `sampled_neighborhoods` at each query, (Q,)."""

    trustworthiness: list[Float[Tensor, " query"]]  # of each map
    continuity: Float[Tensor, " query"]  # of the first map


def sampled_neighborhoods(
    x: Callable[[], Iterable[Float[Tensor, "datum input"]]],
    maps: Sequence[Float[Tensor, "datum grid"]],
    queries: Int[Tensor, " query"],
    num_neighbors: int = 10,
) -> Neighborhoods:
    """Measure `trustworthiness` and `continuity` at some rows, the queries, among all N rows.

    Neighbors and ranks are those among all rows, and N in the formula is the number of all rows. So if queries are
    drawn at random, their mean is an unbiased estimate of the mean over all rows, and its standard error is the usual
    one. The `trustworthiness` of a sample alone differs, because neighbors in the sample are further away. The rank of
    a row is one plus the number of rows that are nearer by more than rounding.

    Neighbors on a map are found with a k-d tree, neighbors in data space by distances to all rows, one batch at a time.

    Args:
        x: returns all rows in data space, in batches; it is called three times.
        maps: positions of all rows on each map, (N, C), with few dimensions.
        queries: numbers of the rows, (Q,).
        num_neighbors: k, less than N / 2.

    >>> x = torch.arange(8.0, dtype=torch.float64).unsqueeze(-1)
    >>> sampled_neighborhoods(lambda: x.split(3), [2 * x], torch.tensor([1, 5]), num_neighbors=2).continuity
    tensor([1., 1.], dtype=torch.float64)
    """
    tree = require("sklearn.neighbors", "tables", "neighbors among many rows").KDTree
    size, k = len(maps[0]), num_neighbors
    trees = [tree(places.numpy()) for places in maps]
    near = torch.cat([_nearest(*each, queries, k) for each in zip(trees, maps, strict=True)], 1)
    at_queries = rows_at(x, queries)
    center = at_queries.nanmean(0)
    at_queries = at_queries - center

    def centered() -> Iterator[Tensor]:
        return (batch.double() - center for batch in x())

    limits = _distances_to(centered(), at_queries, near)
    nearer, nearest = _scanned(centered(), at_queries, limits, queries, k)
    ranks = [*(nearer + 1).split(k, 1), _ranks_on_map(trees[0], maps[0], queries, nearest)]
    scale = 2 / (k * (2 * size - 3 * k - 1))
    *trusted, continuous = (1 - scale * (rank - k).clamp(min=0).sum(1).double() for rank in ranks)
    return Neighborhoods(trusted, continuous)


def rows_at(x: Callable[[], Iterable[Float[Tensor, "datum input"]]], chosen: Int[Tensor, " row"]) -> Tensor:
    """Return the rows at these positions, which must ascend, in float64; all rows are read once.

    >>> rows_at(lambda: torch.arange(6.0).unsqueeze(-1).split(4), torch.tensor([1, 5])).flatten()
    tensor([1., 5.], dtype=torch.float64)
    """
    parts, start = [], 0
    for batch in x():
        first, last = torch.searchsorted(chosen.contiguous(), torch.tensor([start, start + len(batch)]))
        parts.append(batch[chosen[first:last] - start].double())
        start += len(batch)
    return torch.cat(parts)


def _nearest(tree: Any, places: Tensor, queries: Int[Tensor, " query"], count: int) -> Int[Tensor, "query neighbor"]:
    """Return the nearest other rows on a map; if many rows are at one position, some of them."""
    nearest = torch.from_numpy(tree.query(places[queries].numpy(), count + 1, return_distance=False))
    own = nearest == queries.unsqueeze(-1)
    own[~own.any(1), -1] = True
    return nearest[~own].view(len(queries), count)


def _distances_to(
    batches: Iterable[Tensor], at_queries: Float[Tensor, "query input"], near: Int[Tensor, "query neighbor"]
) -> Float[Tensor, "query neighbor"]:
    """Squared distances of the queries to these rows, minus the rounding error of the sums."""
    distances, start = torch.empty_like(near, dtype=torch.float64), 0
    for batch in batches:
        query, place = ((near >= start) & (near < start + len(batch))).nonzero(as_tuple=True)
        pair = at_queries[query].unsqueeze(1), batch[near[query, place] - start].unsqueeze(1)
        squares = sum(row.nan_to_num(0.0).square().sum(-1) for row in pair)
        distances[query, place] = (_distances(*pair).squeeze(-1) - ROUNDING * squares).squeeze(-1)
        start += len(batch)
    return distances


def _ranks_on_map(
    tree: Any, places: Tensor, queries: Int[Tensor, " query"], others: Int[Tensor, "query other"]
) -> Int[Tensor, "query other"]:
    """Ranks of other rows by their distance from each query on a map."""
    radius = (places[others] - places[queries].unsqueeze(1)).double().norm(dim=-1)
    centers = places[queries].repeat_interleave(others.shape[1], 0)
    within = tree.query_radius(centers.numpy(), (radius * (1 - ROUNDING)).flatten().numpy(), count_only=True)
    return torch.where(radius > 0, torch.from_numpy(within).view_as(radius), 1)  # the row itself is counted, too


def _scanned(
    batches: Iterable[Tensor], at_queries: Tensor, limits: Tensor, queries: Tensor, count: int
) -> tuple[Int[Tensor, "query neighbor"], Int[Tensor, "query neighbor"]]:
    """How many other rows are nearer to each query than each of its limits; and the nearest rows."""
    ordered, order = limits.sort(1)
    bins = torch.zeros(len(queries), limits.shape[1] + 1, dtype=torch.int64)
    least = torch.full((len(queries), count), torch.inf, dtype=torch.float64)
    nearest = torch.zeros_like(least, dtype=torch.int64)
    start, at_once = 0, max(1, DISTANCES_AT_ONCE // len(queries))
    for batch in (part for whole in batches for part in whole.split(at_once)):
        distances = _distances(at_queries, batch)
        here = ((queries >= start) & (queries < start + len(batch))).nonzero().squeeze(1)
        distances[here, queries[here] - start] = torch.inf
        place = torch.searchsorted(ordered, distances, right=True)
        bins.scatter_add_(1, place, torch.ones_like(place))
        closest, which = distances.topk(min(count, len(batch)), largest=False)
        least, chosen = torch.cat([least, closest], 1).topk(count, largest=False)
        nearest = torch.cat([nearest, which + start], 1).gather(1, chosen)
        start += len(batch)
    nearer = bins.cumsum(1)[:, :-1]
    return torch.empty_like(nearer).scatter_(1, order, nearer), nearest


def continuity(
    x: Float[Tensor, "datum input"], places: Float[Tensor, "datum grid"], num_neighbors: int = 10
) -> Float[Tensor, " datum"]:
    """Measure how close neighbors in data space are on the map; see `trustworthiness`."""
    return trustworthiness(places, x, num_neighbors)


def _squared_distances(x: Float[Tensor, "datum input"], rows: Tensor) -> Float[Tensor, "row datum"]:
    """Return squared distances from these rows to all rows, and infinity from a row to itself."""
    return _distances(x[rows], x).scatter(1, rows.unsqueeze(-1), torch.inf)


def _distances(x: Float[Tensor, "*batch row input"], y: Float[Tensor, "*batch other input"]) -> Tensor:
    """Return squared distances (..., row, other); the largest float if no cell is present in both rows."""
    if not bool(x.isnan().any() | y.isnan().any()):
        distances = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2) - 2 * x @ y.mT
    else:
        (a, there), (b, present) = ((values.nan_to_num(0.0), (~values.isnan()).double()) for values in (x, y))
        total = a.square() @ present.mT + there @ b.square().mT - 2 * a @ b.mT
        distances = total * (x.shape[-1] / (there @ present.mT))
        distances = distances.nan_to_num(torch.finfo(distances.dtype).max)  # no cell: 0 times infinity
    return distances.clamp(min=0.0)
