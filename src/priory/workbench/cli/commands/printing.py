"""Messages that several commands print: the data, the columns left out, the files written."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from priory._support.messages import first_few
from priory.workbench.cli.terminal import console, errors
from priory.workbench.data import Dataset, DatasetRows, describe_constants


def default_folder(source: str, ending: str) -> Path:
    """The run folder if no --out was given.

    >>> print(default_folder("tables/wine.csv.gz", "vamp"))
    runs/wine-vamp
    """
    return Path("runs") / f"{Path(source).name.split('.')[0]}-{ending}"


def say_data(dataset: Dataset) -> None:
    """Print the values of the data and the sizes of the splits."""
    sizes = ", ".join(f"{len(index)} {name}" for name, index in dataset.splits.items())
    console.print(f"[bold]{dataset.name}[/]: {dataset.summary().describe()}\nrows: {sizes}")


def say_left_out(columns: Mapping[str, float | None]) -> None:
    """Print the columns that the model leaves out: constant ones with their value, empty ones with None."""
    constants = {name: value for name, value in columns.items() if value is not None}
    empty = [name for name in columns if name not in constants]
    if constants:
        _say_number(constants, "one value in all training rows", describe_constants(constants))
    if empty:
        _say_number(empty, "no value in any training row", first_few([*map(repr, empty)]))


def _say_number(columns: Collection[str], values: str, shown: str) -> None:
    number = f"{len(columns)} column{'s have' if len(columns) > 1 else ' has'}"
    console.print(f"left out of the model: {number} {values} ({shown})", markup=False)


def note_rows(fact: str, rows: DatasetRows, which: np.ndarray) -> None:
    """Print a fact about some rows with their ids; nothing if there is no such row."""
    ids = rows.ids[which].tolist()
    if ids:
        number = f"{len(ids)} row{'s' if len(ids) > 1 else ''}"
        errors.print(f"note: {fact} {number}: {first_few(ids)}", markup=False)


def say_files(folder: Path, files: Sequence[str], pictures: Sequence[Path], page: Path | None) -> None:
    """Print what was written into a run folder."""
    console.print(f"\nwritten to [bold]{folder}[/]: {', '.join(files)}")
    console.print(f"figures: {', '.join(str(path.relative_to(folder)) for path in pictures)}")
    say_page(page)


def say_page(page: Path | None) -> None:
    """Print where the page is, if one was written."""
    if page is not None:
        console.print(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB; open it in a browser)", markup=False)
