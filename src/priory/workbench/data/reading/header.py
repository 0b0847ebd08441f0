"""Decide whether the first line of a text table contains names of columns or is a row of data."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence, Set

import numpy as np

# Usual content of a cell without a value. In the first line it does not indicate a name.
GAPS = frozenset(
    ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A", "?", "-", "--", ".", "*")
)

_ROWS_FOR_A_RANGE = 5  # fewer rows do not show the range of a column
_FACTOR_WITHOUT_A_RANGE = 30  # with fewer rows: a value is far from those below it if it is so many times larger
_ROWS_FOR_KINDS = 20
_YEARS = (1800, 2100)

Row = Sequence[str]
Number = Callable[[str], float | None]
Numbers = np.ndarray  # one a column; NaN for a gap


def to_number(cell: str, comma: bool = False, gaps: Set[str] = GAPS) -> float | None:
    """Return the number in a cell, NaN if it is missing, None for text; with `comma`, 1,5 is a number too.

    >>> to_number("1,5", comma=True), to_number("1,5"), to_number("?")
    (1.5, None, nan)
    """
    text = cell.strip()
    if text in gaps:
        return math.nan
    try:
        return float(text.replace(",", ".", 1) if comma else text)
    except ValueError:
        return None


def all_numbers(fields: Row, number: Number) -> bool:
    """Return whether a line consists of numbers and missing cells, and its first field is not empty."""
    return fields[0] != "" and _is_numeric(fields, number)


def _is_numeric(cells: Row, number: Number) -> bool:
    numbers = [number(cell) for cell in cells]
    return None not in numbers and any(value == value for value in numbers)  # NaN differs from itself


def holds_names(first: Row, below: Sequence[Row], number: Number) -> bool | None:
    """Compare the first line with the lines below, field by field; None if both readings are plausible.

    Text above numbers is a name. Numbers above numbers are names if they form a series, such as wavelengths, and the
    lines below do not, or if each lies far from all values of its column.

    >>> holds_names(["5.1", "3.5", "red"], [["4.9", "3.0", "blue"]], to_number)
    False
    >>> holds_names(["1100", "1102", "1104", "kind"], [["0.2", "0.3", "0.1", "blue"]], to_number)
    True
    """
    if len(first) > 1 and list(first) == [str(i) for i in range(len(first))]:
        return True  # pandas gives the columns of an array these names
    rows = [row for row in below if len(row) == len(first)]
    if not rows:  # R's write.table writes no name above the row names
        rows = [row[1:] for row in below if len(row) == len(first) + 1]
        if len(rows) > 1 and all(number(row[0]) is None for row in below):
            return True
    columns = list(zip(*rows, strict=True))
    numeric = [i for i, column in enumerate(columns) if _is_numeric(column, number)]
    if not numeric:
        return not all_numbers(first, number)
    texts = [first[i] for i in numeric if number(first[i]) is None]
    if any(map(_is_name, texts)) or len(texts) == len(numeric):
        return True
    rest = [(first[i], columns[i]) for i in sorted({*range(len(first))} - {*numeric})]
    if any(field and field in column for field, column in rest):
        return False
    filled = [i for i in numeric if number(first[i]) is not None]
    values = np.array([number(first[i]) for i in filled], dtype=np.float64)
    table = np.array([list(map(number, columns[i])) for i in filled], dtype=np.float64).T
    with np.errstate(invalid="ignore", over="ignore"):  # infinite numbers
        if first[0] == "":  # no name above the row names, or a missing cell in the first row
            return True if len(rows) < _ROWS_FOR_A_RANGE or not _inside(values, table) else None
        if np.isnan(values).any():
            return False  # names are not missing
        return _numbers_are_names(values, table, any(field and _only_kinds(column) for field, column in rest))


def _is_name(text: str) -> bool:
    """Return whether text looks like a name, and not like a number in another form, such as <0.05."""
    return bool(re.search(r"[^\W\d_]", text)) and not re.match(
        r"\s*[<>≤≥~±+\-\u2212]?\s*[\d.,]*\d[\d.,]*([DdEe][+-]?\d+)?\s*$", text
    )


def _only_kinds(column: Row) -> bool:
    """Return whether every text of a column occurs at least twice; if so, a new text is probably no category."""
    return len(column) >= _ROWS_FOR_KINDS and min(Counter(column).values()) > 1


def _numbers_are_names(values: Numbers, rows: np.ndarray, novel: bool) -> bool | None:
    """`holds_names` for numbers above columns of numbers, (N, columns); `novel`: another field has a text of no row."""
    inside, far = _inside(values, rows), _far(values, rows)
    is_even = _is_even(values) and not any(map(_is_even, rows))
    is_sorted = _is_sorted(values) and not any(map(_is_sorted, rows))
    years = _are_years(values) and not all(map(_are_years, rows))
    size = len(values)
    if (
        (is_even and (size >= 8 or (size >= 5 and not inside)))
        or (is_sorted and size >= 8 and not inside)
        or (years and size >= 3)
        or (far and (novel or (size >= 3 and (is_even or len(rows) >= _ROWS_FOR_A_RANGE))))
        or (novel and is_even)
    ):
        return True
    is_series = (is_even and (size >= 5 or not inside)) or (is_sorted and (size >= 8 or not inside))
    return None if far or novel or years or is_series else False


def _inside(values: Numbers, rows: np.ndarray) -> bool:
    """Return whether each value lies in the range of its column."""
    return bool(((np.nanmin(rows, axis=0) <= values) & (values <= np.nanmax(rows, axis=0)) | np.isnan(values)).all())


def _far(values: Numbers, rows: np.ndarray) -> bool:
    """Return whether each value lies farther from its column's range than the range is wide."""
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    spread = high - low if len(rows) >= _ROWS_FOR_A_RANGE else _FACTOR_WITHOUT_A_RANGE * np.maximum(abs(low), abs(high))
    return bool((np.maximum(low - values, values - high) > spread).all())


def _is_even(values: Numbers) -> bool:
    """Return whether numbers form an arithmetic series of at least three members."""
    steps = np.diff(values)
    return len(steps) >= 2 and steps[0] != 0 and bool(np.allclose(steps, steps[0], rtol=1e-6, atol=0))


def _are_years(values: Numbers) -> bool:
    """Return whether numbers are distinct years in ascending order."""
    whole = (values == np.rint(values)) & (values >= _YEARS[0]) & (values <= _YEARS[1])
    return len(values) >= 2 and bool(whole.all() and (np.diff(values) > 0).all())


def _is_sorted(values: Numbers) -> bool:
    """Return whether at least five numbers increase strictly, or decrease strictly."""
    steps = np.diff(values)
    return len(steps) >= 4 and bool((steps > 0).all() or (steps < 0).all())
