"""Output to the terminal as plain text: it never interprets markup or control characters.

Ids, labels, names of columns and paths come from the user. Print them only through the functions of this file.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from priory._support.files import json_text
from priory._support.messages import visible

Part = str | tuple[str, str]  # plain text, or text and its style: ("note:", "yellow")

_LOOK: dict[str, Any] = {"highlight": False, "soft_wrap": True, "emoji": False, "markup": False}
_OUTPUT, _ERRORS = Console(**_LOOK), Console(stderr=True, **_LOOK)


def say(*parts: Part) -> None:
    """Print a line to standard output."""
    _OUTPUT.print(_text(parts))


def say_on_stderr(*parts: Part) -> None:
    """Print a line to standard error: notes, progress and errors."""
    _ERRORS.print(_text(parts))


def say_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Part]], *, right: Sequence[int] = ()) -> None:
    """Print a table to standard output.

    Args:
        title: a line above it; empty for none.
        header: names of the columns.
        rows: a cell for each column.
        right: indices of the columns that are aligned to the right.
    """
    from rich.table import Table

    table = Table(title=_text([title]) if title else None, title_justify="left", box=None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(_text([name]), justify="right" if place in right else "left")
    for row in rows:
        table.add_row(*(_text([cell]) for cell in row))
    _OUTPUT.print(table)


def show_metrics(metrics: dict[str, Any], title: str, descriptions: dict[str, str]) -> None:
    """Print a table of estimates with standard errors and descriptions."""
    rows = []
    for name, estimate in metrics.items():
        error = "" if math.isnan(estimate.se) else f"{estimate.se:.3f}"
        rows.append((name, f"{estimate.value:.3f}", error, (descriptions[name], "dim")))
    say_table(title, ("", "value", "s.e.", ""), rows, right=(1, 2))


def print_json(tree: Any) -> None:
    """Print JSON for other programs; it escapes every character beyond ASCII."""
    print(json_text(tree))


@contextmanager
def row_progress(description: str, total: int) -> Iterator[Any]:
    """Show a progress bar over rows if stderr is a terminal; yield the function that advances it."""
    if not _ERRORS.is_terminal:  # before rich 14, a disabled bar leaves an empty line
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_ERRORS, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.update(task, completed=done)


def stderr_is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return _ERRORS.is_terminal


def _text(parts: Iterable[Part]) -> Text:
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(text), style) for text, style in pairs))
