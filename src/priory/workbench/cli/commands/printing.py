"""Messages that several commands print: the data, the columns left out, the files written."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from priory.workbench.cli.terminal import say
from priory.workbench.data import Dataset, describe_constants


def say_data(dataset: Dataset) -> None:
    """Print the values of the data and the sizes of the splits."""
    sizes = ", ".join(f"{len(index)} {name}" for name, index in dataset.splits.items())
    first, *others = dataset.summary().describe().splitlines()
    say((dataset.name, "bold"), f": {first}")
    for line in (*others, f"rows: {sizes}"):
        say(line)


def say_left_out(columns: Mapping[str, float | None]) -> None:
    """Print the columns that the model leaves out: constant ones with their value, empty ones with None."""
    constants = {name: value for name, value in columns.items() if value is not None}
    empty = [name for name in columns if name not in constants]
    if constants:
        _say_number(constants, "one value in all training rows", describe_constants(constants))
    if empty:
        shown = ", ".join(map(repr, empty[:5])) + (", ..." if len(empty) > 5 else "")
        _say_number(empty, "no value in any training row", shown)


def _say_number(columns: Collection[str], values: str, shown: str) -> None:
    number = f"{len(columns)} column{'s have' if len(columns) > 1 else ' has'}"
    say(f"left out of the model: {number} {values} ({shown})")


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
