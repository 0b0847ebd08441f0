"""A run's model and the rows that a command is about."""

from pathlib import Path
from typing import Any

import torch

from priory.commands.interruptions import how_to_go_on
from priory.datasets import Rows
from priory.messages import shortened
from priory.runs import Run
from priory.terminal import errors
from priory.vae import VAE


def opened_model(path: Path, device: str) -> tuple[Run, VAE]:
    """The run and its model on the device; where training has not ended, with a note that says so.

    Raises:
        ValueError: there is no run, no weights yet, or no such device.
    """
    run = Run.open(path)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()  # of the device meta, which holds no numbers, too
    except (RuntimeError, AssertionError) as error:
        reason = shortened(str(error))
        raise ValueError(
            f"--device {device}: expected auto, cpu or a device that torch sees; torch: {reason}"
        ) from error
    vae = run.load_model().to(device)
    if not run.finished:
        errors.print(f"training has not ended: these are the best weights so far; {how_to_go_on(path)}", markup=False)
    return run, vae


def chosen_rows(run: Run, data: str | None, reading: dict[str, Any], choose: Any) -> Rows:
    """All rows of the data that were named, read as `reading` says; else of the run's own those that `choose` takes."""
    if data is None:
        return choose(run.load_dataset(drawn=True))
    return run.load_table(data, **reading).all_rows()
