"""Files of one Arrow data set."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from priory._support.messages import first_few


def columns_of(fragments: Iterable[Any]) -> list[tuple[str, list[str]]]:
    """Return the path and the column names of each file. Names that are not in UTF-8 raise a UnicodeDecodeError."""
    return [(fragment.path, fragment.physical_schema.names) for fragment in fragments]


def require_same_columns(columns: Iterable[tuple[str, list[str]]]) -> None:
    """Raise an error if a file has other columns than the first one; Arrow would fill or drop these columns.

    Args:
        columns: the path and the column names of each file.

    Raises:
        ValueError: names the file and the columns.
    """
    (first, expected), *others = columns
    for path, names in others:
        lacking = [name for name in expected if name not in names]
        more = [name for name in names if name not in expected]
        if lacking or more:
            raise ValueError(
                f"{Path(path).name}: expected the columns of {Path(first).name}, got a file "
                f"{f'without {first_few(lacking)}' if lacking else f'with {first_few(more)}'}; write both with the "
                "same columns, or leave one out"
            )
