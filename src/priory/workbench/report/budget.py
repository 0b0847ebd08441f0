"""What of a map goes into the page, so that the file stays small enough to be sent and opened.

All rows have their place, id and labels, as far as any file can hold them; then images get thumbnails, for a seeded
subset of the rows where there are many; what is left goes to the columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from priory.workbench.report.encoding import Kind, Part, size

LIMIT = 10_000_000  # bytes of the whole file
_SPARE = 20_000  # names of keys, brackets
THUMBNAILS_SHARE = 0.7  # of what is left to an image's thumbnails and columns
_MOST_PIXELS = 1 << 24  # of a sheet: more is more than a phone decodes
_EXACT_PLACES = 200_000  # rows; of more, places are known to a 65535th of the map
_LETTERS = 4 / 3  # of base64 for each byte
_SEED = 0


class Allowance:
    """How many bytes are left, and what had to be left out for it.

    Args:
        bytes_left: for the map's parts.
    """

    def __init__(self, bytes_left: int) -> None:
        self.left = bytes_left - _SPARE
        self.notes: list[str] = []

    def take(self, part: Any) -> Any:
        """The part, paid for."""
        self.left -= size(part)
        return part

    def take_if_it_fits(self, part: Part, otherwise: str, *, keep: int = 0) -> Part | None:
        """The part, or None and a note, if less than so many bytes would be kept for what must come after it."""
        if size(part) <= self.left - keep:
            return self.take(part)
        self.notes.append(otherwise)
        return None


def place_kind(num_rows: int) -> Kind:
    """The precision of the rows' places."""
    return "f4" if num_rows <= _EXACT_PLACES else "u2"


def column_kind(num_rows: int, num_columns: int, left: int) -> Kind:
    """The best precision at which all columns fit, uncompressed; 8 bits if none does.

    >>> column_kind(178, 13, 8_000_000), column_kind(100_000, 50, 8_000_000)
    ('f4', 'u1')
    """
    kinds: tuple[Kind, ...] = ("f4", "u2")
    letters = num_rows * num_columns * _LETTERS
    return next((kind for kind in kinds if letters * int(kind[1]) <= left), "u1")


def rows_that_fit(num_rows: int, left: int) -> np.ndarray:
    """Which rows are drawn: all, or of millions a seeded subset, in order.

    A row's places take 12 bytes at the most, its labels and id about as much again.
    """
    most = max(1, int(left / (24 * _LETTERS)))
    return seeded_subset(num_rows, min(most, num_rows))


def seeded_subset(num_rows: int, count: int) -> np.ndarray:
    """So many different rows, drawn with a seed of its own, in order."""
    if count >= num_rows:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(_SEED).choice(num_rows, count, replace=False))


def sheet_that_fits(make: Callable[[np.ndarray], Part], num_rows: int, left: int) -> tuple[np.ndarray, Part] | None:
    """The largest sheet of thumbnails of at most so many bytes, and the rows it shows; None where not one fits.

    Args:
        make: the sheet of these rows.
        num_rows: how many there are.
        left: bytes for the sheet.
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
