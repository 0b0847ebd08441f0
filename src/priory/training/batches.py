"""Batches by slicing tensors; their order depends on the seed and the epoch alone."""

import hashlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

# In-memory data up to this size moves to the accelerator once, instead of batch by batch; a small part of any GPU.
RESIDENT_BYTES = 1 << 30


@runtime_checkable
class Source(Protocol):
    """Rows that are read by position; `priory.workbench.data.Rows` is one."""

    def __len__(self) -> int: ...

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The values (B, D) in float32 at these positions, and the rows' numbers in the file they came from."""
        ...


class TensorSource:
    """A tensor (N, D) as a source."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[positions.to(self.x.device)], positions

    def to(self, device: torch.device) -> "TensorSource":
        """On the device if it is small enough."""
        fits = self.x.numel() * self.x.element_size() <= RESIDENT_BYTES
        return TensorSource(self.x.to(device)) if fits else self


def as_source(data: Tensor | Source, name: str) -> Source:
    """The rows behind an argument of `fit`.

    Raises:
        TypeError: it is neither a tensor nor a source.
        ValueError: it is empty, or a tensor of the wrong shape or dtype.
    """
    if isinstance(data, Tensor):
        if data.ndim < 2 or not data.is_floating_point():
            raise ValueError(f"{name}: expected a float tensor (N, D), got {data.dtype} of shape {tuple(data.shape)}")
        data = TensorSource(data.detach().to(torch.float32))
    if not isinstance(data, Source):
        raise TypeError(
            f"{name}: expected a float tensor (N, D), or rows with __len__ and batch(positions), "
            f"got {type(data).__name__}"
        )
    if len(data) == 0:
        raise ValueError(f"{name}: expected at least one row, got none")
    return data


def draws_anew(source: Source) -> bool:
    """Whether the values are means of Bernoulli variables; the rows say so, or the data set that they are a view of."""
    dataset = getattr(source, "dataset", None)
    return bool(getattr(source, "dynamic_binarization", getattr(dataset, "dynamic_binarization", False)))


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2^63) for each tuple of parts; neighboring seeds give unrelated streams."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class ShuffledBatches:
    """Every row once per epoch, in an order drawn for (seed, epoch), the short last batch included.

    With several processes each takes every world_size-th row of the same order; the order is filled up from its
    beginning until all have the same number.

    Args:
        source: the rows.
        batch_size: rows per batch and process.
        seed: what the order depends on, with `epoch`, which the caller sets.
    """

    def __init__(self, source: Source, batch_size: int, seed: int) -> None:
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.rank, self.world_size = 0, 1

    def __len__(self) -> int:
        rows = -(-len(self.source) // self.world_size)
        return -(-rows // self.batch_size)

    def order(self) -> Tensor:
        """This process's positions in this epoch."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", self.epoch))
        order = torch.randperm(len(self.source), generator=generator)
        missing = -len(order) % self.world_size
        return torch.cat([order, order[:missing]])[self.rank :: self.world_size] if self.world_size > 1 else order

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for positions in self.order().split(self.batch_size):
            yield self.source.batch(positions)
