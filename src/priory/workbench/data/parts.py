"""The parts of a data set: each with its file, its name and its number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from priory._support.messages import first_few
from priory._support.optional import require
from priory._support.patterns import folder_of, is_pattern
from priory.workbench.data.embedded import is_zarr
from priory.workbench.data.reading.arrays import header_of
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.readers import FORMATS, is_text_table, read_table
from priory.workbench.data.reading.text_options import TextOptions
from priory.workbench.data.shards import shards_of

_HEADER = ("a complete file", "write it again, or fetch it again")


@dataclass(frozen=True)
class Part:
    """A file of a data set in parts.

    Attributes:
        name: path below the folder of the data, without the ending.
        source: the file.
        first: the number of its first row in the whole data set.
        rows: the number of its rows; None if the file cannot be read.
    """

    name: str
    source: Path
    first: int = 0
    rows: int | None = None


def in_parts(source: str) -> bool:
    """Return whether the source is a data set in parts: a pattern, or a folder of .parquet files."""
    return is_pattern(source) or (Path(source).is_dir() and not is_zarr(Path(source)))


def parts_of(source: str) -> list[Part]:
    """Return the parts of a pattern or a folder, sorted by name; do not count rows yet.

    Raises:
        FileNotFoundError: no file matches.
        ValueError: two parts have the same name.
    """
    base = (folder_of(source) if is_pattern(source) else Path(source)).resolve()
    parts = [Part(_name(path.absolute(), base), path.resolve()) for path in shards_of(source)]
    names = [part.name for part in parts]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"source: expected parts with different names, got {first_few(double)} twice; rename them")
    return parts


def _name(path: Path, base: Path) -> str:
    """Return the path of a file below `base` without the ending of its format.

    >>> _name(Path("/shards/year=2020/part.0.csv.gz"), Path("/shards"))
    'year=2020/part.0'
    """
    ending = max((end for end in FORMATS if path.name.lower().endswith(end)), key=len, default=path.suffix)
    relative = (path.parent.resolve() / path.name).relative_to(base).as_posix()
    return relative[: len(relative) - len(ending)]


def count_rows(path: Path, text: TextOptions) -> int:
    """Return the number of rows of a file: from the header of .parquet, .npy and .h5ad, else by reading it.

    Raises:
        OSError, ValueError: the file cannot be read.
    """
    if path.suffix == ".parquet":
        parquet = require("pyarrow.parquet", "tables", "reading .parquet files")
        with foreign(path.name, *_HEADER):
            return int(parquet.read_metadata(path).num_rows)
    if path.suffix == ".npy":
        return header_of(path)[0][0]
    if path.suffix == ".h5ad":
        h5py = require("h5py", "anndata", "reading .h5ad files")
        with foreign(path.name, *_HEADER), h5py.File(path) as file:
            return len(file["obs"][file["obs"].attrs["_index"]])
    return int(read_table(path, (), text if is_text_table(path) else None, [path]).matrix.shape[0])


def numbered(parts: Sequence[Part], counts: Sequence[int | None]) -> list[Part]:
    """Number the rows consecutively across the parts, and leave empty parts out.

    A part that cannot be read is assumed to have as many rows as the previous one.

    >>> parts = [Part(name, Path(name)) for name in "abcd"]
    >>> [(part.name, part.first) for part in numbered(parts, [5, None, 0, 7])]
    [('a', 0), ('b', 5), ('d', 10)]
    """
    filled, first, size = [], 0, 0
    for part, rows in zip(parts, counts, strict=True):
        size = size if rows is None else rows
        if rows != 0:
            filled.append(Part(part.name, part.source, first, rows))
        first += size
    return filled
