"""Patterns that name files: 'shards/*.parquet'."""

from glob import escape, glob, has_magic
from pathlib import Path


def is_pattern(source: str | Path) -> bool:
    """Return whether the source is a pattern of files with *, ? or [...]; an existing file of this name is none.

    >>> is_pattern("shards/*.parquet"), is_pattern("shards/part-0.parquet")
    (True, False)
    """
    return has_magic(str(source)) and not Path(source).exists()


def folder_of(pattern: str | Path) -> Path:
    """Return the folder that contains all files of a pattern, from the pattern alone.

    An existing folder of this name is not a pattern, so that files in a folder such as 'runs[1]' are found.

    >>> folder_of("shards/year=*/part-*.parquet").as_posix()
    'shards'
    """
    return next(folder for folder in Path(pattern).parents if not is_pattern(folder))


def files_of(pattern: str | Path) -> list[Path]:
    """Return the files that match a pattern, in the order of their names."""
    folder = folder_of(pattern)
    below = Path(escape(str(folder))) / Path(pattern).relative_to(folder)
    return sorted(path for path in map(Path, glob(str(below), recursive=True)) if path.is_file())
