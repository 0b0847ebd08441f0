"""The training rows that an exemplar prior reads, by reference."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priory.rows import RowsLike, as_rows

ENCODED_AT_ONCE = 2048  # rows


class ExemplarRows:
    """Training rows, and what the encoder reads of them.

    Args:
        rows: in any form that `fit` reads.
        features: from rows to what the encoder reads.
        at_least: how many rows the prior needs.

    Raises:
        ValueError: there are fewer.

    >>> rows = ExemplarRows(torch.eye(3), lambda x: 2 * x, at_least=2)
    >>> rows.features(rows.positions(torch.tensor([2])))
    tensor([[0., 0., 2.]])
    """

    def __init__(self, rows: RowsLike, features: Callable[[Tensor], Tensor], *, at_least: int) -> None:
        self._rows, self._features = as_rows(rows, "rows"), features
        if len(self) < at_least:
            raise ValueError(
                f"rows: expected at least {at_least} for an exemplar prior (a row's own component is left out; "
                f"`exemplars` of the others are a step's), got {len(self)}; give more rows, or take fewer exemplars"
            )
        numbers = torch.cat([numbers for _, numbers in self._rows.batches(ENCODED_AT_ONCE)]).tolist()
        self._positions = {number: position for position, number in enumerate(numbers)}

    def __len__(self) -> int:
        return len(self._rows)

    def positions(self, numbers: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """Positions of rows by their numbers: row numbers of the file, if the rows are part of one.

        Raises:
            ValueError: a number is not one of these rows'.
        """
        for number in numbers.tolist():
            if number not in self._positions:
                raise ValueError(
                    f"numbers: expected those of attached rows, got {number}; attach the rows of the training"
                )
        return torch.tensor([self._positions[number] for number in numbers.tolist()])

    def features(self, positions: Int[Tensor, " row"]) -> Float[Tensor, "row *input"]:
        """What the encoder reads of the rows at these positions."""
        return self._features(self._rows.batch(positions)[0])
