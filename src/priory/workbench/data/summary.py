"""Summary of a data set's values: range, integers or reals, number of missing values."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from priory.workbench.data.reading.matrices import Matrix, is_sparse, stored_values


@dataclass(frozen=True)
class Summary:
    """Facts about the values of a data set; `low`, `high`, `integers` and `binary` describe the finite ones.

    `density` is the share of non-zeros, `extremes` the share of values that are exactly 0 or 1. With dynamic
    binarization a model reads only 0 and 1, so `binary` is true and the range is 0..1.
    """

    rows: int
    columns: int
    low: float
    high: float
    integers: bool
    binary: bool
    missing: int
    sparse: bool
    density: float
    infinite: int = 0
    extremes: float = 0.0
    image_shape: tuple[int, int] | None = None
    dynamic_binarization: bool = False

    def describe(self) -> str:
        """Describe the summary in one or two lines of text."""
        kind = "values 0 and 1" if self.binary else "integers" if self.integers else "real values"
        text = f"{self.rows} rows x {self.columns} columns, {kind}"
        if not self.binary:
            text += f" {_number(self.low)}..{_number(self.high)}"
        if self.image_shape is not None:
            text += f", images {self.image_shape[0]} x {self.image_shape[1]}"
        text += f", {'sparse' if self.sparse else 'dense'}, {self.density:.1%} non-zero"
        text += f"\n{self.missing or 'no'} missing value{'' if self.missing == 1 else 's'}"
        if self.infinite:
            text += f", {self.infinite} infinite"
        if self.dynamic_binarization:
            text += "; training rows are means, binarized anew in each epoch"
        return text


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


class Tally:
    """Counts of values, accumulated block by block into a `Summary`.

    >>> tally = Tally()
    >>> for block in (np.array([[0, 1]]), np.array([[3, 2]])):
    ...     tally.add(block)
    >>> tally.summary((2, 2), is_sparse=False).high
    3.0
    """

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.seen = self.missing = self.infinite = self.nonzero = self.extremes = 0
        self.integers = True

    def add(self, block: np.ndarray) -> None:
        """Count values of any shape; of a sparse matrix, its stored values."""
        finite = block
        if block.dtype.kind == "f":
            self.missing += int(np.isnan(block).sum())
            self.infinite += int(np.isinf(block).sum())
            finite = block[np.isfinite(block)]
            self.integers = self.integers and bool((finite == np.rint(finite)).all())
        self.seen += block.size
        self.nonzero += int(np.count_nonzero(block))
        self.extremes += int(np.count_nonzero((finite == 0) | (finite == 1)))
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    def summary(
        self,
        shape: tuple[int, int],
        *,
        is_sparse: bool,
        image_shape: tuple[int, int] | None = None,
        dynamic_binarization: bool = False,
    ) -> Summary:
        """Return the summary of a matrix of this shape; values that were not counted are zeros."""
        size = prod(shape)
        zeros = size - self.seen
        low, high = (min(self.low, 0.0), max(self.high, 0.0)) if zeros else (self.low, self.high)
        any_finite, extremes = low <= high, self.extremes + zeros
        return Summary(
            rows=shape[0],
            columns=shape[1],
            low=low if any_finite else float("nan"),
            high=high if any_finite else float("nan"),
            integers=dynamic_binarization or (any_finite and self.integers),
            binary=dynamic_binarization or (any_finite and extremes == size - self.missing - self.infinite),
            missing=self.missing,
            sparse=is_sparse,
            density=self.nonzero / size if size else 0.0,
            infinite=self.infinite,
            extremes=extremes / size if size else 0.0,
            image_shape=image_shape,
            dynamic_binarization=dynamic_binarization,
        )


def summarize(
    matrix: Matrix, image_shape: tuple[int, int] | None = None, dynamic_binarization: bool = False
) -> Summary:
    """Summarize all values in one pass, block by block."""
    tally = Tally()
    for block in stored_values(matrix):
        tally.add(block)
    return tally.summary(
        matrix.shape,
        is_sparse=is_sparse(matrix),
        image_shape=image_shape,
        dynamic_binarization=dynamic_binarization,
    )
