"""Check that an argument is a tensor; collect tensors of rows."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor


def require_tensor(argument: str, value: Any) -> None:
    """Raise a TypeError, with advice on how to convert the value, if it is not a tensor.

    >>> require_tensor("x", [1.0])
    Traceback (most recent call last):
    TypeError: x: expected a tensor, got list; convert it: torch.as_tensor(x, dtype=torch.float32)
    """
    if isinstance(value, Tensor):
        return
    cure = f"torch.as_tensor({argument}, dtype=torch.float32)"
    if hasattr(value, "batch"):  # `priory.rows.Rows`
        cure = f"{argument}.batch(torch.arange(len({argument})))[0]"
    elif hasattr(value, "to_numpy"):
        cure = f"torch.as_tensor({argument}.to_numpy(), dtype=torch.float32)"
    raise TypeError(f"{argument}: expected a tensor, got {type(value).__name__}; convert it: {cure}")


class Columns:
    """Tensors with an entry for each row, filled batch by batch.

    They are allocated with the first batch: small results between large temporary blocks would fragment the heap, which
    would then grow as if it kept the blocks.

    >>> columns = Columns(3)
    >>> columns.add([torch.tensor([1, 2])])
    >>> columns.add([torch.tensor([3])])
    >>> columns.all
    [tensor([1, 2, 3])]
    """

    def __init__(self, num_rows: int) -> None:
        self.num_rows, self.done = num_rows, 0
        self.all: list[Tensor] = []

    def add(self, part: Iterable[Tensor]) -> None:
        """Fill in the next rows."""
        part = list(part)
        if not self.all:
            self.all = [column.new_empty(self.num_rows, *column.shape[1:]) for column in part]
        for whole, column in zip(self.all, part, strict=True):
            whole[self.done : self.done + len(column)] = column
        self.done += len(part[0])
