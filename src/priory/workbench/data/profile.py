"""Facts about the values of streamed rows, from one pass over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from priory.workbench.data.fingerprint import Fingerprint, RowsChecksum, in_form
from priory.workbench.data.reading.matrices import (
    Matrix,
    compacted,
    count_cells,
    crowded_between,
    ends_of,
    is_sparse,
    may_be_crowded,
    sample_rows,
)
from priory.workbench.data.summary import Summary, Tally


@dataclass(frozen=True)
class Profile:
    """The result of one pass over rows.

    Attributes:
        summary: summary of all values, also of columns left out later.
        fingerprint: fingerprint of the rows.
        cells: the number of 'missing' and 'infinite' values in each column.
        first: the first row with such a value, or -1.
        train_ends: minimum and maximum of each column over the training rows.
        crowded: indices of the columns in which float32 merges distinct values.
    """

    summary: Summary
    fingerprint: Fingerprint
    cells: Mapping[str, np.ndarray]
    first: Mapping[str, int]
    train_ends: tuple[np.ndarray, np.ndarray]
    crowded: np.ndarray

    def with_columns(self, which: Sequence[int]) -> Profile:
        """Return the profile of the same rows with these columns."""
        cells = {kind: counts[which] for kind, counts in self.cells.items()}
        low, high = self.train_ends
        crowded = np.flatnonzero(np.isin(which, self.crowded))
        return replace(self, cells=cells, train_ends=(low[which], high[which]), crowded=crowded)


def profile_of(
    x: Matrix,
    ids: np.ndarray,
    train: np.ndarray,
    what: str,
    *,
    precise: bool = False,
    sparse: bool | None = None,
) -> Profile:
    """Read all blocks of a stored matrix once, or twice if float32 merges values of a column.

    Args:
        x: a `StoredMatrix`.
        ids: ids of its rows.
        train: indices of the training rows, ascending.
        what: name of the data in messages.
        precise: whether values are kept in float64.
        sparse: whether to compute the fingerprint of the sparse form; None uses the form of the matrix.
    """
    tally, checksum = Tally(), RowsChecksum()
    cells = {kind: np.zeros(x.shape[1], dtype=np.int64) for kind in ("missing", "infinite")}
    first = dict.fromkeys(cells, -1)
    ends, train_ends, sample = _Ends(), _Ends(), []
    for start, block in zip(x.bounds[:-1].tolist(), x.blocks(), strict=True):
        values = compacted(block, what, precise=precise)
        tally.add(values.data if is_sparse(values) else values)
        checksum.add(values if sparse is None else in_form(values, sparse))
        for kind in cells:
            counts, row = count_cells(values, kind)
            cells[kind] += counts
            first[kind] = start + row if first[kind] < 0 <= row else first[kind]
        train_ends.add(values, _within(train, start, block.shape[0]))
        if may_be_crowded(block.dtype):
            ends.add(block, np.arange(block.shape[0]))
            sample.append(block[_within(sample_rows(len(x)), start, block.shape[0])])
    crowded = _crowded(ends, sample)
    if crowded.size and not precise:
        return profile_of(x, ids, train, what, precise=True, sparse=sparse)
    summary = tally.summary(x.shape, is_sparse=x.is_sparse)
    return Profile(summary, checksum.fingerprint(ids), cells, first, train_ends.of(x.shape[1]), crowded)


def _within(rows: np.ndarray, start: int, length: int) -> np.ndarray:
    """Return which of the sorted rows are in a block, counted from its start."""
    return rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + length)] - start


def _crowded(ends: _Ends, sample: list[Matrix]) -> np.ndarray:
    if not sample:
        return np.empty(0, dtype=np.int64)
    dense = [rows.toarray() if is_sparse(rows) else rows for rows in sample]
    return crowded_between(ends.low, ends.high, np.concatenate(dense))


class _Ends:
    """Minimum and maximum of each column over the rows added so far."""

    def __init__(self) -> None:
        self.low, self.high = np.array(np.nan), np.array(np.nan)

    def add(self, block: Matrix, rows: np.ndarray) -> None:
        if len(rows):
            low, high = ends_of(block, rows)
            self.low, self.high = np.fmin(self.low, low), np.fmax(self.high, high)

    def of(self, columns: int) -> tuple[np.ndarray, np.ndarray]:
        return np.broadcast_to(self.low, columns), np.broadcast_to(self.high, columns)
