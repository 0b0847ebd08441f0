"""The one row protocol: `fit`, `refit`, `evaluate`, `log_likelihood` and maps read their data through it."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Shaped
from torch import Tensor


@runtime_checkable
class Rows(Protocol):
    """Rows of data that are read in batches, by position or in order.

    A class that inherits from this one defines `__len__` and `batch`. If it has a true attribute
    `dynamic_binarization`, its values are probabilities: training draws them anew from Bernoulli(value) each time it
    reads a row.

    >>> class Squares(Rows):
    ...     def __len__(self):
    ...         return 5
    ...
    ...     def batch(self, positions):
    ...         return positions.unsqueeze(-1) ** 2.0, positions
    >>> [x.flatten().tolist() for x, _ in Squares().batches(3)]
    [[0.0, 1.0, 4.0], [9.0, 16.0]]
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values (B, *input) at positions from 0 to N - 1, and the numbers of these rows in their file."""

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Return all batches in order, as `batch` gives them; the last one may be shorter."""
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        return (self.batch(positions) for positions in torch.arange(len(self)).split(batch_size))


class TensorRows(Rows):
    """The rows of a tensor (N, D) or (N, *input); a row's number is its position."""

    def __init__(self, x: Shaped[Tensor, "datum *input"]) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[positions.to(self.x.device)], positions

    def to(self, device: torch.device) -> "TensorRows":
        """Return the same rows on another device."""
        return TensorRows(self.x.to(device))


def as_rows(data: Tensor | Rows, argument: str) -> Rows:
    """Return the rows of an argument that is a float tensor (N, D) or (N, *input) or has the methods of `Rows`.

    Raises:
        TypeError: the argument is of another type.
        ValueError: it has no rows, or is a tensor of the wrong shape or dtype.
    """
    if isinstance(data, Tensor):
        if data.ndim < 2 or not data.is_floating_point():
            raise ValueError(
                f"{argument}: expected a float tensor (N, D), got {data.dtype} of shape {tuple(data.shape)}"
            )
        data = TensorRows(data.detach())
    if not isinstance(data, Rows):
        raise TypeError(
            f"{argument}: expected a float tensor (N, D), or rows with __len__, batch(positions) and "
            f"batches(batch_size), got {type(data).__name__}; see priory.rows.Rows"
        )
    if len(data) == 0:
        raise ValueError(f"{argument}: expected at least one row, got none")
    return data
