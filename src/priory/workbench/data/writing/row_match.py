"""Which row of a template belongs to which id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def match_rows(
    ids: np.ndarray, columns: Mapping[str, Sequence[str]], rows: int, ids_column: str | None, where: str
) -> np.ndarray:
    """The template's row of each id.

    Without `ids_column`, ids are row names (the column ''), row numbers, or they stand in the one column that holds
    them all. Ids in the file's order by one reading are certain, unless they are row names in another order. Otherwise
    readings that disagree are an error: a wrong match would put results beside the wrong rows.

    >>> match_rows(np.array(["b", "a"]), {"name": ["a", "b", "c"]}, 3, None, "table.csv")
    array([1, 0])
    """
    if ids_column is not None:
        return _by_named_column(ids, columns, rows, ids_column, where)
    row_names = columns.get("", ())
    if len(row_names) and list(ids) == list(row_names):
        return np.arange(rows)
    numbers = _row_numbers(ids, rows)
    candidates = {"the row numbers": numbers}
    if len(ids) and set(ids) <= set(row_names):
        candidates["the row names"] = _by_named_column(ids, columns, rows, "", where)
    elif numbers is not None and _in_order(numbers, rows):
        return numbers
    else:
        candidates |= {f"column {name!r}": _positions(ids, values) for name, values in columns.items()}
        if any(positions is not None and _in_order(positions, rows) for positions in candidates.values()):
            return np.arange(rows)
    found = {name: positions for name, positions in candidates.items() if positions is not None}
    if not found:
        raise ValueError(
            f"ids: expected the row numbers of {where} or the values of one of its columns, got {_shown(ids)}; "
            "name the column that holds them with --ids, or leave --copy out"
        )
    first, *others = found.values()
    if all(np.array_equal(first, other) for other in others):
        return first
    raise ValueError(
        f"ids: expected one reading of the ids in {where}, got several that disagree: {', '.join(found)}; "
        "name the column that holds them with --ids"
    )


def _by_named_column(
    ids: np.ndarray, columns: Mapping[str, Sequence[str]], rows: int, ids_column: str, where: str
) -> np.ndarray:
    called = f"column {ids_column!r}" if ids_column else "the row names"
    if ids_column not in columns:
        raise ValueError(f"--ids: expected a column of {where}, got {ids_column!r}")
    values = columns[ids_column]
    if len(ids) == rows and list(ids) == list(values):
        return np.arange(rows)  # in order, so that repeated ids do no harm
    positions = _positions(ids, values)
    if positions is None:
        raise ValueError(
            f"ids: expected each id once in {called} of {where}, got {_shown(ids)}, of which some are missing there "
            "or repeated; give the file that the rows came from"
        )
    return positions


def _positions(ids: np.ndarray, values: Sequence[str]) -> np.ndarray | None:
    """Where each id stands, or None if one is missing or stands in several places."""
    if len(ids) == 0 or ids[0] not in values:  # cheap, and rules out nearly all columns of a wide table
        return None
    if len(ids) == len(values) and list(ids) == list(values):
        return np.arange(len(values))
    place = {value: i for i, value in enumerate(values)}
    wanted = set(ids)
    if len(wanted) < len(ids) or not wanted <= place.keys():
        return None
    if sum(value in wanted for value in values) > len(wanted):
        return None
    return np.array([place[name] for name in ids], dtype=np.int64)


def _row_numbers(ids: np.ndarray, rows: int) -> np.ndarray | None:
    numbers = {str(i): i for i in range(rows)}
    if len(set(ids)) < len(ids) or not all(name in numbers for name in ids):
        return None
    return np.array([numbers[name] for name in ids], dtype=np.int64)


def _in_order(positions: np.ndarray, rows: int) -> bool:
    return len(positions) == rows and bool((positions == np.arange(rows)).all())


def _shown(ids: np.ndarray) -> str:
    return ", ".join(map(repr, map(str, ids[:3]))) + (", ..." if len(ids) > 3 else "")
