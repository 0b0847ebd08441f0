"""The command line: runs what was typed, and what the user can mend is one line on stderr, not a traceback."""

import sys
from typing import NoReturn

from rich.markup import escape

from priory.messages import shortened
from priory.options import app
from priory.terminal import errors
from priory.usage import UsageError, describe_usage_error

_NO_MEMORY = "DefaultCPUAllocator"  # torch has no class of its own for it on the CPU


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and exit code 2, not a traceback."""
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments, standalone_mode=False)
    except UsageError as error:
        _refuse(describe_usage_error(error, arguments))
    except (ValueError, OSError, ImportError, MemoryError, ArithmeticError, RuntimeError) as error:
        if not _can_be_mended(error):
            raise
        _refuse(_plain(error))
    sys.exit(code)


def _refuse(message: str) -> NoReturn:
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
