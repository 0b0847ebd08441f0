"""One process at a time writes into a run folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from priory._support.files import make_folder

try:
    import fcntl
except ModuleNotFoundError:  # Windows: nothing is held there
    fcntl = None  # type: ignore[assignment]

_HELD: set[tuple[int, int]] = set()  # by this process: device and inode
_LOCKS = Path("/proc/locks")  # Linux's list of them


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is missing, against other processes that would write into it too.

    The lock is the kernel's, on the folder itself: it leaves no file, and a process that dies, in whatever way, has
    given it back. The process that holds it may take it again. Reading needs none, because every file is whole or not
    there. Where the system or the file system has no such lock (Windows, some network file systems), nothing is held.

    Raises:
        BlockingIOError: another process holds it; the message has its pid where the system tells.
        OSError: the folder cannot be made or read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, sole_writer(Path(folder)), sole_writer(Path(folder)):
    ...     pass
    """
    make_folder(folder)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)  # not inherited by the processes that this one starts
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
    """Whether the folder is held now; not, where the file system cannot."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(os.fstat(descriptor).st_ino)
        who = "another priory process" + (f" (pid {holder})" if holder else "")
        message = f"{who} is writing to this folder; wait until it has ended, or choose another folder"
        raise BlockingIOError(errno.EWOULDBLOCK, message, str(folder)) from None
    except OSError:
        return False
    return True


def _holder(inode: int) -> int | None:
    """The process that holds a lock of this kind on a file, as far as the system tells."""
    try:
        lines = [line.split() for line in _LOCKS.read_text().splitlines()]
    except OSError:  # not Linux
        return None
    # as in `1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF`: process, device and inode; 0 is a process out of sight
    holders = {int(line[4]) for line in lines if line[1] == "FLOCK" and line[5].split(":")[-1] == str(inode)}
    return holders.pop() or None if len(holders) == 1 else None
