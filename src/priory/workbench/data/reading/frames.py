"""Conversion of a pandas DataFrame to a matrix of numbers."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from priory._support.messages import shortened
from priory.workbench.data.reading.causes import cause_and_cure, missing_options

_SHOWN_COLUMNS = 5
_TOO_LARGE = 2.0**63  # larger integers do not fit into 64 bits; they are refused, not rounded to real numbers
_SHOWN_DIGITS = 24
_MOST_KINDS = 50  # a column with at most so many different texts is probably a label
_MOST_WORDS = 3  # at most so many different texts among numbers probably mark missing cells


def is_frame(matrix: Any) -> bool:
    """Return whether it is a DataFrame, without importing pandas, which is optional."""
    return hasattr(matrix, "iloc")


def numbers_of(frame: Any, columns: Sequence[str], where: str, decimal: str | None) -> np.ndarray:
    """Return the values of a DataFrame with these columns as numbers; missing values become NaN.

    Messages call the data `where`; `decimal` is the decimal mark of a table of text, None for another format.
    """
    from pandas.api.types import is_numeric_dtype

    others = [i for i, dtype in enumerate(frame.dtypes) if not is_numeric_dtype(dtype) or dtype.kind == "c"]
    if others:
        has_fractions = any(
            dtype.kind == "f" and (frame.iloc[:, i] % 1 > 0).any() for i, dtype in enumerate(frame.dtypes)
        )
        options = [] if decimal is None else ["--missing"] if has_fractions else ["--missing", "--decimal"]
        bad_columns = [_Column.of(columns[i], frame.iloc[:, i], decimal, options) for i in others]
        rest = frame.iloc[:1, sorted({*range(frame.shape[1])} - {*others})]
        is_extra = all(each.only_first_row for each in bad_columns) and bool(rest.isna().to_numpy().all())
        raise ValueError(
            f"{where}: expected numbers, got other values: {_described(bad_columns, decimal is not None, is_extra)}"
        )
    kinds = {np.dtype(getattr(dtype, "numpy_dtype", dtype)).kind for dtype in frame.dtypes}
    nullable = any(hasattr(dtype, "numpy_dtype") for dtype in frame.dtypes)  # pandas' own types hold NA
    return frame.to_numpy(dtype=np.float64, na_value=np.nan) if nullable or kinds > {"b"} else frame.to_numpy()


@dataclass(frozen=True)
class _Column:
    """A column with values that are not numbers."""

    name: str
    example: str  # a value that is not a number, and its row
    texts: list[str]  # the distinct values that are not numbers
    only_first_row: bool  # all other values are numbers
    numbers: int
    filled: int
    cause: str

    @classmethod
    def of(cls, name: str, column: Any, decimal: str | None, options: Collection[str]) -> _Column:
        import pandas

        cells = column.astype(str)
        if decimal == ",":
            cells = cells.str.replace(".", "x", regex=False).str.replace(",", ".", regex=False)
        numbers = pandas.to_numeric(cells, errors="coerce")
        is_other = (numbers.isna() & column.notna()).to_numpy()
        texts = list(dict.fromkeys(map(str, column[is_other])))
        filled = int(column.notna().sum())
        return cls(
            name=name,
            example=_example(column, numbers, is_other),
            texts=texts,
            only_first_row=filled > 1 and is_other.sum() == 1 and bool(is_other[0]),
            numbers=filled - int(is_other.sum()),
            filled=filled,
            cause=cause_and_cure(texts, options),
        )

    @property
    def proposal(self) -> str:
        """The option that probably fits the column."""
        option = "--labels" if len(self.texts) <= min(_MOST_KINDS, self.filled / 2) else "--drop"
        return f"{'--ids' if len(self.texts) == self.filled > 1 else option} {shlex.quote(self.name)}"

    @property
    def holds_numbers(self) -> bool:
        return 2 * self.numbers >= self.filled


def _example(column: Any, numbers: Any, is_other: np.ndarray) -> str:
    """Describe a value that is not a number, and its row."""
    if not is_other.any() and (numbers.abs() >= _TOO_LARGE).any():  # pandas keeps such integers as text
        row = int((numbers.abs() >= _TOO_LARGE).to_numpy().argmax())
        text = shortened(str(column.iloc[row]), _SHOWN_DIGITS)
        return (
            f"{text!r} in row {row + 1}, a whole number of more than 64 bits: written as {numbers.iloc[row]:g} it fits"
        )
    if not is_other.any():  # such as dates, or only empty cells
        return f"values of type {column.dtype}"
    row = int(is_other.argmax())
    share = f"({is_other.sum()} of {len(column)} values are not numbers)"
    return f"{shortened(str(column.iloc[row]))!r} in row {row + 1} {share}"


def _described(columns: Sequence[_Column], is_text: bool, is_extra: bool) -> str:
    """Describe the first columns with causes and cures; `is_extra`: the first row is a second header."""
    more = f"; ... ({len(columns)} columns)" if len(columns) > _SHOWN_COLUMNS else ""
    shown = [(f"{shortened(each.name)!r} holds {each.example}", each.cause) for each in columns[:_SHOWN_COLUMNS]]
    others = [each for each in columns if not each.cause]
    if others and is_extra:
        cure = "The first row is probably a line of units, or a second line of names: remove it"
        return f"{'; '.join(example for example, _ in shown)}{more}. {cure}"
    examples = "; ".join(f"{example}{cause and ', '}{cause}" for example, cause in shown) + more
    return f"{examples}. {_cures(others, is_text)}" if others else examples


def _cures(columns: Sequence[_Column], is_text: bool) -> str:
    proposals: dict[str, None] = {}
    for each in columns:
        if not each.holds_numbers and each.texts:
            is_second = each.proposal.startswith("--ids") and any(other.startswith("--ids") for other in proposals)
            proposals[f"--drop {shlex.quote(each.name)}" if is_second else each.proposal] = None
        elif is_text and 0 < len(each.texts) <= _MOST_WORDS:
            proposals[missing_options(each.texts)] = None
    likely = f"; for this file perhaps {shortened(' '.join(proposals), 400)}" if proposals else ""
    return (
        "Correct them, or declare these columns: --labels COLUMN for labels, --ids COLUMN for row names, "
        f"--drop COLUMN to leave one out{likely}"
    )
