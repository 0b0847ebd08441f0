"""The content of a file, and the function that removes labels, ids and dropped columns from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from priory._support.cells import as_text
from priory._support.memory import require_memory
from priory._support.messages import nearest, shortened
from priory.workbench.data.reading.frames import is_frame, numbers_of
from priory.workbench.data.reading.matrices import Matrix, checked_csr, is_sparse, is_stored

_LISTED_NAMES = 12  # number of names in an error message
_SHOWN_CHANGES = 3
_NAME_BYTES = 100  # per name of a row or a column
_STORED_ROW_BYTES = 30  # per row that stays in its file: its number, split and position in the order


@dataclass(frozen=True)
class Claims:
    """The columns to remove from the matrix, and the layer to read instead of the matrix.

    `optional` contains the names of the arguments (labels, ids, drop, layer) whose columns a file may lack.
    """

    labels: tuple[str, ...] = ()
    ids: str | None = None
    drop: tuple[str, ...] = ()
    layer: str | None = None
    optional: frozenset[str] = frozenset()
    conditions: tuple[str, ...] = ()

    def by_option(self) -> list[tuple[str, str]]:
        """Return (option, column) pairs in the order in which they are checked."""
        ids = [] if self.ids is None else [("ids", self.ids)]
        labels = [("labels", name) for name in self.labels] + [("conditions", name) for name in self.conditions]
        return labels + ids + [("drop", name) for name in self.drop]

    def names(self) -> set[str]:
        return {name for _, name in self.by_option()}


@dataclass(frozen=True)
class Table:
    """The content of a file, as a reader returns it. `select` removes labels, ids and dropped columns.

    Attributes:
        matrix: (rows, columns): a NumPy array, a sparse scipy matrix, a pandas DataFrame, whose columns may contain
            text, or a `StoredMatrix`; None if the file has only layers.
        columns: a name for each column; by default those of the DataFrame, or x0, x1, ...
        side: columns outside the matrix, with one value per row; the user may choose labels and ids among them.
        default_labels: side columns that are the labels if the user names none.
        ids: a name for each row; by default its number.
        splits: indices of the rows of 'train', 'valid' and 'test', if the file has splits.
        image_shape: (height, width) if each row is a gray image.
        written: columns of the matrix as text in the file, such as 007 for 7; ids come from here.
        layers: matrices to read instead of `matrix`, by name; None if the format has no layers.
        notes: how the file was read, if there was more than one way.
        decimal: the decimal mark of a table of text; None for other formats.
    """

    matrix: Any
    columns: tuple[str, ...] | None = None
    side: Mapping[str, Any] = field(default_factory=dict)
    default_labels: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    splits: dict[str, np.ndarray] | None = None
    image_shape: tuple[int, int] | None = None
    written: Mapping[str, np.ndarray] = field(default_factory=dict)
    layers: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    decimal: str | None = None

    @classmethod
    def of_frame(cls, frame: Any) -> Table:
        """Make a table of a pandas DataFrame; its index becomes the ids, unless it is just 0, 1, 2, ..."""
        index = frame.index
        counts = type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
        return cls(frame, ids=None if counts else as_values(index))


@dataclass(frozen=True)
class Selection:
    """The result of `select`. `numbered` is true if `ids` are just the numbers of the rows."""

    matrix: Matrix
    columns: tuple[str, ...]
    labels: dict[str, np.ndarray]
    ids: np.ndarray
    image_shape: tuple[int, int] | None
    notes: tuple[str, ...]
    numbered: bool


def select(table: Table, claims: Claims, where: str) -> Selection:
    """Select the layer, and remove labels, ids and dropped columns from the matrix; messages call the data `where`."""
    matrix = _layer(table, claims, where)
    rows, width = matrix.shape
    if not rows or not width:
        raise ValueError(f"{where}: expected at least one row and one column, got {rows} x {width}")
    # a sparse matrix or a compressed file may declare many more rows and columns than it has values
    row_bytes = _STORED_ROW_BYTES if is_stored(matrix) else _NAME_BYTES
    require_memory(row_bytes * rows + _NAME_BYTES * width, f"{where}: {rows} rows x {width} columns")
    columns, renamed = unique_names(table.columns or _own_names(matrix))
    if is_sparse(matrix) and not is_frame(matrix):
        matrix = checked_csr(matrix, where)
    _require_columns(table, columns, claims, where)
    position = {name: i for i, name in enumerate(columns)}
    label_names = claims.labels or tuple(name for name in table.default_labels if name not in claims.drop)
    label_names = tuple(dict.fromkeys((*label_names, *claims.conditions)))

    def values(name: str) -> np.ndarray:
        return as_values(table.side[name]) if name in table.side else _column(matrix, position[name])

    labels = {name: values(name) for name in label_names if name in table.side or name in position}
    ids = np.arange(rows, dtype=np.min_scalar_type(rows)) if table.ids is None else as_values(table.ids)
    named = claims.ids if claims.ids in table.side or claims.ids in position else None
    if named is not None:
        ids = table.written[named] if named in table.written else values(named)
    taken = claims.names() & position.keys() - table.side.keys()
    left = [i for i, name in enumerate(columns) if name not in taken]
    if not left:
        raise ValueError(f"{where}: no column is left for the model; labels, ids and drop remove all of them")
    if taken:
        matrix = matrix.iloc[:, left] if is_frame(matrix) else matrix[:, left]
    if is_frame(matrix):
        matrix = numbers_of(matrix, [columns[i] for i in left], where, table.decimal)
    image_shape = None if taken else table.image_shape
    notes = (*table.notes, renamed) if renamed else table.notes
    if not (is_stored(matrix) and ids.dtype.kind in "iu"):  # text takes ten times the memory of numbers
        ids = as_text(ids)
    numbered = named is None and (table.ids is None or _count_from_zero(ids))
    return Selection(matrix, tuple(columns[i] for i in left), labels, ids, image_shape, notes, numbered)


def _count_from_zero(ids: np.ndarray) -> bool:
    numbers = np.arange(len(ids))
    return np.array_equal(ids, numbers if ids.dtype.kind in "iu" else numbers.astype(str))


def _own_names(matrix: Any) -> tuple[str, ...]:
    return tuple(map(str, matrix.columns)) if is_frame(matrix) else default_columns(matrix.shape[1])


def _layer(table: Table, claims: Claims, where: str) -> Any:
    layers = table.layers or {}
    if claims.layer is not None and claims.layer in layers:
        return layers[claims.layer]
    if claims.layer is not None and "layer" not in claims.optional:
        if table.layers is None:
            raise ValueError(f"layer: expected an .h5ad file, got {where!r}; leave --layer out")
        raise ValueError(f"layer: expected one of {where}'s layers ({listed(layers)}), got {claims.layer!r}")
    if table.matrix is None:
        raise ValueError(f"{where}: expected a matrix X, got none; name a layer with --layer ({listed(layers)})")
    return table.matrix


def _require_columns(table: Table, columns: Sequence[str], claims: Claims, where: str) -> None:
    """Refuse columns that do not exist, or cannot be dropped, unless they are optional."""
    known = [*table.side, *columns]
    names = set(known)
    for option, name in claims.by_option():
        if name in names or option in claims.optional:
            continue
        close = nearest(name, known)
        hint = f"did you mean {close!r}?" if close else f"its columns are {listed(known)}"
        raise ValueError(
            f"{option}: expected a column of {where}, got {shortened(name)!r}, which it does not have; {hint}"
        )
    for name in claims.drop:
        if name in table.side and name not in table.default_labels and "drop" not in claims.optional:
            raise ValueError(f"drop: {name!r} is not a column of the matrix, so it need not be dropped; leave it out")


def _column(matrix: Any, index: int) -> np.ndarray:
    if is_frame(matrix):
        return as_values(matrix.iloc[:, index])
    if is_stored(matrix):
        return as_values(matrix.column(index))
    return matrix[:, [index]].toarray().ravel() if is_sparse(matrix) else matrix[:, index].copy()


def default_columns(count: int) -> tuple[str, ...]:
    """Return the names x0, x1, ..."""
    return tuple(f"x{i}" for i in range(count))


def unique_names(names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Make names unique, and describe the changes; an empty first name marks row names and stays.

    >>> unique_names(["a", "a", "b", ""])
    (('a', 'a.1', 'b', 'column_3'), "columns of the same name renamed: 'a' (2 times; now a, a.1, ...)")
    """
    unique: list[str] = []
    taken: set[str] = set()
    times: dict[str, int] = {}
    for i, name in enumerate(names):
        base = name or ("" if i == 0 else f"column_{i}")
        candidate = base
        while candidate in taken:
            times[base] = times.get(base, 1) + 1
            candidate = f"{base}.{times[base] - 1}"
        taken.add(candidate)
        unique.append(candidate)
    if not times:
        return tuple(unique), ""
    shown = [f"{shortened(name)!r} ({number} times; now {name}, {name}.1, ...)" for name, number in times.items()]
    more = f", ... ({len(shown)} names)" if len(shown) > _SHOWN_CHANGES else ""
    return tuple(unique), f"columns of the same name renamed: {', '.join(shown[:_SHOWN_CHANGES])}{more}"


def listed(names: Iterable[str]) -> str:
    """List names for an error message; shorten a long list."""
    names = list(names)
    text = ", ".join(repr(shortened(str(name))) for name in names[:_LISTED_NAMES])
    return f"{text}, ... ({len(names)} in all)" if len(names) > _LISTED_NAMES else text or "none"


def as_values(values: Any) -> np.ndarray:
    """Convert labels to an array of numbers, or of text with '' for missing labels; never of Python objects."""
    array = np.asarray(values)
    return array if array.dtype.kind in "iuf" else as_text(values)
