"""Summary of a data set's values: range, integers or not, how many are missing."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from priory.workbench.data.reading.matrices import Matrix, is_sparse, stored_values


@dataclass(frozen=True)
class Summary:
    """Facts about the values of a data set; `low`, `high`, `integers` and `binary` are about the finite ones.

    `density` is the share of non-zeros, `extremes` the share of values that are exactly 0 or 1. With dynamic
    binarization a model sees only 0 and 1, so `binary` is true and the range is 0..1.
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
        """The summary in one or two lines of text."""
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
            text += "; train rows hold means and are binarized anew each time"
        return text


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def summarize(
    matrix: Matrix, image_shape: tuple[int, int] | None = None, dynamic_binarization: bool = False
) -> Summary:
    """Summarize all values in one pass, block by block."""
    size = prod(matrix.shape)
    zeros = size - matrix.nnz if is_sparse(matrix) else 0  # that are not stored
    low, high = (0.0, 0.0) if zeros else (np.inf, -np.inf)
    num_missing = infinite = nonzero = 0
    extremes, integers = zeros, True
    for block in stored_values(matrix):
        finite = block
        if block.dtype.kind == "f":
            num_missing += int(np.isnan(block).sum())
            infinite += int(np.isinf(block).sum())
            finite = block[np.isfinite(block)]
            integers = integers and bool((finite == np.rint(finite)).all())
        nonzero += int(np.count_nonzero(block))
        extremes += int(np.count_nonzero((finite == 0) | (finite == 1)))
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    any_finite = low <= high
    return Summary(
        rows=matrix.shape[0],
        columns=matrix.shape[1],
        low=low if any_finite else float("nan"),
        high=high if any_finite else float("nan"),
        integers=dynamic_binarization or (any_finite and integers),
        binary=dynamic_binarization or (any_finite and extremes == size - num_missing - infinite),
        missing=num_missing,
        sparse=is_sparse(matrix),
        density=nonzero / size if size else 0.0,
        infinite=infinite,
        extremes=extremes / size if size else 0.0,
        image_shape=image_shape,
        dynamic_binarization=dynamic_binarization,
    )
