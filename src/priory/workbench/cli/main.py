"""The command line: runs what was typed, and what the user can mend is one line on stderr, not a traceback.

What takes time to import is imported when `main` is ready for Ctrl-C.
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
    """Run the command line; what the user can mend is one line on stderr and exit code 2, not a traceback."""
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


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Say each warning once, in a line of its own, without the place in the source."""
    said = set()

    def say(message: Warning | str, *place: Any) -> None:
        from priory.workbench.cli.terminal import say_on_stderr

        line = described_warning(str(message))
        if line not in said:
            said.add(line)
            say_on_stderr(("note:", "yellow"), f" {line}")

    with warnings.catch_warnings():
        warnings.showwarning = say  # type: ignore[assignment]
        yield


def _refuse(message: str) -> NoReturn:
    from priory.workbench.cli.terminal import say_on_stderr

    say_on_stderr(("Error:", "bold red"), f" {one_line(message)}")
    sys.exit(2)
