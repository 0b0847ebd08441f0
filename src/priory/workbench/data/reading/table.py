"""What a reader hands over, and how columns are taken out of its matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from priory._support.memory import require_memory
from priory._support.messages import nearest, shortened
from priory.workbench.data.reading.matrices import Matrix, is_sparse

_LISTED_NAMES = 12  # names in an error message: enough to recognize the file, short enough to read
_NAME_BYTES = 100  # of the name of a row or a column


@dataclass(frozen=True)
class Claims:
    """Columns that the user names, which are not part of the matrix, and the h5ad layer to read.

    `optional` holds the options among labels, ids, drop and layer whose columns a file may lack.
    """

    labels: tuple[str, ...] = ()
    ids: str | None = None
    drop: tuple[str, ...] = ()
    layer: str | None = None
    optional: frozenset[str] = frozenset()

    def by_option(self) -> list[tuple[str, str]]:
        """(option, column) pairs in the order in which they are checked."""
        ids = [] if self.ids is None else [("ids", self.ids)]
        return [("labels", name) for name in self.labels] + ids + [("drop", name) for name in self.drop]

    def names(self) -> set[str]:
        return {name for _, name in self.by_option()}


@dataclass(frozen=True)
class Table:
    """A file's content: the matrix, and side columns that hold one value a row without being part of it."""

    matrix: Matrix
    columns: tuple[str, ...]
    side: dict[str, np.ndarray] = field(default_factory=dict)
    default_labels: tuple[str, ...] = ()  # side columns that are labels unless the user names others
    ids: np.ndarray | None = None
    splits: dict[str, np.ndarray] | None = None
    image_shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class Selection:
    """A table after the user's columns were taken out."""

    matrix: Matrix
    columns: tuple[str, ...]
    labels: dict[str, np.ndarray]
    ids: np.ndarray
    image_shape: tuple[int, int] | None


def default_columns(count: int) -> tuple[str, ...]:
    """x0, x1, ...

    Raises:
        NotEnoughMemoryError: the names alone would not fit.
    """
    require_memory(_NAME_BYTES * count, f"{count} columns", "check the shape of the data: a row is a datum")
    return tuple(f"x{i}" for i in range(count))


def listed(names: Iterable[str]) -> str:
    """Names for an error message, cut where the list gets long."""
    names = list(names)
    text = ", ".join(repr(shortened(str(name))) for name in names[:_LISTED_NAMES])
    return f"{text}, ... ({len(names)} in all)" if len(names) > _LISTED_NAMES else text or "none"


def met_claims(claims: Claims, known: Sequence[str], where: str) -> Claims:
    """The claims without the optional columns that do not exist.

    Raises:
        ValueError: for any other column that does not exist; it names the nearest, or lists them.
    """
    found = set(known)
    for option, name in claims.by_option():
        if name in found or option in claims.optional:
            continue
        close = nearest(name, known)
        hint = f"did you mean {close!r}?" if close else f"its columns are {listed(known)}"
        raise ValueError(
            f"{option}: expected a column of {where}, got {shortened(name)!r}, which it does not have; {hint} "
            f"Give --{option} one of its columns"
        )
    return replace(
        claims,
        labels=tuple(name for name in claims.labels if name in found),
        ids=claims.ids if claims.ids in found else None,
        drop=tuple(name for name in claims.drop if name in found),
    )


def as_values(values: Any) -> np.ndarray:
    """Labels as numbers, or as text with '' for missing; never as Python objects."""
    array = np.asarray(values)
    if array.dtype.kind in "iuf":
        return array
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind == "O":
        return np.array(["" if _is_missing(v) else str(v) for v in array], dtype=str)
    return array.astype(str)


def _is_missing(value: Any) -> bool:
    # pandas' NA raises on comparison with itself, NaN and NaT differ from themselves
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def numbers_if_possible(text: np.ndarray) -> np.ndarray:
    """A text column as int64 or float64 where every non-empty cell is a number, else as it is.

    >>> numbers_if_possible(np.array(["1", "2"])), numbers_if_possible(np.array(["a", "2"]))
    (array([1, 2]), array(['a', '2'], dtype='<U1'))
    """
    filled = text != ""
    try:
        if filled.all() and len(text):
            return np.array([int(cell) for cell in text], dtype=np.int64)
    except (ValueError, OverflowError):
        pass  # not integers; perhaps real numbers
    try:
        numbers = np.full(len(text), np.nan)
        numbers[filled] = text[filled].astype(np.float64)
    except ValueError:
        return text
    return numbers if filled.any() else text


def select(table: Table, claims: Claims, where: str) -> Selection:
    """Take the claimed columns out of the matrix and keep them as labels and ids."""
    position = {name: i for i, name in enumerate(table.columns)}
    label_names = claims.labels or table.default_labels
    claims = met_claims(claims, [*table.side, *table.columns], where)

    def values(name: str) -> np.ndarray:
        return as_values(table.side[name]) if name in table.side else _column(table.matrix, position[name])

    labels = {name: values(name) for name in label_names if name in table.side or name in position}
    rows = table.matrix.shape[0]
    require_memory(_NAME_BYTES * rows, f"{where}: {rows} rows", "give fewer rows")
    own = np.arange(rows).astype(str) if table.ids is None else as_values(table.ids).astype(str)
    ids = own if claims.ids is None else values(claims.ids).astype(str)
    taken = sorted(position[name] for name in claims.names() if name in position and name not in table.side)
    matrix, columns = without_columns(table.matrix, table.columns, taken)
    if not columns:
        raise ValueError(f"{where}: no column is left for the model; labels, ids and drop take all of them out")
    return Selection(matrix, columns, labels, ids, None if taken else table.image_shape)


def _column(matrix: Matrix, index: int) -> np.ndarray:
    return matrix[:, [index]].toarray().ravel() if is_sparse(matrix) else matrix[:, index].copy()


def without_columns(matrix: Matrix, columns: tuple[str, ...], taken: list[int]) -> tuple[Matrix, tuple[str, ...]]:
    if not taken:
        return matrix, columns
    keep = np.setdiff1d(np.arange(len(columns)), taken)
    return matrix[:, keep], tuple(columns[i] for i in keep)
