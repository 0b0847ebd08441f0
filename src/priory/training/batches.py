"""Shuffled batches of rows; their order depends on the seed and the epoch alone."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from priory.rows import Rows, read_with_context


def derived_seed(*parts: object) -> int:
    """Return a seed in [0, 2^63) for these parts; similar parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class ShuffledBatches:
    """Every row once per epoch, in an order drawn for (seed, epoch); the last batch may be shorter.

    Each of several processes takes every world_size-th row of the same order. The first rows of the order are repeated
    at its end, so that all processes have the same number of rows. The caller sets `epoch`.
    """

    def __init__(self, rows: Rows, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.seed, self.epoch = seed, 0
        self.rank, self.world_size = 0, 1

    def __len__(self) -> int:
        share = -(-len(self.rows) // self.world_size)
        return -(-share // self.batch_size)

    def order(self) -> Tensor:
        """Positions of this process's rows in this epoch."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", self.epoch))
        order = torch.randperm(len(self.rows), generator=generator)
        missing = -len(order) % self.world_size
        return torch.cat([order, order[:missing]])[self.rank :: self.world_size] if self.world_size > 1 else order

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        yield from read_with_context(self.rows, self.order().split(self.batch_size))
