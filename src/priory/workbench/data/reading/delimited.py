"""Tables of text: `.csv` and `.tsv`."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from priory._support.cells import as_text, missing
from priory._support.optional import require
from priory.workbench.data.reading.header import GAPS
from priory.workbench.data.reading.layout import Layout, layout_of, open_text, reading_text
from priory.workbench.data.reading.table import Table
from priory.workbench.data.reading.text_options import TextOptions

_COMMA = re.compile(r"\s*[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?\s*")
_WHOLE = re.compile(r"\s*[+-]?\d+([eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*")


def read_delimited(path: Path, as_written: Collection[str], options: TextOptions | None = None) -> Table:
    """Read a table of text with or without a header; a first column without a name contains ids."""
    options = options or TextOptions()
    pandas = require("pandas", "tables", f"reading {path.suffix} files")
    layout = layout_of(path, options)
    texts = [
        name for name in layout.names if not name or name in as_written
    ]  # as text: 007 stays 007, and NA is not NaN
    frame = _read_csv(pandas, path, layout, texts, options, options.decimal or ".")
    if not len(frame):
        raise ValueError(f"{path.name}: expected at least one row, got none below the header")
    decimal, notes = options.decimal or ".", layout.notes
    if options.decimal is None and layout.delimiter != "," and _has_decimal_commas(frame, layout.delimiter, texts):
        decimal, notes = ",", (*notes, "decimal commas (if they are not: --decimal .)")
        frame = _read_csv(pandas, path, layout, texts, options, decimal)
    if missing(frame.iloc[:, -1].to_numpy()).any():  # pandas fills up a row with too few fields
        _require_whole_rows(path, layout)
        _require_closed_rows(path, layout, as_written)
    ids = as_text(frame.pop("")) if layout.index_column else None
    written = {name: as_text(frame[name]) for name in texts if name}
    for name, cells in written.items():
        frame[name] = _numbers_if_possible(_without(cells, options.missing), decimal)
    return Table(frame, ids=ids, written=written, notes=notes, decimal=decimal)


def _without(text: np.ndarray, gaps: Collection[str]) -> np.ndarray:
    """Strip spaces, and replace the words for a missing cell by ''."""
    text = np.char.strip(text)
    return np.where(np.isin(text, list(gaps)), "", text)


def _has_decimal_commas(frame: Any, delimiter: str, texts: Collection[str]) -> bool:
    """Return whether some columns are numbers only with a decimal comma, and none has a decimal point."""
    columns = [frame[name] for name in frame.columns if name not in texts]
    commas = [cell for column in columns if column.dtype.kind not in "iufb" for cell in _comma_cells(column)]
    if not commas or (delimiter != ";" and all(map(_THOUSANDS.fullmatch, commas))):
        return False
    return not any(column.dtype.kind == "f" and (column % 1 > 0).any() for column in columns)


def _comma_cells(column: Any) -> list[str]:
    """Return the cells with a comma if all cells are numbers with decimal commas, whole numbers or missing; else []."""
    cells = set(as_text(column).tolist())
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    return commas if all(_WHOLE.fullmatch(cell) or cell.strip() in GAPS for cell in cells.difference(commas)) else []


def _numbers_if_possible(text: np.ndarray, decimal: str = ".") -> np.ndarray:
    """Convert text to int64 or float64 if every non-empty cell is a number; otherwise return it unchanged.

    >>> _numbers_if_possible(np.array(["1", "2"])), _numbers_if_possible(np.array(["a", "2"]))
    (array([1, 2]), array(['a', '2'], dtype='<U1'))
    """
    filled = ~missing(text)
    cells = np.char.replace(text, decimal, ".")
    try:
        if filled.all():
            return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        pass  # no integers; perhaps real numbers
    try:
        numbers = np.full(len(text), np.nan)
        numbers[filled] = cells[filled].astype(np.float64)
    except ValueError:
        return text
    return numbers if filled.any() else text


def _require_whole_rows(path: Path, layout: Layout) -> None:
    """Refuse a row with more fields than the header, or with fewer, which pandas would fill up."""
    expected = len(layout.names)
    line, row = _first_row(path, layout, lambda row: len(row) != expected)
    if not row:
        return
    cure = "correct this line, or put text with the delimiter in quotation marks"
    if row[0].startswith("#"):
        cure = "remove this line, which looks like a comment"
    if layout.open_end and len(row) == expected - 1:
        cure = f"correct this line, or remove the {layout.shown_delimiter} at the end of the first row"
    raise ValueError(f"{path.name}, line {line}: expected {expected} fields, one a column, got {len(row)}; {cure}")


def _require_closed_rows(path: Path, layout: Layout, as_written: Collection[str]) -> None:
    """Refuse rows that all end with a delimiter, which makes an empty last column.

    If the header does not end with a delimiter too, the first column would become row names, and all other names would
    move by one column. If it does, the last column has neither a name nor values.
    """
    last = layout.names[-1]
    unnamed = layout.open_end and last and last not in as_written
    if not (unnamed or layout.bare_index) or _first_row(path, layout, lambda row: bool(row[-1].strip()))[1]:
        return
    delimiter = layout.shown_delimiter
    if layout.open_end:
        raise ValueError(
            f"{path.name}: expected a last column with values, got rows that each end with a {delimiter}; remove it "
            f"from the end of every line, the first one too, or leave the empty column out with --drop {last}"
        )
    raise ValueError(
        f"{path.name}: expected as many fields in the header as in a row, got rows that each end with a {delimiter} "
        "that the header does not have; remove it from the ends of the rows, or, if the first column holds row names, "
        f"begin the header with a {delimiter}"
    )


def _first_row(path: Path, layout: Layout, fits: Callable[[list[str]], bool]) -> tuple[int, list[str]]:
    """Find the first non-empty row below the header that `fits`; return its last line and the row, or 0 and []."""
    with reading_text(path), open_text(path, layout.encoding, layout.lines_before_data) as file:
        rows = csv.reader(file, delimiter=layout.delimiter, skipinitialspace=True)
        for row in rows:
            if "".join(row).strip() and fits(row):
                return layout.lines_before_data + rows.line_num, row
    return 0, []


def _read_csv(
    pandas: Any, path: Path, layout: Layout, texts: Collection[str], options: TextOptions, decimal: str
) -> Any:
    try:
        with (
            reading_text(path),
            open_text(path, layout.encoding, layout.lines_before_data) as file,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # pandas would drop fields with this warning
            return pandas.read_csv(
                file,
                sep=layout.delimiter,
                header=None,  # pandas is slow with many names: it compares all pairs
                names=list(layout.names),
                index_col=False,  # otherwise pandas shifts all columns if a row has one field too many
                converters=dict.fromkeys(texts, str.encode),  # of text, pandas 3 would read NA as missing
                na_values=list(options.missing),
                decimal=decimal,
                skipinitialspace=True,
                low_memory=False,
            )
    except ValueError:
        _require_whole_rows(path, layout)  # if that is the reason, its message has the line
        raise
