"""Open a run and its model, and read the rows of a command."""

from pathlib import Path
from typing import Any

import torch

from priory._support.messages import shortened
from priory.workbench.cli.commands.interruptions import how_to_go_on
from priory.workbench.cli.terminal import say_on_stderr
from priory.workbench.data import DatasetRows
from priory.workbench.jobs.kinds import Opened, opened
from priory.workbench.runs.config import note_of_newer_version
from priory.workbench.runs.folder import RunFolder


def opened_model(path: Path, device: str) -> Opened:
    """Open a run and its run_and_model on the device; print a note if its training has not ended."""
    say_if_newer(path)
    run_and_model = opened(path, chosen_device(device))
    if not run_and_model.run.finished:
        say_on_stderr(f"training has not ended: these are the best weights so far; {how_to_go_on(path)}")
    return run_and_model


def say_if_newer(path: Path) -> None:
    """Print a note if a newer priory wrote the run."""
    if note := note_of_newer_version(path):
        say_on_stderr(f"note: {note}")


def chosen_device(device: str) -> str:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()  # this fails also on the device "meta", which holds no numbers
    except (RuntimeError, AssertionError) as error:
        reason = shortened(str(error))
        raise ValueError(
            f"--device {device}: expected auto, cpu or a device that torch sees; torch: {reason}"
        ) from error
    return device


def chosen_rows(run: RunFolder, data: str | None, reading: dict[str, Any], choose: Any) -> DatasetRows:
    """Return all rows of `data`, read with the options `reading`; if it is None, `choose` selects rows of the run."""
    if data is None:
        return choose(run.load_dataset(drawn=True))
    return run.rows_of_model(run.load_table(data, **reading))
