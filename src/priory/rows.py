"""Where rows come from."""

from collections.abc import Iterator
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class RowSource(Protocol):
    """Rows that can be read in order in batches, as those of `load_dataset` or what `TensorRows` makes of a tensor."""

    def __len__(self) -> int: ...

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]: ...


class TensorRows:
    """A tensor (N, D) as a source of rows."""

    def __init__(self, x: Float[Tensor, "datum input"]) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(rows, their indices), in order."""
        index = torch.arange(len(self.x))
        yield from zip(self.x.split(batch_size), index.split(batch_size), strict=True)


def device_of(module: torch.nn.Module) -> torch.device:
    """Where the module's first parameter lies."""
    return next(module.parameters()).device
