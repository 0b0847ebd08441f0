"""The command line. An error that the user can correct is one line on stderr, not a traceback.

Slow imports come after `main` has prepared for Ctrl-C.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from priory._support.memory import limited_to_available_memory
from priory.workbench.cli.errors import MENDABLE, can_be_mended, described_warning, one_line, said_in_a_line

INTERRUPTED = 130  # 128 + 2, as a shell reports a process that SIGINT ended


def main() -> None:
    """Run the command line. An error that the user can correct is one line on stderr with exit code 2."""
    with _ending_at_once():
        try:
            from typer.exceptions import TyperException

            from priory.workbench.cli.app import app
            from priory.workbench.cli.usage import describe_usage_error
        except ModuleNotFoundError as error:
            raise SystemExit(f"Error: {said_in_a_line(error)}") from None
    arguments = sys.argv[1:] or ["--help"]
    try:
        with limited_to_available_memory(), _warnings_in_a_line():
            code = app(arguments, standalone_mode=False)
    except TyperException as error:
        _refuse(describe_usage_error(error, arguments))
    except MENDABLE as error:
        if not can_be_mended(error):
            raise
        _refuse(said_in_a_line(error))
    except KeyboardInterrupt:  # before the command runs; later, typer turns it into the exit code
        code = INTERRUPTED
    sys.exit(code)


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process silently during imports, which take seconds; nothing has begun yet.

    An exception would not help: some libraries swallow it, or print it if they cannot raise it.
    """
    before = signal.getsignal(signal.SIGINT)
    mine = before is signal.default_int_handler  # false if a shell's background job ignores the signal
    if not mine or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Print each warning once, in one line, without its place in the source."""
    printed = set()

    def say(message: Warning | str, *place: Any) -> None:
        from priory.workbench.cli.terminal import say_on_stderr

        line = described_warning(str(message))
        if line not in printed:
            printed.add(line)
            say_on_stderr(("note:", "yellow"), f" {line}")

    with warnings.catch_warnings():
        warnings.showwarning = say  # type: ignore[assignment]
        yield


def _refuse(message: str) -> NoReturn:
    from priory.workbench.cli.terminal import say_on_stderr

    say_on_stderr(("Error:", "bold red"), f" {one_line(message)}")
    sys.exit(2)
