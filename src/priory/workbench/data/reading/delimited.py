"""Tables of text: `.csv` and `.tsv`."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from priory._support.optional import require
from priory.workbench.data.reading.foreign import foreign, open_bytes
from priory.workbench.data.reading.matrices import missing
from priory.workbench.data.reading.table import Table, default_columns

_TEXT = ("UTF-8 text, a line a row", "save the table as CSV in UTF-8, with every quotation mark closed")


@dataclass(frozen=True)
class Layout:
    """Delimiter, header and row names of a delimited file, for the reader and for the writer of copies."""

    delimiter: str
    header_lines: int  # lines to the end of the header; 0 if there is none
    names: tuple[str, ...]  # unique, one a field of a row; the first is '' if the first column holds row names
    bare_index: bool  # R's write.table: the header has no field for the row names
    open_end: bool  # the first row ends with a delimiter

    @property
    def index_column(self) -> bool:
        """Whether the first column holds row names, as pandas and R write them."""
        return self.names[:1] == ("",)


def open_text(path: Path) -> TextIOWrapper:
    """Open a text file, gzipped or not; the caller closes it."""
    zipped = path.name.lower().endswith(".gz")
    return TextIOWrapper(open_bytes(path, zipped=zipped), encoding="utf-8-sig", newline="")


def layout_of(path: Path) -> Layout:
    """Find delimiter, header and row names by the first two rows."""
    with foreign(path.name, *_TEXT), open_text(path) as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        start = list(islice(lines, 2))
    if not start:
        raise ValueError(f"{path.name}: expected a table, got an empty file; save it again")
    head = "".join(line for _, line in start)
    first_line = head.splitlines()[0]
    delimiter = ","
    if ".tsv" in path.name.lower():
        delimiter = "\t"
    elif ";" in first_line and "," not in first_line:  # as spreadsheets write in countries with a decimal comma
        delimiter = ";"
    with foreign(path.name, *_TEXT):
        rows = list(csv.reader(head.splitlines(), delimiter=delimiter, skipinitialspace=True))
    first, second = rows[0], rows[-1]
    open_end = first[-1:] == [""]
    if _is_data(first):
        return Layout(delimiter, 0, default_columns(len(first)), False, open_end)
    bare_index = len(rows) == 2 and len(second) == len(first) + 1
    return Layout(delimiter, start[0][0], _unique(["", *first] if bare_index else first), bare_index, open_end)


def _is_data(fields: list[str]) -> bool:
    """Whether the first row is data: numbers, but not 0, 1, 2, ..., the names that pandas gives columns of an array.

    Cells may be empty, except for the first: a table with row names has no name there.
    """
    if len(fields) > 1 and fields == [str(i) for i in range(len(fields))]:
        return False
    try:
        return fields[:1] != [""] and bool([float(field) for field in fields if field])
    except ValueError:
        return False


def _unique(names: list[str]) -> tuple[str, ...]:
    """Make names unique, as in a, a, b -> a, a.1, b; the first may be empty, which marks row names."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    for i, name in enumerate(names):
        base = name or ("" if i == 0 else f"column_{i}")
        candidate = base
        while candidate in taken:
            counts[base] = counts.get(base, 0) + 1
            candidate = f"{base}.{counts[base]}"
        taken.add(candidate)
        names[i] = candidate
    return tuple(names)


def read_delimited(path: Path, as_written: Collection[str]) -> Table:
    """Read text with a header, or without one if the first row is numbers; a first column without a name holds ids."""
    pandas = require("pandas", "tables", f"reading {path.suffix} files")
    layout = layout_of(path)
    texts = [name for name in layout.names if not name or name in as_written]  # 007 stays 007, and NA is no NaN
    frame = _read_csv(pandas, path, layout, dict.fromkeys(texts, str))
    if not len(frame):
        raise ValueError(f"{path.name}: expected at least one row, got none below the header")
    if missing(frame.iloc[:, -1].to_numpy()).any():  # pandas fills a row with too few fields so
        _require_whole_rows(path, layout)
        _require_closed_rows(path, layout, as_written)
    ids = frame.pop("").to_numpy(dtype=str) if layout.index_column else None
    written = {name: frame[name].to_numpy(dtype=str) for name in texts if name}
    for name, cells in written.items():
        frame[name] = _numbers_if_possible(np.char.strip(cells))
    return Table(frame, ids=ids, written=written)


def _numbers_if_possible(text: np.ndarray) -> np.ndarray:
    """Convert text to int64 or float64 if every cell that is not empty is a number, else leave it.

    >>> _numbers_if_possible(np.array(["1", "2"])), _numbers_if_possible(np.array(["a", "2"]))
    (array([1, 2]), array(['a', '2'], dtype='<U1'))
    """
    filled = ~missing(text)
    try:
        if filled.all():
            return np.array([int(cell) for cell in text], dtype=np.int64)
    except (ValueError, OverflowError):
        pass  # no integers; perhaps real numbers
    try:
        numbers = np.full(len(text), np.nan)
        numbers[filled] = text[filled].astype(np.float64)
    except ValueError:
        return text
    return numbers if filled.any() else text


def _require_whole_rows(path: Path, layout: Layout) -> None:
    """Refuse a row that has fewer fields than the header, which pandas would fill up, or more."""
    expected = len(layout.names)
    line, row = _first_row(path, layout, lambda row: len(row) != expected)
    if not row:
        return
    cure = "correct this line, or put text that holds the delimiter in quotation marks"
    if layout.open_end and len(row) == expected - 1:
        cure = f"correct this line, or remove the {_delimiter(layout)} at the end of the first row"
    raise ValueError(f"{path.name}, line {line}: expected {expected} fields, one a column, got {len(row)}; {cure}")


def _require_closed_rows(path: Path, layout: Layout, as_written: Collection[str]) -> None:
    """Refuse rows that all end with a delimiter, which makes an empty last column.

    If the header does not end with one, the first column would be taken for row names, and the names of all others
    would move by one column. If it does, the last column has neither a name nor values.
    """
    last = layout.names[-1]
    unnamed = layout.open_end and last and last not in as_written
    if not (unnamed or layout.bare_index) or _first_row(path, layout, lambda row: bool(row[-1].strip()))[1]:
        return
    delimiter = _delimiter(layout)
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


def _delimiter(layout: Layout) -> str:
    return "tab" if layout.delimiter == "\t" else f"{layout.delimiter!r}"


def _first_row(path: Path, layout: Layout, fits: Callable[[list[str]], bool]) -> tuple[int, list[str]]:
    """The line where the first row ends that is below the header, not empty, and fits; and that row; else 0, []."""
    with foreign(path.name, *_TEXT), open_text(path) as file:
        rows = csv.reader(file, delimiter=layout.delimiter, skipinitialspace=True)
        for row in rows:
            if rows.line_num > layout.header_lines and "".join(row).strip() and fits(row):
                return rows.line_num, row
    return 0, []


def _read_csv(pandas: Any, path: Path, layout: Layout, converters: dict[str, Any]) -> Any:
    try:
        with foreign(path.name, *_TEXT), warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # it would cut fields off
            return pandas.read_csv(
                path,
                sep=layout.delimiter,
                header=None,
                skiprows=layout.header_lines,  # pandas compares all names of a header with all others
                names=list(layout.names),
                index_col=False,  # else a row with one field too many makes pandas shift all columns
                converters=converters,
                skipinitialspace=True,
                encoding="utf-8-sig",
                low_memory=False,
            )
    except ValueError:
        _require_whole_rows(path, layout)  # names the line, where that is the reason
        raise
