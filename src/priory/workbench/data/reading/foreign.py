"""Calls of other libraries that read files. Their errors become ValueErrors with the file's name and a cure."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from priory._support.memory import NotEnoughMemoryError
from priory._support.messages import shortened

_LONGEST_REASON = 160


@contextmanager
def foreign(what: str, expected: str, cure: str) -> Iterator[None]:
    """Convert any error in the block to a ValueError; put only the call of the other library into it.

    A damaged file can make a library raise any exception. Errors of the operating system that name a file stay.

    >>> with foreign("x.json", "a JSON file", "write it again"):
    ...     raise KeyError("no such key")
    Traceback (most recent call last):
    ValueError: x.json: expected a JSON file, got a damaged file or another kind ('no such key'); write it again
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as those about old versions of a format
            yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None and error.errno is not None:
            raise
        lines = str(error).strip().splitlines()
        reason = shortened(lines[0] if lines else type(error).__name__, _LONGEST_REASON)
        if isinstance(error, MemoryError):
            raise NotEnoughMemoryError(f"{what}: there is not enough memory to read it ({reason})") from None
        raise ValueError(
            f"{what}: expected {expected}, got a damaged file or another kind ({reason}); {cure}"
        ) from None


def open_bytes(path: Path, *, zipped: bool) -> BinaryIO:
    """Open a file of bytes, gzipped or not; the caller closes it."""
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")
