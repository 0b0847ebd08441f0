"""Refuse missing and infinite values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from priory._support.messages import shortened
from priory.workbench.data.dataset import Dataset
from priory.workbench.data.reading.matrices import Matrix, is_sparse, stored_values

MAP_TAKES_GAPS = "; or fit a map, which takes rows with missing cells: priory gtm fit"
_LISTED_COLUMNS = 5
_MEANING = {"missing": "(NaN or empty cells)", "infinite": "(or beyond 3.4e38)"}


def require_complete(dataset: Dataset, *, or_else: str = "") -> None:
    """Refuse missing and infinite values; `or_else` ends the advice about missing ones."""
    _require_none(dataset, "missing", np.isnan, "fill them in", or_else)
    _require_none(dataset, "infinite", np.isinf, "fill them in")


def require_finite(dataset: Dataset) -> None:
    """Refuse infinite values; missing ones may stay."""
    _require_none(dataset, "infinite", np.isinf, "leave these cells empty")


def _require_none(
    dataset: Dataset, kind: str, test: Callable[[np.ndarray], np.ndarray], cure: str, or_else: str = ""
) -> None:
    if dataset.x.dtype.kind != "f":
        return
    counts, row = _count(dataset.x, test)
    columns = np.flatnonzero(counts)
    if not columns.size:
        return
    names = ", ".join(f"{shortened(dataset.columns[i])!r} ({counts[i]})" for i in columns[:_LISTED_COLUMNS])
    more = ", ..." if columns.size > _LISTED_COLUMNS else ""
    number = f"{counts.sum()} {kind} value{'s' if counts.sum() > 1 else ''} {_MEANING[kind]}"
    raise ValueError(
        f"{dataset.origin}: expected a finite number in every cell, got {number} in {columns.size} of {len(counts)} "
        f"columns: {names}{more}, the first in row {row + 1} (id {shortened(str(dataset.ids[row]))!r}); {cure}, remove "
        f"these rows, or leave the columns out with --drop{or_else}"
    )


def _count(matrix: Matrix, test: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, int]:
    """Count the values that pass the test in each column, and find the first row that has one (-1 if none has)."""
    if is_sparse(matrix):
        places = np.flatnonzero(test(matrix.data))
        counts = np.bincount(matrix.indices[places], minlength=matrix.shape[1])
        return counts, int(np.searchsorted(matrix.indptr, places[0], side="right")) - 1 if places.size else -1
    counts, first, start = np.zeros(matrix.shape[1], dtype=np.int64), -1, 0
    for block in stored_values(matrix):
        passing = test(block)
        counts += passing.sum(axis=0)
        if first < 0 and passing.any():
            first = start + int(passing.any(axis=1).argmax())
        start += len(block)
    return counts, first
