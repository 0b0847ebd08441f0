"""What a data set holds: rows, columns, range, integers or not, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from priory._support.messages import shortened
from priory.workbench.data.reading.matrices import Matrix, implicit_zeros, is_sparse, stored_values

if TYPE_CHECKING:
    from priory.workbench.data.dataset import Dataset

_LISTED_COLUMNS = 5
_TESTS: dict[str, np.ufunc] = {"missing value": np.isnan, "infinite value": np.isinf}
_MEANING = {"missing value": "(NaN or empty cells)", "infinite value": "(or beyond 3.4e38)"}


@dataclass(frozen=True)
class Summary:
    """What the reader found. `low`, `high`, `integers` and `binary` are about the finite values.

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
        span = "" if self.binary else f" {_number(self.low)}..{_number(self.high)}"
        image = "" if self.image_shape is None else f", images {self.image_shape[0]} x {self.image_shape[1]}"
        storage = "sparse" if self.sparse else "dense"
        first = (
            f"{self.rows} rows x {self.columns} columns, {kind}{span}{image}, {storage}, {self.density:.1%} non-zero"
        )
        second = f"{self.missing or 'no'} missing value{'' if self.missing == 1 else 's'}"
        second += f", {self.infinite} infinite" if self.infinite else ""
        second += "; train rows hold means and are binarized anew each time" if self.dynamic_binarization else ""
        return f"{first}\n{second}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def summarize(
    matrix: Matrix, image_shape: tuple[int, int] | None = None, dynamic_binarization: bool = False
) -> Summary:
    """Look at all values once, block by block."""
    size, zeros = prod(matrix.shape), implicit_zeros(matrix)
    low, high = (0.0, 0.0) if zeros else (np.inf, -np.inf)
    missing = infinite = nonzero = 0
    extremes, integers = zeros, True
    for block in stored_values(matrix):
        finite = block
        if block.dtype.kind == "f":
            missing += int(np.isnan(block).sum())
            infinite += int(np.isinf(block).sum())
            finite = block[np.isfinite(block)]
            integers = integers and bool((finite == np.rint(finite)).all())
        nonzero += int(np.count_nonzero(block))
        extremes += int(np.count_nonzero((finite == 0) | (finite == 1)))
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    found = low <= high
    return Summary(
        rows=matrix.shape[0],
        columns=matrix.shape[1],
        low=low if found else float("nan"),
        high=high if found else float("nan"),
        integers=dynamic_binarization or (found and integers),
        binary=dynamic_binarization or (found and extremes == size - missing - infinite),
        missing=missing,
        sparse=is_sparse(matrix),
        density=nonzero / size if size else 0.0,
        infinite=infinite,
        extremes=extremes / size if size else 0.0,
        image_shape=image_shape,
        dynamic_binarization=dynamic_binarization,
    )


def require_complete(dataset: Dataset) -> None:
    """Raise a ValueError where values are missing or infinite; it says how many, where, and what to do."""
    _require_none(dataset, ("missing value", "infinite value"), "fill them in")


def require_finite(dataset: Dataset) -> None:
    """Raise a ValueError where values are infinite, but not where they are missing."""
    _require_none(dataset, ("infinite value",), "leave these cells empty")


def _require_none(dataset: Dataset, kinds: tuple[str, ...], cure: str) -> None:
    if dataset.x.dtype.kind != "f":
        return
    for what in kinds:
        test = _TESTS[what]
        counts = _counts_by_column(dataset.x, test)
        bad = np.flatnonzero(counts)
        if not bad.size:
            continue
        names = ", ".join(f"{shortened(dataset.columns[i])!r} ({counts[i]})" for i in bad[:_LISTED_COLUMNS])
        more = ", ..." if bad.size > _LISTED_COLUMNS else ""
        number = f"{counts.sum()} {what}{'s' if counts.sum() > 1 else ''} {_MEANING[what]}"
        row = _first_row(dataset.x, test)
        raise ValueError(
            f"{dataset.origin}: expected a finite number in every cell, got {number} in {bad.size} of {len(counts)} "
            f"columns: {names}{more}, the first in row {row + 1} (id {shortened(str(dataset.ids[row]))!r}); "
            f"{cure}, remove these rows, or leave the columns out with --drop"
        )


def _first_row(matrix: Matrix, test: np.ufunc) -> int:
    """The first row with such a value, counted from 0."""
    if is_sparse(matrix):
        return int(np.searchsorted(matrix.indptr, np.flatnonzero(test(matrix.data))[0], side="right")) - 1
    start = 0
    for block in stored_values(matrix):
        rows = np.flatnonzero(test(block).any(axis=1))
        if rows.size:
            return start + int(rows[0])
        start += len(block)
    raise AssertionError("no such value")


def _counts_by_column(matrix: Matrix, test: np.ufunc) -> np.ndarray:
    if is_sparse(matrix):
        return np.bincount(matrix.indices[test(matrix.data)], minlength=matrix.shape[1])
    counts = np.zeros(matrix.shape[1], dtype=np.int64)
    for block in stored_values(matrix):
        counts += test(block).sum(axis=0)
    return counts
