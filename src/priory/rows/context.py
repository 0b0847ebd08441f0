"""Rows with a context, for models that condition on it."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from priory._support.tensors import require_tensor
from priory.rows.conversion import RowsLike, as_rows
from priory.rows.protocol import Rows, read_batches


class RowsWithContext(Rows):
    """Rows of data, each with a context c; all other attributes are those of the rows. See `with_context`.

    >>> rows = with_context(torch.zeros(3, 2), torch.eye(3))
    >>> len(rows), rows.context(torch.tensor([1]))
    (3, tensor([[0., 1., 0.]]))
    """

    def __init__(self, rows: Rows, context: Float[Tensor, "datum context"]) -> None:
        require_tensor("context", context)
        if context.ndim != 2 or len(context) != len(rows):
            raise ValueError(
                f"context: expected shape ({len(rows)}, C), one line for each row, got {tuple(context.shape)}"
            )
        if not context.isfinite().all():
            raise ValueError("context: expected finite numbers, got NaN or infinity; leave these rows out")
        self.rows, self._context = rows, context

    def __len__(self) -> int:
        return len(self.rows)

    def __getattr__(self, name: str) -> Any:
        if name == "rows":  # not set yet while the object is unpickled
            raise AttributeError(name)
        return getattr(self.rows, name)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.rows.batch(positions)

    def context(self, positions: Tensor) -> Float[Tensor, "datum context"]:
        """The context of the rows at these positions, (B, C)."""
        return self._context[positions.to(self._context.device)]


def with_context(rows: RowsLike, context: Float[Tensor, "datum context"]) -> RowsWithContext:
    """Attach to rows the context that a conditional model needs.

    Args:
        rows: in any form that `as_rows` reads.
        context: of each row, (N, C); `Conditions.encode` computes it from columns of a table.

    Raises:
        TypeError: the context is not a tensor.
        ValueError: it is not a matrix of finite numbers with one line for each row.

    >>> from priory import Conditions
    >>> conditions = Conditions.from_columns({"class": ["a", "b", "a"]})
    >>> with_context(torch.rand(3, 6), conditions.encode({"class": ["a", "b", "a"]})).batch(torch.tensor([1]))[0].shape
    torch.Size([1, 6])
    """
    return RowsWithContext(as_rows(rows, "rows"), context)


def context_at(rows: Rows, positions: Tensor) -> Tensor | None:
    """The context of the rows at these positions; None if they have none."""
    context = getattr(rows, "context", None)
    return None if context is None else context(positions)


def batches_with_context(rows: Rows, batch_size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Return all batches in order, as values and context (or None), without the numbers of the rows."""
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    for x, _, context in read_with_context(rows, torch.arange(len(rows)).split(batch_size)):
        yield x, context


def read_with_context(rows: Rows, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Return the batches at these positions: values, numbers of the rows, and context or None.

    >>> from priory.rows import as_rows
    >>> rows = as_rows(torch.zeros(3, 2), "rows")
    >>> [context for _, _, context in read_with_context(rows, torch.arange(3).split(2))]
    [None, None]
    """
    chunks = list(chunks)
    for positions, (x, numbers) in zip(chunks, read_batches(rows, chunks), strict=True):
        yield x, numbers, context_at(rows, positions)
