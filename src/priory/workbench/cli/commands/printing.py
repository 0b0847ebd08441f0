"""Output that several commands share: the data, the columns left out, the files written, the command line."""

import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from priory._support.messages import first_few
from priory.workbench.cli.terminal import say, say_on_stderr
from priory.workbench.data import Dataset, DatasetRows, describe_constants


def typed() -> str:
    """Return the command line of this process."""
    return shlex.join(["priory", *sys.argv[1:]])


def say_data(dataset: Dataset) -> None:
    """Print the values of the data and the sizes of the splits."""
    sizes = ", ".join(f"{len(index)} {name}" for name, index in dataset.splits.items())
    first, *others = dataset.summary().describe().splitlines()
    say((dataset.name, "bold"), f": {first}")
    for line in (*others, f"rows: {sizes}"):
        say(line)
    say_reading(dataset)


def say_reading(dataset: Dataset, say: Callable[..., None] = say) -> None:
    """Print how the file was read, if it could be read in more than one way."""
    if dataset.notes:
        say(f"read: {'; '.join(dataset.notes)}")


def say_left_out(columns: Mapping[str, float | None]) -> None:
    """Print the columns that the model leaves out: constant ones with their value, empty ones (value None)."""
    constants = {name: value for name, value in columns.items() if value is not None}
    empty = [name for name in columns if name not in constants]
    if constants:
        _say_number(constants, "one value in all training rows", describe_constants(constants))
    if empty:
        _say_number(empty, "no value in any training row", first_few([*map(repr, empty)]))


def _say_number(columns: Collection[str], values: str, shown: str) -> None:
    number = f"{len(columns)} column{'s have' if len(columns) > 1 else ' has'}"
    say(f"left out of the model: {number} {values} ({shown})")


def note_rows(fact: str, rows: DatasetRows, which: np.ndarray) -> None:
    """Print a note about some rows with their ids; print nothing if there are none."""
    ids = rows.ids[which].tolist()
    if ids:
        number = f"{len(ids)} row{'s' if len(ids) > 1 else ''}"
        say_on_stderr(f"note: {fact} {number}: {first_few(ids)}")


def say_files(folder: Path, files: Sequence[str], pictures: Sequence[Path], page: Path | None) -> None:
    """Print what was written into a run folder."""
    say()
    say("written to ", (str(folder), "bold"), f": {', '.join(files)}")
    say(f"figures: {', '.join(str(path.relative_to(folder)) for path in pictures)}")
    say_page(page)


def say_page(page: Path | None) -> None:
    """Print where the page is, if one was written."""
    if page is not None:
        say(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB; open it in a browser)")
