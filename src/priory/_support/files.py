"""Writing so that a file is whole or not there."""

import errno
import hashlib
import json
import math
import os
import platform
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
TEMPORARY = re.compile(r"\..+-[0-9a-f]{32}(\.[^.]+)?")  # the names that `_temporary` gives


@contextmanager
def replacing(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well and vanishes when it does not.

    A process that is killed leaves the temporary file; the next one that writes to `path` removes it. The name keeps
    the suffix, for writers that go by it. The block creates the file, so its permissions are those that the user's
    umask asks for.

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
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_those_of_the_dead(path)
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


def require_readable(path: Path, cure: str = TRAIN_AGAIN) -> None:
    """Open a file for a library that takes whatever keeps it from doing so for a file that is missing, as safetensors.

    Raises:
        OSError: it cannot be opened; the error names it, the system's reason and what to do.
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            cure = "change its permissions"
        raise type(error)(error.errno, f"cannot be read ({error.strerror}); {cure}", str(path)) from error


def not_a_folder(folders: Iterable[Path]) -> Path | None:
    """The first of these paths where something else stands than a folder.

    >>> not_a_folder([Path("/"), Path("nowhere")]) is None
    True
    """
    return next((path for path in folders if path.exists() and not path.is_dir()), None)


def _described(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"cannot be written ({reason}); {_CURES.get(error.errno or 0, _CURE)}, what was there before is as it was"


def remove_leftovers(folder: Path) -> None:
    """Remove all temporary files from a folder that nobody else writes to: what killed processes have left there."""
    for path in folder.glob(".*-*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name beside `path` that no other writer has: where and which the process is, and a random number."""
    return path.with_name(f".{path.stem}-{_here()}{os.getpid():08x}{token_hex(8)}{path.suffix}")


def _remove_those_of_the_dead(path: Path) -> None:
    """Remove the temporary files for `path` whose writers do not run any more, as far as they ran here."""
    ours = re.compile(re.escape(f".{path.stem}-{_here()}") + "([0-9a-f]{8})[0-9a-f]{16}" + re.escape(path.suffix))
    for name in os.listdir(path.parent):
        found = ours.fullmatch(name)
        if found and _is_dead(int(found[1], 16)):
            with suppress(OSError):  # another process was faster, or it is no file
                path.with_name(name).unlink()


def _here() -> str:
    """Where a process's number means something: this machine, and of its containers this one; eight digits."""
    namespace = ""
    with suppress(OSError):  # only Linux has it
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.blake2b(f"{platform.node()} {namespace}".encode(), digest_size=4).hexdigest()


def _is_dead(process: int) -> bool:
    if os.name == "nt":  # where os.kill would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's, or no number that we gave
        pass
    return False


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


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it holds something else.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of bytes that are no text, too
        raise ValueError(f"{path}: expected JSON, got other content ({error}); {TRAIN_AGAIN}") from None


def write_json(path: Path, tree: Any) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(tree) + "\n", encoding="utf-8")


def json_text(tree: Any) -> str:
    """Standard JSON, which has no NaN and no infinity: null stands for them.

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
