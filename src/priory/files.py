"""Writing so that a file is whole or not there."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

_CURE = "name another place"
_CURES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space on the disk, or name another place") | (
    dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "name a folder that you may write to")
)
TEMPORARY = re.compile(r"\..+-[0-9a-f]{32}(\.[^.]+)?")  # the names that `replacing` gives


@contextmanager
def replacing(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well and vanishes when it does not.

    The name keeps the suffix, for writers that go by it. The block creates the file, so its permissions are those that
    the user's umask asks for.

    Args:
        path: where the file is to stand; its folder is made if it is missing.
        durable: whether it must survive a power cut as well, which costs two waits for the disk: the file's bytes
            reach it before the file takes its name, and the name before the block ends. So of two files, the second is
            never there without the first. A killed process alone loses nothing that was written, durable or not.

    Raises:
        OSError: the disk is full, the folder may not be written to, ...; what stood there before still does, and the
            error names the file and what to do.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        if error.filename not in (None, str(temporary), temporary, str(path.parent)):
            raise  # of another file, which the block was reading
        raise type(error)(error.errno, _described(error), str(path)) from error
    finally:
        with suppress(OSError):  # that there is no such folder has been said
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where it is missing.

    Raises:
        OSError: it cannot be made; the error names it and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(error.errno, _described(error), str(folder)) from error


def _described(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"cannot be written ({reason}); {_CURES.get(error.errno or 0, _CURE)}, what was there before is as it was"


def remove_leftovers(folder: Path, stem: str = "*") -> None:
    """Remove the temporary files that a process which was killed while it wrote has left in a folder, for this stem."""
    for path in folder.glob(f".{stem}-*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, on systems that can say so."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # what file systems say that cannot
            raise
    finally:
        os.close(descriptor)
