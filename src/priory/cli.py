"""The command line: runs what was typed, and what the user can mend is one line on stderr, not a traceback.

What takes time to import is imported when `main` is ready for Ctrl-C.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from priory.messages import shortened

INTERRUPTED = 130  # 128 + 2, as a shell reports a process that SIGINT ended
_NO_MEMORY = "DefaultCPUAllocator"  # torch has no class of its own for it on the CPU


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and exit code 2, not a traceback."""
    with _ending_at_once():
        from priory.options import app
        from priory.usage import UsageError, describe_usage_error
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments, standalone_mode=False)
    except UsageError as error:
        _refuse(describe_usage_error(error, arguments))
    except (ValueError, OSError, ImportError, MemoryError, ArithmeticError, RuntimeError) as error:
        if not _can_be_mended(error):
            raise
        _refuse(_plain(error))
    except KeyboardInterrupt:  # before typer, which turns it into the code, has begun to run the command
        code = INTERRUPTED
    sys.exit(code)


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Ctrl-C ends the process without a word: for imports, which take seconds and where nothing has begun.

    An exception would do no better: libraries swallow it, or print it where they cannot raise it.
    """
    before = signal.getsignal(signal.SIGINT)
    mine = before is signal.default_int_handler  # not where a shell's background job ignores it
    if not mine or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _refuse(message: str) -> NoReturn:
    from rich.markup import escape

    from priory.terminal import errors

    errors.print(f"[bold red]Error:[/] {escape(_one_line(message))}", style=None)
    sys.exit(2)


def _can_be_mended(error: BaseException) -> bool:
    """Of runtime errors, only a diverged training and a machine that ran out of memory are the user's to mend."""
    if not isinstance(error, RuntimeError):
        return True
    from torch import OutOfMemoryError

    from priory.training import NonFiniteLossError

    return isinstance(error, (NonFiniteLossError, OutOfMemoryError)) or _NO_MEMORY in str(error)


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{shortened(str(error.filename), 300)}: {error.strerror}"
    if _NO_MEMORY in str(error) or type(error) is MemoryError:
        return f"memory: there is not enough ({error}); take fewer rows or columns, or a smaller model"
    return " ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])


def _one_line(message: str) -> str:
    """Without line breaks, and without what a file's or a column's name could do to a terminal."""
    text = " ".join(message.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
