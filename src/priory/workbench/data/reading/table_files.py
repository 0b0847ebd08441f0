"""Text and parquet files with named columns: `.csv`, `.tsv` and `.parquet`."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from priory._support.memory import available_memory, readable, require_memory
from priory._support.messages import shortened
from priory._support.optional import require
from priory.workbench.data.reading.arrays import FEWER
from priory.workbench.data.reading.foreign import foreign, open_bytes
from priory.workbench.data.reading.table import (
    Claims,
    Table,
    as_values,
    default_columns,
    met_claims,
    numbers_if_possible,
)

_SHOWN_TEXT_COLUMNS = 5
_TEXT = ("UTF-8 text, a line a row", "save the table as CSV in UTF-8, with every quotation mark closed")
_PARQUET = ("a complete parquet file", "write it again, or fetch it again")
MOST_COMPRESSION = 1032  # of deflate, which gzip uses
_TOO_LARGE = 2.0**63  # of whole numbers, which are not read as real ones
_SHOWN_DIGITS = 24
_CELL_BYTES = 32  # of a cell while a table is parsed: two of pandas' pointers and two doubles
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """How a delimited file is laid out; reader and writer share it."""

    delimiter: str
    header_lines: int  # lines to the end of the header, 0 where there is none
    names: tuple[str, ...]  # unique, one a field of a row; '' where the first column has none
    bare_index: bool  # R's write.table: the header has no field for the row names
    open_end: bool  # the first row ends with a delimiter, behind which the last column would begin

    @property
    def has_header(self) -> bool:
        """Whether the first row holds names."""
        return self.header_lines > 0

    @property
    def index_column(self) -> bool:
        """Whether the first column holds row names, as pandas and R write them."""
        return self.names[:1] == ("",)


def open_text(path: Path) -> TextIOWrapper:
    """The file as text, for the caller to close."""
    return TextIOWrapper(open_bytes(path, zipped=_is_zipped(path)), encoding="utf-8-sig", newline="")


def layout_of(path: Path) -> Layout:
    """Look at the first two rows: which delimiter, is there a header, does the first column hold row names."""
    _require_room(path)
    with foreign(path.name, *_TEXT), open_text(path) as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        found = list(islice(lines, 2))
    if not found:
        raise ValueError(f"{path.name}: expected a table, got an empty file; save it again")
    head = "".join(line for _, line in found)
    first_line = head.splitlines()[0]
    tabs = ".tsv" in path.name.lower()
    semicolons = ";" in first_line and "," not in first_line  # what spreadsheets write where ',' is a decimal comma
    delimiter = "\t" if tabs else ";" if semicolons else ","
    with foreign(path.name, *_TEXT):
        rows = list(csv.reader(head.splitlines(), delimiter=delimiter, skipinitialspace=True))
    first, second = rows[0], rows[-1]
    open_end = first[-1:] == [""]
    if _is_data(first):
        return Layout(delimiter, 0, default_columns(len(first)), False, open_end)
    bare_index = len(rows) == 2 and len(second) == len(first) + 1
    return Layout(delimiter, found[0][0], _unique(["", *first] if bare_index else first), bare_index, open_end)


def _require_room(path: Path) -> None:
    """Refuse a table that would not fit, by a count of its cells; a small gzip file can hold a very large one."""
    most = path.stat().st_size * (MOST_COMPRESSION if _is_zipped(path) else 1) * (_CELL_BYTES + 1)
    free = available_memory()
    if free is None or most <= free:
        return
    size = 0
    with open_bytes(path, zipped=_is_zipped(path)) as file:
        while block := _block(file, path.name):
            size += len(block) + _CELL_BYTES * sum(map(block.count, (b",", b";", b"\t", b"\n")))
            require_memory(size, f"{path.name}: a table of {readable(size)} and more", FEWER)


def _is_zipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _block(file: IO[bytes], name: str) -> bytes:
    with foreign(name, *_TEXT):
        return file.read(_BLOCK_BYTES)


def _is_data(fields: list[str]) -> bool:
    """A first row of numbers is data, except 0, 1, 2, ...: that is how pandas names the columns of a plain array.

    Cells may be empty but for the first, which is where a table with row names has no name.
    """
    if len(fields) > 1 and fields == [str(i) for i in range(len(fields))]:
        return False
    try:
        return fields[:1] != [""] and bool([float(field) for field in fields if field])
    except ValueError:
        return False


def _unique(names: list[str]) -> tuple[str, ...]:
    """a, a, b -> a, a.1, b; an empty name is kept only in first place, where it marks row names."""
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


def read_delimited(path: Path, claims: Claims) -> Table:
    """Text with a header (or without one, if the first row is numbers); claimed columns are read as written."""
    pandas = require("pandas", "all", f"reading {path.suffix} files")
    layout = layout_of(path)
    claims = met_claims(claims, [name for name in layout.names if name], path.name)
    verbatim = claims.names() | ({""} if layout.index_column else set())
    # ids such as 007 and labels such as NA stay as they are written; the writer looks ids up in the same text
    converters = {name: str if name in {"", claims.ids} else str.strip for name in verbatim}
    frame = _read_csv(pandas, path, layout, converters)
    if len(frame) and _is_empty(frame.iloc[:, -1]).any():  # as it is in a row with too few fields
        _require_whole_rows(path, layout)
        _require_closed_rows(path, layout, claims)
    side = {name: numbers_if_possible(frame[name].to_numpy(dtype=str)) for name in claims.names()}
    if claims.ids is not None and claims.ids not in claims.labels:
        side[claims.ids] = frame[claims.ids].to_numpy(dtype=str)
    ids = frame[""].to_numpy(dtype=str) if layout.index_column else None
    return _from_frame(frame.drop(columns=list(verbatim)), side, ids, path.name)


def _is_empty(column: Any) -> Any:
    return column.isna() | (column == "")


def _require_whole_rows(path: Path, layout: Layout) -> None:
    """Refuse a row that has fewer fields than the header, which pandas would fill up, or more."""
    expected = len(layout.names)
    line, row = _first_row(path, layout, lambda row: len(row) != expected)
    found = len(row)
    if not found:
        return
    cure = "correct this line, or put text that holds the delimiter in quotation marks"
    if layout.open_end and found == expected - 1:
        cure = f"correct this line, or remove the {_delimiter(layout)} at the end of the first row"
    raise ValueError(f"{path.name}, line {line}: expected {expected} fields, one a column, got {found}; {cure}")


def _require_closed_rows(path: Path, layout: Layout, claims: Claims) -> None:
    """Refuse rows that all end with a delimiter: it makes a column that nobody meant.

    Where the header ends without, the first column would count as row names and all others move by one place. Where it
    ends so too, the last column has neither name nor values; a new file may have columns that the model does not know.
    """
    last = layout.names[-1]
    unnamed = layout.open_end and last and last not in claims.names() and not claims.optional
    if not (unnamed or layout.bare_index) or _first_row(path, layout, _has_end)[1]:
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


def _has_end(row: list[str]) -> bool:
    return bool(row[-1].strip())


def _first_row(path: Path, layout: Layout, wanted: Callable[[list[str]], bool]) -> tuple[int, list[str]]:
    """The first row below the header that holds anything and is wanted, and the line where it ends; else 0, []."""
    with foreign(path.name, *_TEXT), open_text(path) as file:
        rows = csv.reader(file, delimiter=layout.delimiter, skipinitialspace=True)
        for row in rows:
            if rows.line_num > layout.header_lines and "".join(row).strip() and wanted(row):
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


def read_parquet(path: Path, claims: Claims) -> Table:
    """A parquet table; an index that pandas stored becomes the ids."""
    parquet = require("pyarrow.parquet", "parquet", "reading .parquet files")
    pandas = require("pandas", "all", "reading .parquet files")
    with foreign(path.name, *_PARQUET):
        found = parquet.read_metadata(path)
    require_memory(2 * 8 * found.num_rows * found.num_columns, f"{path.name}: {_size(found)}", FEWER)
    with foreign(path.name, *_PARQUET):
        frame = pandas.read_parquet(path, engine="pyarrow")
    frame.columns = [str(name) for name in frame.columns]
    ids = None if isinstance(frame.index, pandas.RangeIndex) else as_values(frame.index)
    claims = met_claims(claims, list(frame.columns), path.name)
    side = {name: as_values(frame[name]) for name in claims.names()}
    return _from_frame(frame.drop(columns=list(claims.names())), side, ids, path.name)


def _size(found: Any) -> str:
    return f"{found.num_rows} rows x {found.num_columns} columns"


def _from_frame(frame: Any, side: dict[str, np.ndarray], ids: np.ndarray | None, name: str) -> Table:
    if not len(frame):
        raise ValueError(f"{name}: expected at least one row, got none below the header")
    _check_numeric(frame, name)
    if not frame.shape[1]:
        raise ValueError(f"{name}: no column is left for the model; labels, ids and drop take all of them out")
    kinds = {np.dtype(getattr(dtype, "numpy_dtype", dtype)).kind for dtype in frame.dtypes}
    nullable = any(hasattr(dtype, "numpy_dtype") for dtype in frame.dtypes)  # pandas' own types hold NA
    matrix = frame.to_numpy(dtype=np.float64, na_value=np.nan) if nullable or kinds > {"b"} else frame.to_numpy()
    return Table(matrix, tuple(map(str, frame.columns)), side, (), ids)


def _check_numeric(frame: Any, name: str) -> None:
    from pandas.api.types import is_numeric_dtype

    bad = [column for column, dtype in frame.dtypes.items() if not is_numeric_dtype(dtype) or dtype.kind == "c"]
    if not bad:
        return
    shown = "; ".join(f"{shortened(column)!r} holds {_example(frame[column])}" for column in bad[:_SHOWN_TEXT_COLUMNS])
    more = f"; ... ({len(bad)} columns)" if len(bad) > _SHOWN_TEXT_COLUMNS else ""
    raise ValueError(
        f"{name}: expected numbers, got other values: {shown}{more}. Correct them, or say what these columns are: "
        "--labels COLUMN for labels, --ids COLUMN for row names, --drop COLUMN to leave one out"
    )


def _example(column: Any) -> str:
    import pandas

    numbers = pandas.to_numeric(column.astype(str), errors="coerce")
    other = column[numbers.isna() & column.notna()]
    if other.empty and (numbers.abs() >= _TOO_LARGE).any():  # where pandas keeps the text
        row = int((numbers.abs() >= _TOO_LARGE).to_numpy().argmax())
        text = shortened(str(column.iloc[row]), _SHOWN_DIGITS)
        return (
            f"{text!r} in row {row + 1}, a whole number of more than 64 bits: written as {numbers.iloc[row]:g} it fits"
        )
    if other.empty:  # such as dates, or only empty cells
        return f"values of type {column.dtype}"
    row = int((numbers.isna() & column.notna()).to_numpy().argmax()) + 1
    text = shortened(str(other.iloc[0]))
    return f"{text!r} in row {row} ({len(other)} of {len(column)} values are not numbers)"
