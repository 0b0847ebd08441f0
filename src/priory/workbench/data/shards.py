"""A data set in many files: those that a pattern such as 'shards/*.parquet' names."""

from __future__ import annotations

import re
from pathlib import Path

from priory._support.messages import first_few
from priory._support.patterns import files_of, folder_of, is_pattern
from priory.workbench.data.embedded import existing_file, is_zarr


def shards_of(source: str | Path) -> list[Path]:
    """Return the files of a pattern, or the .parquet files of a folder, in the order of their names; else the file.

    A folder of zarr counts as a file.

    Raises:
        FileNotFoundError: no file has this name, or fits the pattern.
        ValueError: files of one pattern have several endings; a folder has no .parquet files.
    """
    if not is_pattern(source):
        path = existing_file(Path(source))
        return sorted(path.rglob("*.parquet")) if path.is_dir() and not is_zarr(path) else [path]
    files = files_of(source)
    if not files:
        raise FileNotFoundError(
            f"source: expected a pattern that fits at least one file, got {str(source)!r}, which fits none; check the "
            "folder, and quote the pattern so that the shell leaves it as it is"
        )
    endings = {path.suffix for path in files}
    if len(endings) > 1:
        raise ValueError(
            f"source: expected files of one format, got the endings {first_few(sorted(endings))} for {str(source)!r}; "
            "end the pattern with one of them, such as '*.parquet'"
        )
    return files


def same_files(source: str | Path, other: str | Path) -> bool:
    """Whether two names are those of the same files: 'shards' may have those of 'shards/*.parquet'."""
    if str(source) == str(other):
        return True
    try:
        return [path.resolve() for path in shards_of(source)] == [path.resolve() for path in shards_of(other)]
    except (OSError, ValueError):  # an embedded data set, or files that are gone
        return False


def parquet_or_file(source: str | Path) -> list[Path]:
    """Return `shards_of` a source that is one data set: .parquet files, or one file.

    Raises:
        ValueError: a pattern names files of another format.
    """
    files = shards_of(source)
    if is_pattern(source) and files[0].suffix != ".parquet":
        raise ValueError(
            f"source: expected a pattern of .parquet files, got {str(source)!r}, which names files such as "
            f"{files[0].name!r}; convert them to Parquet, or join them"
        )
    return files


def origin_of(source: str | Path) -> str:
    """The name of a data set in messages: that of the file or the folder; of a pattern, with the folder before it.

    >>> origin_of("tables/wine.csv"), origin_of("tables/shards/*.parquet")
    ('wine.csv', 'shards/*.parquet')
    """
    path = Path(source)
    return (path.relative_to(folder_of(path).parent) if is_pattern(path) else Path(path.name)).as_posix()


def name_of(source: str | Path) -> str:
    """The name of a data set: that of the file without its ending, or of the folder of its files.

    >>> name_of("tables/wine.csv.gz"), name_of("tables/shards"), name_of("wine/part-*.parquet")
    ('wine', 'shards', 'wine')
    """
    path = Path(source)
    if is_pattern(path):
        return folder_of(path).name
    return path.name if path.is_dir() and not is_zarr(path) else Path(re.sub(r"(?i)\.gz$", "", path.name)).stem
