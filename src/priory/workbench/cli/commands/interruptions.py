"""The advice after an interruption or a failed training."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from priory.training import LostProcessError, NonFiniteLossError
from priory.training.trainer import SIGTERM_EXIT
from priory.workbench.cli.terminal import say_on_stderr
from priory.workbench.runs.config import CONFIG
from priory.workbench.runs.vae_run import Run


@contextmanager
def saying_how_to_go_on(out: Path, line: str | None = None) -> Iterator[None]:
    """After an interruption or a failed training, print the next step: `line`, or advice that depends on `out`."""
    try:
        yield
    except KeyboardInterrupt:
        say_on_stderr(f"interrupted; {line or how_to_go_on(out)}")
        raise
    except SystemExit as stop:
        if stop.code == SIGTERM_EXIT:
            say_on_stderr(f"terminated; {line or how_to_go_on(out)}")
        raise
    except LostProcessError as error:
        error.add_note(line or how_to_go_on(out))
        raise
    except NonFiniteLossError as error:
        run = Run.open(out)
        evaluate = "the epochs before it are kept: priory evaluate " + shlex.quote(str(out))
        rate = run.settings.training.learning_rate
        error.add_note(
            f"{out}: {evaluate if run.begun else 'nothing is kept'}. --resume would fail again, because a run's "
            "settings are fixed; begin another run, with another --out and for example "
            f"--set training.learning_rate={rate / 10:g} or a lower training.gradient_clip"
        )
        raise


@contextmanager
def exiting_on_sigterm() -> Iterator[None]:
    """Raise SystemExit at SIGTERM inside the block: the workers end, and the next step is printed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(SIGTERM_EXIT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def how_to_go_on(out: Path) -> str:
    """Return the next step for a folder whose run has not ended."""
    if not (out / CONFIG).exists():
        return "no run was begun yet; give the same command again"
    return f"go on with: {Run.open(out).resume_line}"
