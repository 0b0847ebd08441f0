"""What an interruption, or a training that failed, is told: how to go on."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from priory.training import NonFiniteLossError
from priory.training.trainer import SIGTERM_EXIT
from priory.workbench.cli.terminal import errors
from priory.workbench.runs.folder import CONFIG
from priory.workbench.runs.vae_run import Run


@contextmanager
def saying_how_to_go_on(out: Path, line: str | None = None) -> Iterator[None]:
    """An interruption, and a training that failed, end with what to do next: the line, or what `out` asks for."""
    try:
        yield
    except KeyboardInterrupt:
        errors.print(f"interrupted; {line or how_to_go_on(out)}", markup=False)
        raise
    except SystemExit as stop:
        if stop.code == SIGTERM_EXIT:
            errors.print(f"terminated; {line or how_to_go_on(out)}", markup=False)
        raise
    except NonFiniteLossError as error:
        error.add_note(_what_a_failure_left(out))
        raise


def how_to_go_on(out: Path) -> str:
    """What to do next in a folder whose run has not ended."""
    if not (out / CONFIG).exists():
        return "no run was begun yet; give the same command again"
    return f"go on with: {Run.open(out).resume_line}"


def _what_a_failure_left(out: Path) -> str:
    run = Run.open(out)
    kept = f"the epochs before it are kept: priory evaluate {shlex.quote(str(out))}" if run.begun else "nothing is kept"
    rate = run.settings.training.learning_rate
    return (
        f"{out}: {kept}. --resume would fail again, because a run's settings are fixed; begin another one, with "
        f"another --out and for example --set training.learning_rate={rate / 10:g} or a lower training.gradient_clip"
    )
