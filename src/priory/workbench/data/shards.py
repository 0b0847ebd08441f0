"""A data set in many files, named by a pattern such as 'shards/*.parquet'."""

from __future__ import annotations

import re
from pathlib import Path

from priory._support.messages import first_few
from priory._support.patterns import files_of, folder_of, is_pattern
from priory.workbench.data.embedded import existing_file, is_zarr


def shards_of(source: str | Path) -> list[Path]:
    """Return the files of a pattern or the .parquet files of a folder, sorted by name; otherwise the file.

    A zarr folder counts as a file.

    Raises:
        FileNotFoundError: no file has this name or matches the pattern.
        ValueError: files of one pattern have different endings; a folder has no .parquet files.
    """
    if not is_pattern(source):
        path = existing_file(Path(source))
        return sorted(path.rglob("*.parquet")) if path.is_dir() and not is_zarr(path) else [path]
    files = files_of(source)
    if not files:
        raise FileNotFoundError(
            f"source: expected a pattern that matches at least one file, got {str(source)!r}, which matches none; "
            "check the folder, and quote the pattern so that the shell does not expand it"
        )
    endings = {path.suffix for path in files}
    if len(endings) > 1:
        raise ValueError(
            f"source: expected files of one format, got the endings {first_few(sorted(endings))} for {str(source)!r}; "
            "end the pattern with one of them, such as '*.parquet'"
        )
    return files


def same_files(source: str | Path, other: str | Path) -> bool:
    """Return whether two sources are the same files, such as 'shards' and 'shards/*.parquet'."""
    if str(source) == str(other):
        return True
    try:
        return [path.resolve() for path in shards_of(source)] == [path.resolve() for path in shards_of(other)]
    except (OSError, ValueError):  # an embedded data set, or files that no longer exist
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
    """Return the name of a data set in messages: of the file or folder; for a pattern, with its folder.

    >>> origin_of("tables/wine.csv"), origin_of("tables/shards/*.parquet")
    ('wine.csv', 'shards/*.parquet')
    """
    path = Path(source)
    return (path.relative_to(folder_of(path).parent) if is_pattern(path) else Path(path.name)).as_posix()


def name_of(source: str | Path) -> str:
    """Return the name of a data set: of the file without its ending, or of the folder of its files.

    >>> name_of("tables/wine.csv.gz"), name_of("tables/shards"), name_of("wine/part-*.parquet")
    ('wine', 'shards', 'wine')
    """
    path = Path(source)
    if is_pattern(path):
        return folder_of(path).name
    return path.name if path.is_dir() and not is_zarr(path) else Path(re.sub(r"(?i)\.gz$", "", path.name)).stem
