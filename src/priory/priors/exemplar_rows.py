"""The training rows that an exemplar prior refers to."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priory.rows import RowsLike, as_rows

ENCODED_AT_ONCE = 2048  # rows


class ExemplarRows:
    """Training rows, and the features of them that the encoder reads.

    Args:
        rows: in any form that `fit` reads.
        features: from rows to the encoder's input.
        at_least: smallest number of rows.

    Raises:
        ValueError: there are fewer rows.

    >>> rows = ExemplarRows(torch.eye(3), lambda x: 2 * x, at_least=2)
    >>> rows.features(rows.positions(torch.tensor([2])))
    tensor([[0., 0., 2.]])
    """

    def __init__(self, rows: RowsLike, features: Callable[[Tensor], Tensor], *, at_least: int) -> None:
        self._rows, self._features = as_rows(rows, "rows"), features
        if len(self) < at_least:
            raise ValueError(
                f"rows: expected at least {at_least} for an exemplar prior (each row's own component is left out, and "
                f"a step uses `exemplars` of the others), got {len(self)}; give more rows, or use fewer exemplars"
            )
        numbers = torch.cat([numbers for _, numbers in self._rows.batches(ENCODED_AT_ONCE)]).tolist()
        self._positions = {number: position for position, number in enumerate(numbers)}

    def __len__(self) -> int:
        return len(self._rows)

    def positions(self, numbers: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """Return the positions of rows, given their row numbers in the file if the rows are part of one.

        Raises:
            ValueError: a number does not belong to these rows.
        """
        for number in numbers.tolist():
            if number not in self._positions:
                raise ValueError(f"numbers: expected numbers of attached rows, got {number}; attach the training rows")
        return torch.tensor([self._positions[number] for number in numbers.tolist()])

    def features(self, positions: Int[Tensor, " row"]) -> Float[Tensor, "row *input"]:
        """Return the encoder's input for the rows at these positions."""
        return self._features(self._rows.batch(positions)[0])
