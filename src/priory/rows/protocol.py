"""The row protocol."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor


class Blocks(NamedTuple):
    """Blocks in which rows are stored; each block is read as a whole.

    Attributes:
        bounds: positions where blocks begin, and the number of rows at the end.
        row_bytes: bytes that a row takes in memory.
    """

    bounds: Int[Tensor, " bound"]
    row_bytes: float


@runtime_checkable
class Rows(Protocol):
    """Rows of data that are read in batches, by position or in order.

    A subclass defines `__len__` and `batch`. These attributes are optional:

    - `dynamic_binarization`: if true, the values are probabilities, and training draws new values from Bernoulli(value)
      each time it reads a row;
    - `image_shape`: height and width, if a row is a flattened image;
    - `ids`: names of the rows in results;
    - `columns`: names of the columns, for a model that stores its own;
    - `batch_size`: size of a batch in `fit`, if `fit` gets none;
    - `read(chunks)`: reads many batches, possibly in the background (see `read_batches`);
    - `in_memory`: if true, `fit` looks for NaN before it trains;
    - `blocks` (see `Blocks`): `fit` shuffles rows within windows of blocks, so that few blocks are in memory at a time.

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
        return read_batches(self, torch.arange(len(self)).split(batch_size))


def read_batches(rows: Rows, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches at these positions, one after the other, by `rows.read(chunks)` if it exists.

    >>> from priory.rows import TensorRows
    >>> order = torch.tensor([2, 0, 1])
    >>> [x.flatten().tolist() for x, _ in read_batches(TensorRows(torch.tensor([[0.0], [1.0], [2.0]])), order.split(2))]
    [[2.0, 0.0], [1.0]]
    """
    read = getattr(rows, "read", None)
    return map(rows.batch, chunks) if read is None else read(chunks)
