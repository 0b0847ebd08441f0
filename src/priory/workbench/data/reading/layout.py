"""The format of a table of text: encoding, comments, delimiter, header, row names."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from priory._support.messages import shortened
from priory.workbench.data.reading.foreign import foreign, open_bytes
from priory.workbench.data.reading.header import GAPS, all_numbers, holds_names, to_number
from priory.workbench.data.reading.table import default_columns, unique_names
from priory.workbench.data.reading.text_options import TextOptions

_TEXT = ("UTF-8 text, a line a row", "save the table as CSV in UTF-8, with every quotation mark closed")
_DELIMITERS = (",", ";", "\t", "|", " ")
_SEP = re.compile(r'"?sep=(.)"?\s*$', re.IGNORECASE)  # Excel writes and reads this line
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 200, 1 << 20  # of the table, to find its delimiter and its header

Number = Callable[[str], float | None]


@dataclass(frozen=True)
class Layout:
    """The format of a delimited file, for the reader and for the writer of copies."""

    encoding: str
    delimiter: str
    preamble: tuple[str, ...]  # lines before the table: comments, sep=;, empty lines
    header: tuple[str, ...] | None  # names of columns as they are written; None if there are none
    header_lines: int  # number of lines; 0 if the names are in a comment, or if there are none
    names: tuple[str, ...]  # unique, one per field; the first is '' if the first column contains row names
    bare_index: bool  # R's write.table: the header has no field for the row names
    open_end: bool  # the first row ends with a delimiter
    notes: tuple[str, ...]  # for the summary of the data

    @property
    def index_column(self) -> bool:
        """Whether the first column contains row names, as pandas and R write them."""
        return self.names[:1] == ("",)

    @property
    def lines_before_data(self) -> int:
        return len(self.preamble) + self.header_lines

    @property
    def shown_delimiter(self) -> str:
        return "tab" if self.delimiter == "\t" else f"{self.delimiter!r}"


@contextmanager
def reading_text(path: Path) -> Iterator[None]:
    """Convert errors in the block to ValueErrors; put only the reading of the file into it."""
    try:
        with foreign(path.name, *_TEXT):
            yield
    except ValueError as error:
        wrong_byte = _byte_of_another_encoding(path) if isinstance(error.__context__, UnicodeDecodeError) else None
        if wrong_byte is None:
            raise
        line, byte = wrong_byte
        letter = bytes([byte]).decode("cp1252", "replace")
        raise ValueError(
            f"{path.name}: expected UTF-8 text, got the byte 0x{byte:02X} in line {line}, {letter!r} in Latin-1 "
            f"(Windows-1252); save the table as CSV in UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8 {path.name}"
        ) from None


def _byte_of_another_encoding(path: Path) -> tuple[int, int] | None:
    """Find the first byte that is not UTF-8: its line and value; None if the line does not look like text."""
    with _open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return None if min(line) < ord("\t") else (number, line[error.start])
    return None


def _open_bytes(path: Path) -> BinaryIO:
    return open_bytes(path, zipped=path.name.lower().endswith(".gz"))


def open_text(path: Path, encoding: str, skipped_lines: int = 0) -> TextIOWrapper:
    """Open a text file, gzipped or not, and skip its first lines; the caller closes it."""
    file = TextIOWrapper(_open_bytes(path), encoding=encoding, newline="")
    for _ in range(skipped_lines):
        file.readline()
    return file


def layout_of(path: Path, options: TextOptions | None = None) -> Layout:
    """Determine the format of a file from its first lines; the options take precedence.

    Raises:
        ValueError: the file is empty, it is not text, or its first line may be either names or data.
    """
    options = options or TextOptions()
    with reading_text(path):
        encoding = _encoding(path)
        preamble, lines = _head(path, encoding)
    if not lines:
        raise ValueError(f"{path.name}: expected a table, got an empty file; save it again")
    usual = "\t" if ".tsv" in path.name.lower() else ","
    separators = [match[1] for line in preamble if (match := _SEP.match(line))]
    with reading_text(path):
        delimiter = options.delimiter or next(iter(separators), None) or _guessed_delimiter(lines, usual)
        rows, header_lines = _records(lines, delimiter)
        comment = _names_in_comment(preamble, delimiter, len(rows[0]))
    is_header = _is_header(path.name, rows, delimiter, options, comment)
    header = rows[0] if is_header else comment
    bare_index = is_header and len(rows) > 1 and len(rows[1]) == len(rows[0]) + 1
    names, renamed = default_columns(len(rows[0])), ""
    if header is not None:
        names, renamed = unique_names(["", *header] if bare_index else header)
    layout = Layout(
        encoding=encoding,
        delimiter=delimiter,
        preamble=tuple(preamble),
        header=None if header is None else tuple(header),
        header_lines=header_lines if is_header else 0,
        names=names,
        bare_index=bare_index,
        open_end=rows[0][-1] == "",
        notes=(),
    )
    notes = [*_notes(layout, usual), *([renamed] if renamed else [])]
    return replace(layout, notes=tuple(notes))


def _notes(layout: Layout, usual: str) -> list[str]:
    """Describe the format in words."""
    names_in_comment = layout.header is not None and not layout.header_lines
    comments = sum(line.startswith("#") for line in layout.preamble) - names_in_comment
    notes = {
        _source_of_names(layout): True,
        f"delimiter {layout.shown_delimiter}": layout.delimiter != usual,
        layout.encoding.upper(): layout.encoding.startswith("utf-16"),
        f"{comments} comment line{'s' if comments > 1 else ''} skipped": comments > 0,
        "the line sep= skipped": any(map(_SEP.match, layout.preamble)),
    }
    return [note for note, applies in notes.items() if applies]


def _source_of_names(layout: Layout) -> str:
    if layout.header_lines:
        return "the first line holds names (if it is data: --no-header)"
    if layout.header is not None:
        return "the comment above the first line holds names"
    return "no names, the first line is data (if it holds names: --header)"


def _encoding(path: Path) -> str:
    with _open_bytes(path) as file:
        start = file.read(64)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for encoding, first in (("utf-16-le", 0), ("utf-16-be", 1)):  # some programs write no byte-order mark
        if start and all(start[first::2]) and not any(start[1 - first :: 2]):
            return encoding
    return "utf-8-sig"


def _head(path: Path, encoding: str) -> tuple[list[str], list[str]]:
    """Return the lines before the table, and the first lines of the table."""
    preamble: list[str] = []
    lines: list[str] = []
    length = 0
    with open_text(path, encoding) as file:
        for line in file:
            before = not lines
            skipped = not line.strip() or line.startswith("#") or _SEP.match(line)
            if before and skipped:
                preamble.append(line)
                continue
            lines.append(line)
            length += len(line)
            if len(lines) >= _SAMPLE_LINES or (len(lines) > 1 and length > _SAMPLE_CHARACTERS):
                break
    if not lines and "".join(preamble).strip():  # a table of lines that all begin with #
        return [], preamble[:_SAMPLE_LINES]
    return preamble, lines


def _records(lines: Sequence[str], delimiter: str) -> tuple[list[list[str]], int]:
    """Return the rows in these lines, and the number of lines of the first row."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    first = next(reader)
    header_lines = reader.line_num
    return [first, *(row for row in reader if "".join(row).strip())], header_lines


