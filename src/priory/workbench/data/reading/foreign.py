"""Calls into other libraries that read files: what they raise for bytes that they cannot read becomes one of ours."""

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
    """Hold nothing but the call of a foreign library: a damaged file can make it raise anything at all.

    Args:
        what: the file, as messages name it.
        expected: what should have been in it.
        cure: what to do.

    Raises:
        ValueError: the library raised, whatever it was.
        NotEnoughMemoryError: there was no memory for what the file claims to hold.
        OSError: the system refused; the error names the file.

    >>> with foreign("x.json", "a JSON file", "write it again"):
    ...     raise KeyError("no such key")
    Traceback (most recent call last):
    ValueError: x.json: expected a JSON file, got a damaged file or another kind ('no such key'); write it again
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats of old versions and the like
            yield
    except MemoryError as error:
        raise NotEnoughMemoryError(f"{what}: there is not enough memory to read it ({_reason(error)})") from None
    except OSError as error:
        if error.filename is not None and error.errno is not None:
            raise
        raise _unreadable(what, expected, cure, error) from None
    except Exception as error:
        raise _unreadable(what, expected, cure, error) from None


def _unreadable(what: str, expected: str, cure: str, error: Exception) -> ValueError:
    return ValueError(f"{what}: expected {expected}, got a damaged file or another kind ({_reason(error)}); {cure}")


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shortened(lines[0] if lines else type(error).__name__, _LONGEST_REASON)


def open_bytes(path: Path, *, zipped: bool) -> BinaryIO:
    """A file's bytes, decompressed where it is gzipped, for the caller to close."""
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")
