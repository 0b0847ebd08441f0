"""Files that are complete or absent, also after a crash."""

import errno
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from priory._support.messages import TRAIN_AGAIN

_CURE = "name another place"
_CURES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space on the disk, or name another place") | (
    dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "name a folder that you may write to")
)
TEMPORARY = re.compile(r"\.(.+)-[0-9a-f]{32}(\.[^.]+)?")  # the names that `_temporary` gives: stem and suffix


@contextmanager
def replacing(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` if the block succeeds, else remove it.

    A killed process leaves its temporary file; see `remove_leftovers`. The temporary name has the same suffix, because
    some writers choose a format by it. The block creates the file, so it gets the permissions of the user's umask.

    Args:
        path: the file to write; its folder is created if it is missing.
        durable: also survive a power failure. This waits twice for the disk: for the bytes before the file gets its
            name, and for the name before the block ends. So of two files, the second never exists without the first.
            Without this, a file survives the end of the process, but not always that of the machine.

    Raises:
        OSError: the disk is full, the folder is not writable, ...; the old file is unchanged. The message has the name
            of the file and advice.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    temporary = _temporary(path)
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
            raise  # the error is about another file
        raise type(error)(error.errno, _described(error), str(path)) from error
    finally:
        with suppress(OSError):  # a missing folder was reported above
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, if they are missing.

    Raises:
        OSError: it cannot be created; the message has its name and advice.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(error.errno, _described(error), str(folder)) from error


def require_readable(path: Path, cure: str = TRAIN_AGAIN) -> None:
    """Check that a file can be opened; safetensors would report any file that it cannot open as missing.

    Raises:
        OSError: it cannot be opened; the message has its name, the system's reason and advice.
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            cure = "change its permissions"
        raise type(error)(error.errno, f"cannot be read ({error.strerror}); {cure}", str(path)) from error


def not_a_folder(folders: Iterable[Path]) -> Path | None:
    """Return the first of these paths that exists and is not a folder.

    >>> not_a_folder([Path("/"), Path("nowhere")]) is None
    True
    """
    return next((path for path in folders if path.exists() and not path.is_dir()), None)


def _described(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"cannot be written ({reason}); {_CURES.get(error.errno or 0, _CURE)}; the previous content is unchanged"


def remove_leftovers(folder: Path, of: Path | None = None) -> None:
    """Remove the temporary files that killed processes left; call it while holding the folder, see `sole_writer`.

    Args:
        folder: where they are.
        of: remove only the temporary files of this path.
    """
    for path in folder.glob(".*-*"):
        name = TEMPORARY.fullmatch(path.name)
        if name and (of is None or (name[1], name[2] or "") == (of.stem, of.suffix)) and path.is_file():
            path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Return a name beside `path` that no other writer uses."""
    return path.with_name(f".{path.stem}-{token_hex(16)}{path.suffix}")


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, if the system supports this."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # the file system does not support it
            raise
    finally:
        os.close(descriptor)


def read_json(path: Path, cure: str = TRAIN_AGAIN) -> Any:
    """Read a JSON file; `cure` is the end of the message if it cannot be read.

    Raises:
        ValueError: it has other content.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also for bytes that are not text
        raise ValueError(f"{path}: expected JSON, got other content ({error}); {cure}") from None


def write_json(path: Path, tree: Any) -> None:
    """Write JSON; a crash leaves no partial file."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(tree) + "\n", encoding="utf-8")


def json_text(tree: Any) -> str:
    """Return standard JSON, with null for NaN and infinity.

    >>> json_text([1.5, float("nan")]).split()
    ['[', '1.5,', 'null', ']']
    """
    return json.dumps(_standard(tree), indent=2, allow_nan=False)


def _standard(tree: Any) -> Any:
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, dict):
        return {key: _standard(value) for key, value in tree.items()}
    return [_standard(value) for value in tree] if isinstance(tree, (list, tuple)) else tree
