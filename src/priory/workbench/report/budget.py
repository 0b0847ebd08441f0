"""Choose the parts of a map for the page, so that the file stays small enough to send and to open.

Places, ids and labels of all rows come first, then thumbnails of images, for a random subset if there are many rows.
Columns get the remaining bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from priory.workbench.report.encoding import Kind, Part, size

LIMIT = 10_000_000  # bytes of the whole file
_SPARE = 20_000  # bytes for keys and brackets
THUMBNAILS_SHARE = 0.7  # of the bytes left for thumbnails and columns
_MOST_PIXELS = 1 << 24  # of a sheet; phones decode no more
_LETTERS = 4 / 3  # base64 characters per byte
_SEED = 0


class Allowance:
    """The number of bytes left for the parts of a map, and notes on the parts left out."""

    def __init__(self, bytes_left: int) -> None:
        self.left = bytes_left - _SPARE
        self.notes: list[str] = []

    def take(self, part: Any) -> Any:
        """Subtract the size of a part, and return the part."""
        self.left -= size(part)
        return part

    def take_if_it_fits(self, part: Part, otherwise: str, *, keep: int = 0) -> Part | None:
        """Take the part; or add the note `otherwise` and return None if fewer than `keep` bytes would be left."""
        if size(part) <= self.left - keep:
            return self.take(part)
        self.notes.append(otherwise)
        return None


def column_kind(num_rows: int, num_columns: int, left: int) -> Kind:
    """Return the best precision at which all columns fit uncompressed; 8 bits if none fits.

    >>> column_kind(178, 13, 8_000_000), column_kind(100_000, 50, 8_000_000)
    ('f4', 'u1')
    """
    kinds: tuple[Kind, ...] = ("f4", "u2")
    letters = num_rows * num_columns * _LETTERS
    return next((kind for kind in kinds if letters * int(kind[1]) <= left), "u1")


def rows_that_fit(num_rows: int, left: int) -> np.ndarray:
    """Return the indices of the rows to draw, ascending: all rows, or a random subset of millions.

    The places of a row take at most 12 bytes; its labels and id take about as much again.
    """
    most = max(1, int(left / (24 * _LETTERS)))
    return seeded_subset(num_rows, min(most, num_rows))


def seeded_subset(num_rows: int, count: int) -> np.ndarray:
    """Return the indices of `count` distinct rows, ascending, drawn with a fixed seed."""
    if count >= num_rows:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(_SEED).choice(num_rows, count, replace=False))


def sheet_that_fits(make: Callable[[np.ndarray], Part], num_rows: int, left: int) -> tuple[np.ndarray, Part] | None:
    """Return the largest sheet of thumbnails of at most `left` bytes, with its rows; None if no row fits.

    `make` returns the sheet of the rows with given indices.
    """
    trial = make(seeded_subset(num_rows, 256))
    each = size(trial) / min(num_rows, 256)
    count = min(num_rows, int(left / each), _MOST_PIXELS // (trial["height"] * trial["width"]))
    while count > 0:
        chosen = seeded_subset(num_rows, count)
        sheet = make(chosen)
        if size(sheet) <= left:
            return chosen, sheet
        count = min(count - 1, int(0.97 * count * left / size(sheet)))
    return None
