"""Rows that stay in their files: one pass over them for a run, and their binarization."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from priory.rows import StoredMatrix
from priory.workbench.data.binarize import draw_rows, unit_scale
from priory.workbench.data.fingerprint import checksum_of_files
from priory.workbench.data.profile import Profile, profile_of
from priory.workbench.data.reading.matrices import compacted
from priory.workbench.data.reading.stored import require_columns_of_numbers
from priory.workbench.data.rows_to_load import RowsToLoad, Values
from priory.workbench.data.shards import shards_of


def streamed(rows: RowsToLoad, path: Path) -> Values:
    """Make a pass over the values, unless a run recorded them and the files are unchanged."""
    x, recorded, profile = rows.selection.matrix, rows.recorded, None
    require_columns_of_numbers(x, rows.origin)
    files = _files_checksum(path)
    if recorded is None or recorded.fingerprint.files != files:
        profile = _profile(rows)
        fingerprint = replace(profile.fingerprint, files=files)
        if recorded is not None:
            recorded.require_equal(fingerprint, rows.origin)
    else:
        fingerprint = recorded.fingerprint
    x = x.holding(partial(compacted, what=rows.origin, precise=rows.precise))
    if rows.binarize == "none":
        return Values(x, None, fingerprint, profile)
    if x.is_sparse:
        raise ValueError(
            f"binarize: expected dense rows, because {rows.origin} is read in parts, got a sparse matrix; write it "
            "dense, binarize it yourself, or give fewer rows"
        )
    scale = rows.binarize_scale
    if profile is not None or scale is None:
        scale = unit_scale((profile or _profile(rows)).summary, scale)
    return Values(BinarizedMatrix(x, scale, rows.means), scale, fingerprint)


def _profile(rows: RowsToLoad) -> Profile:
    was = None if rows.recorded is None else rows.recorded.fingerprint
    return profile_of(
        rows.selection.matrix,
        rows.selection.ids,
        rows.splits["train"],
        rows.origin,
        precise=rows.precise,
        sparse=None if was is None else was.sparse,
    )


def _files_checksum(path: Path) -> str:
    files = shards_of(path)
    if path.is_dir() and files == [path]:
        files = sorted(file for file in path.rglob("*") if file.is_file())
    return checksum_of_files(files)


class BinarizedMatrix(StoredMatrix):
    """A stored matrix of draws of 0 and 1 from gray values; the draws equal those of `binarized` in memory.

    Args:
        matrix: the gray values, dense.
        scale: the value that becomes mean 1.
        means: rows that keep means in [0, 1] instead.
    """

    def __init__(self, matrix: StoredMatrix, scale: float, means: np.ndarray | None) -> None:
        super().__init__(matrix.shape, np.dtype(np.float32), matrix.bounds, 4.0 * matrix.shape[1])
        self._matrix, self._scale = matrix, scale
        self._means = np.empty(0, dtype=np.int64) if means is None else means
        self._which: np.ndarray | slice = slice(None)

    def decode(self, block: int) -> np.ndarray:
        start, stop = self.bounds[block : block + 2].tolist()
        first, last = np.searchsorted(self._means, [start, stop])
        keep = np.zeros(stop - start, dtype=bool)
        keep[self._means[first:last] - start] = True
        return draw_rows(self._matrix.decode(block), self._scale, keep, first_row=start)[:, self._which]

    def with_columns(self, which: Sequence[int]) -> BinarizedMatrix:
        other: Any = copy(self)
        other._which = np.arange(self._matrix.shape[1])[self._which][np.asarray(which)]
        other.shape = (self.shape[0], len(which))
        return other
