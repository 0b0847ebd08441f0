"""What is written to the terminal: messages, tables, a bar over rows, JSON for other programs."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from priory._support.files import json_text

console = Console(highlight=False, soft_wrap=True, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def show_metrics(metrics: dict[str, Any], title: str, descriptions: dict[str, str]) -> None:
    """A table of estimates with their standard errors, where they have some, and what they are."""
    table = Table("", "value", "s.e.", "", title=title, title_justify="left", box=None, pad_edge=False)
    for column in table.columns[1:3]:
        column.justify = "right"
    for name, estimate in metrics.items():
        error = "" if math.isnan(estimate.se) else f"{estimate.se:.3f}"
        table.add_row(name, f"{estimate.value:.3f}", error, f"[dim]{descriptions[name]}[/]")
    console.print(table)


@contextmanager
def row_progress(description: str, total: int) -> Iterator[Any]:
    """A bar over rows on the terminal, nothing elsewhere; gives the function that moves it."""
    if not errors.is_terminal:  # a bar that is switched off leaves an empty line there, in rich before 14
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.update(task, completed=done)


def print_json(tree: Any) -> None:
    """Print JSON for other programs."""
    print(json_text(tree))
