"""The functions that commands need, for the model of each kind of run."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from priory.evaluation import Evaluation
from priory.workbench.data import DatasetRows
from priory.workbench.jobs import gtm, vae
from priory.workbench.report.run import PageJobs
from priory.workbench.runs.folder import RunFolder
from priory.workbench.runs.kinds import open_run


class Jobs(PageJobs, Protocol):
    """The functions for the model of one kind of run; each kind has a module with them."""

    DESCRIPTIONS: dict[str, str]

    def measure(
        self, model: Any, rows: DatasetRows, num_samples: int, seed: int, progress: Any = None
    ) -> Evaluation: ...

    def row_numbers(self, model: Any, rows: DatasetRows, num_samples: int, seed: int) -> dict[str, np.ndarray]: ...

    def filled(
        self, model: Any, rows: DatasetRows, num_steps: int, seed: int, draw: bool, *, progress: Any = None
    ) -> Tensor: ...

    def sample(self, model: Any, number: int, seed: int, mean: bool) -> Tensor: ...


JOBS: dict[str, Jobs] = {"vae": vae, "gtm": gtm}


class Opened(NamedTuple):
    """A run, its model on the device, and the functions of its kind."""

    run: RunFolder
    model: Any
    jobs: Jobs


def opened(path: Path, device: str) -> Opened:
    """Open a run and its model on the device."""
    run = open_run(path)
    return Opened(run, run.load_model().to(device), JOBS[run.kind])
