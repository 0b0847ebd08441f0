"""A lock that lets only one process write into a run folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from priory._support.files import make_folder

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

_HELD: set[tuple[int, int]] = set()  # folders that this process holds: device and inode


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder, so that no other process can write into it; the folder is created if it is missing.

    It is a kernel lock on the folder itself: it needs no file, and ends with the process. The process that holds it may
    take it again. Readers need no lock, because every file is complete or absent. If the system or the file system has
    no such locks (Windows, some network file systems), nothing is locked.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the folder cannot be created or read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, sole_writer(Path(folder)), sole_writer(Path(folder)):
    ...     pass
    """
    make_folder(folder)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # child processes do not inherit it
    try:
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino)
        if key in _HELD or not _locked(descriptor, folder):
            yield
            return
        _HELD.add(key)
        try:
            yield
        finally:
            _HELD.remove(key)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, folder: Path) -> bool:
    """Lock the folder; return False if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = "another priory process is writing to this folder; wait until it has ended, or choose another folder"
        raise BlockingIOError(errno.EWOULDBLOCK, message, str(folder)) from None
    except OSError:
        return False
    return True
