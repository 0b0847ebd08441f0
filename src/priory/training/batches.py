"""Shuffled batches of rows; their order depends on the seed and the epoch alone."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priory.rows import Blocks, Rows, read_with_context

SHUFFLED_BYTES = 2**27  # size of the rows that are shuffled together, if `shuffle_buffer` is None


def derived_seed(*parts: object) -> int:
    """Return a seed in [0, 2^63) for these parts; similar parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Share(NamedTuple):
    """One process's share of the rows of a step. Repeated rows at the end of its batch do not count.

    >>> values = torch.tensor([1.0, 2.0, 6.0])
    >>> shares = [Share(own=2, total=3, processes=2), Share(own=1, total=3, processes=2)]
    >>> means = [share.counted(part).mean() for share, part in zip(shares, values.split(2), strict=True)]
    >>> sum(share.weight * mean for share, mean in zip(shares, means, strict=True)) / 2 == values.mean()
    tensor(True)
    """

    own: int  # rows that count: the first ones of this process's batch
    total: int  # rows of the step on all processes
    processes: int = 1

    @property
    def weight(self) -> float:
        """Weight of this process's mean: the average of the weighted means over processes is the mean over all rows."""
        return self.own * self.processes / self.total

    def counted(self, values: Float[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Return the values of the rows that count; if there is none, one value, whose weight is zero."""
        return values if self.own == len(values) else values[: max(self.own, 1)]

    def mean(self, values: Float[Tensor, " row"]) -> Float[Tensor, ""]:
        """Return the mean over the rows of all processes, without a gradient."""
        mean = self.counted(values.detach()).mean()
        if self.processes == 1:
            return mean
        mean = mean * (self.own / self.total)
        torch.distributed.all_reduce(mean)
        return mean


def rows_of_process(positions: Tensor, rank: int, world_size: int) -> Tensor:
    """Return every world_size-th position; repeat the first ones, so that all processes get equally many.

    >>> [rows_of_process(torch.arange(5), rank, world_size=2).tolist() for rank in (0, 1)]
    [[0, 2, 4], [1, 3, 0]]
    """
    each = -(-len(positions) // world_size)
    return positions[torch.arange(rank, each * world_size, world_size) % len(positions)]


def own_rows(number: int, rank: int, world_size: int) -> int:
    """Return how many rows a process gets of `number` rows, without repetitions.

    >>> [own_rows(5, rank, world_size=2) for rank in (0, 1)]
    [3, 2]
    """
    return len(range(rank, number, world_size))


class ShuffledBatches:
    """Batches with every row once per epoch, in an order drawn for (seed, epoch); the last batch may be shorter.

    Rows that are stored in blocks are shuffled in windows of `shuffle_buffer` rows (see `shuffled_in_windows`). If one
    window holds all rows, their order is the same as for rows in memory.

    Each of several processes takes every world_size-th row of the same order, so their batches together are the batch
    of one process with a batch size of world_size * batch_size. The caller sets `epoch`.
    """

    def __init__(self, rows: Rows, batch_size: int, seed: int, shuffle_buffer: int | None = None) -> None:
        self.rows, self.batch_size, self.shuffle_buffer = rows, batch_size, shuffle_buffer
        self.seed, self.epoch = seed, 0
        self.rank, self.world_size = 0, 1

    def __len__(self) -> int:
        share = -(-len(self.rows) // self.world_size)
        return -(-share // self.batch_size)

    def order(self) -> Tensor:
        """Return the positions of this process's rows in this epoch."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", self.epoch))
        return rows_of_process(self._shuffled(generator), self.rank, self.world_size)

    def share(self, batch: int) -> Share:
        """Return this process's share of a batch. Shares differ if the rows cannot be divided equally."""
        together = self.batch_size * self.world_size
        total = min(together, len(self.rows) - batch * together)
        return Share(own_rows(total, self.rank, self.world_size), total, self.world_size)

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        blocks: Blocks | None = getattr(self.rows, "blocks", None)
        if blocks is not None:
            number = self.shuffle_buffer or max(1, int(SHUFFLED_BYTES / blocks.row_bytes))
            if number < len(self.rows):
                return shuffled_in_windows(blocks.bounds, number, generator)
        return torch.randperm(len(self.rows), generator=generator)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        yield from read_with_context(self.rows, self.order().split(self.batch_size))


def shuffled_in_windows(bounds: Int[Tensor, " bound"], number: int, generator: torch.Generator) -> Int[Tensor, " row"]:
    """Return a shuffled order of rows that uses few blocks at a time.

    The blocks are shuffled, then cut into windows of at least `number` rows. The rows of each window are shuffled.

    Args:
        bounds: first position of each block, then the number of rows.
        number: smallest number of rows in a window; the last window may have fewer.
        generator: draws both orders.

    >>> shuffled_in_windows(torch.tensor([0, 3, 4, 8]), 4, torch.Generator().manual_seed(0)).tolist()
    [5, 4, 7, 6, 3, 2, 0, 1]
    """
    order, start, window = torch.empty(int(bounds[-1]), dtype=torch.int64), 0, []
    blocks = torch.randperm(len(bounds) - 1, generator=generator).tolist()
    for i, block in enumerate(blocks, 1):
        window.append(torch.arange(int(bounds[block]), int(bounds[block + 1])))
        if i == len(blocks) or sum(map(len, window)) >= number:
            rows = torch.cat(window)
            order[start : start + len(rows)] = rows[torch.randperm(len(rows), generator=generator)]
            start, window = start + len(rows), []
    return order
