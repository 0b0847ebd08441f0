"""Files of one Arrow data set."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from priory._support.messages import first_few


def require_same_columns(fragments: Iterable[Any]) -> None:
    """Raise an error if a file has other columns than the first one; Arrow would fill or drop these columns.

    Raises:
        ValueError: names the file and the columns.
    """
    first, *others = fragments
    names = first.physical_schema.names
    for other in others:
        lacking = [name for name in names if name not in other.physical_schema.names]
        more = [name for name in other.physical_schema.names if name not in names]
        if lacking or more:
            raise ValueError(
                f"{Path(other.path).name}: expected the columns of {Path(first.path).name}, got a file "
                f"{f'without {first_few(lacking)}' if lacking else f'with {first_few(more)}'}; write both with the "
                "same columns, or leave one out"
            )