def _guessed_delimiter(lines: Sequence[str], usual: str) -> str:
    """Return the delimiter that splits the lines into rows of equal length with the most numbers; on a tie, `usual`."""

    def merit(delimiter: str) -> tuple[float, float]:
        if delimiter not in lines[0]:
            return 0.0, 0.0
        first, *below = _records(lines, delimiter)[0]
        width = Counter(map(len, below or [first])).most_common(1)[0][0]
        fitting = [len(row) == width for row in below] + [width - len(first) in (0, 1)]
        number = _number_reader(delimiter, TextOptions())
        cells = [number(cell) is not None for row in below or [first] for cell in row]
        numbers = sum(cells) / len(cells)
        if width < 2 or (delimiter == " " and numbers < 0.5):  # a sentence has spaces too
            return 0.0, 0.0
        return sum(fitting) / len(fitting), numbers

    return max((usual, *_DELIMITERS), key=merit)


def _number_reader(delimiter: str, options: TextOptions) -> Number:
    comma = delimiter != "," if options.decimal is None else options.decimal == ","
    return partial(to_number, comma=comma, gaps=GAPS | set(options.missing))


def _names_in_comment(preamble: Sequence[str], delimiter: str, width: int) -> list[str] | None:
    """Return the names in the comment directly above the table; None if it has not one name per column."""
    if not preamble or not preamble[-1].startswith("#") or width < 2:
        return None
    line = re.sub(r"^#+ +", "", preamble[-1]).rstrip("\r\n")  # the # of #SampleID belongs to the name
    rows = list(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    return rows[0] if rows and len(rows[0]) == width else None


def _is_header(
    name: str, rows: Sequence[list[str]], delimiter: str, options: TextOptions, comment: list[str] | None
) -> bool:
    """Return whether the first line contains names of columns; raise an error if names and data are both plausible."""
    if options.header is not None:
        return options.header
    first, number = rows[0], _number_reader(delimiter, options)
    if options.known and set(options.known) <= set(first):
        return True
    unnamed = options.known and all(re.fullmatch(r"x\d+", known) for known in options.known)
    if unnamed and all_numbers(first, number):
        return False
    has_names = holds_names(first, rows[1:], number)
    if has_names is None and comment is None:
        shown = shortened(", ".join(first[:4]), 60)
        raise ValueError(
            f"{name}: expected a first line that is either names of columns or data, got one that may be both ({shown}"
            f"{', ...' if len(first) > 4 else ''}); give --header for names, or --no-header for data"
        )
    return bool(has_names)
