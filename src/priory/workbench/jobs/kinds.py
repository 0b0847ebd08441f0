"""The jobs that commands do with a model, for each kind of run."""

from typing import Any, Protocol

from torch import Tensor

from priory.evaluation import Evaluation
from priory.workbench.data import DatasetRows
from priory.workbench.jobs import gtm, vae
from priory.workbench.report.run import PageJobs


class Jobs(PageJobs, Protocol):
    """Functions of the model of one kind of run; a module has them for each kind."""

    DESCRIPTIONS: dict[str, str]

    def measure(
        self, model: Any, rows: DatasetRows, num_samples: int, seed: int, progress: Any = None
    ) -> Evaluation: ...

    def filled(
        self, model: Any, rows: DatasetRows, num_steps: int, seed: int, draw: bool, *, progress: Any = None
    ) -> Tensor: ...

    def sample(self, model: Any, number: int, seed: int, mean: bool) -> Tensor: ...


JOBS: dict[str, Jobs] = {"vae": vae, "gtm": gtm}
