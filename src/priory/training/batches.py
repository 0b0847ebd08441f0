"""Shuffled batches of rows; their order depends on the seed and the epoch alone."""

import hashlib
from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from priory.rows import Blocks, Rows, read_with_context

SHUFFLED_BYTES = 2**27  # of the rows that are shuffled together if no number of them is given


def derived_seed(*parts: object) -> int:
    """Return a seed in [0, 2^63) for these parts; similar parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class ShuffledBatches:
    """Every row once per epoch, in an order drawn for (seed, epoch); the last batch may be shorter.

    Rows that are stored in blocks are shuffled in windows of `shuffle_buffer` rows, see `shuffled_in_windows`; all in
    one if there are no more rows, so that the order is that of rows in memory.

    Each of several processes takes every world_size-th row of the same order. The first rows of the order are repeated
    at its end, so that all processes have the same number of rows. The caller sets `epoch`.
    """

    def __init__(self, rows: Rows, batch_size: int, seed: int, shuffle_buffer: int | None = None) -> None:
        self.rows, self.batch_size, self.shuffle_buffer = rows, batch_size, shuffle_buffer
        self.seed, self.epoch = seed, 0
        self.rank, self.world_size = 0, 1

    def __len__(self) -> int:
        share = -(-len(self.rows) // self.world_size)
        return -(-share // self.batch_size)

    def order(self) -> Tensor:
        """Positions of this process's rows in this epoch."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", self.epoch))
        order = self._shuffled(generator)
        missing = -len(order) % self.world_size
        return torch.cat([order, order[:missing]])[self.rank :: self.world_size] if self.world_size > 1 else order

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
    """Return an order of rows in which few blocks are in use at a time.

    The blocks are shuffled, then cut into windows of at least `number` rows. The rows of each window are shuffled.

    Args:
        bounds: positions where blocks begin, and the number of rows at the end.
        number: rows of a window, at least. The last window may have fewer.
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
