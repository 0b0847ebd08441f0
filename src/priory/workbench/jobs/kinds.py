"""The jobs that commands do with a model, for each kind of run."""

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from priory.evaluation import Evaluation
from priory.maps.surfaces import Surface
from priory.workbench.data import DatasetRows
from priory.workbench.jobs import gtm, vae


class Jobs(Protocol):
    """Functions of the model of one kind of run; a module has them for each kind."""

    DESCRIPTIONS: dict[str, str]

    def measure(
        self, model: Any, rows: DatasetRows, num_samples: int, seed: int, progress: Any = None
    ) -> Evaluation: ...

    def embed(self, model: Any, rows: DatasetRows) -> dict[str, np.ndarray]: ...

    def score(
        self, model: Any, rows: DatasetRows, num_samples: int, seed: int, *, progress: Any = None
    ) -> np.ndarray: ...

    def sample(self, model: Any, number: int, seed: int, mean: bool) -> Tensor: ...

    def surface(self, model: Any, num_samples: int) -> Surface: ...


JOBS: dict[str, Jobs] = {"vae": vae, "gtm": gtm}
