"""Small tables as text and as HTML, for displays of results."""

from collections.abc import Iterable, Sequence
from html import escape


def text_table(rows: Iterable[Sequence[object]]) -> str:
    """Return the rows as lines, with columns two spaces apart.

    >>> print(text_table([("a", 1), ("long", 22)]))
    a     1
    long  22
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def html_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table; names from the data are escaped.

    >>> html_table(["name"], [["<b>"]])
    '<table><thead><tr><th>name</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    body = "".join(_row("td", row) for row in rows)
    return f"<table><thead>{_row('th', header)}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"
