"""Refuse missing and infinite values."""

from __future__ import annotations

import numpy as np

from priory._support.messages import shortened
from priory.workbench.data.dataset import Dataset
from priory.workbench.data.reading.matrices import count_cells

MAP_TAKES_GAPS = "; or fit a map, which accepts missing cells: priory gtm fit"
_LISTED_COLUMNS = 5
_MEANING = {"missing": "(NaN or empty cells)", "infinite": "(or beyond 3.4e38)"}


def require_complete(dataset: Dataset, *, or_else: str = "") -> None:
    """Refuse missing and infinite values; the advice about missing values ends with `or_else`."""
    _require_none(dataset, "missing", "fill them in", or_else)
    _require_none(dataset, "infinite", "fill them in")


def require_finite(dataset: Dataset) -> None:
    """Refuse infinite values, but not missing ones."""
    _require_none(dataset, "infinite", "leave these cells empty")


def _require_none(dataset: Dataset, kind: str, cure: str, or_else: str = "") -> None:
    known = dataset.known
    counts, row = count_cells(dataset.x, kind) if known is None else (known.cells[kind], known.first[kind])
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
