"""A cell of the matrix of priors and seeds: its run folder, and the scores of each evaluated row."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from priory._support.files import replacing
from priory.evaluation import Estimate
from priory.workbench.data import read_arrays
from priory.workbench.runs.config import CONFIG
from priory.workbench.runs.folder import ROW_SCORES
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.registry import folder_name
from priory.workbench.settings.run import RunSettings

SCORES = ("nll", "elbo")
_EVALUATION = "evaluation"  # importance samples and seed, as in metrics.json


class Cell(NamedTuple):
    """A prior and a seed."""

    prior: str
    seed: int

    def __str__(self) -> str:
        return f"{self.prior}, seed {self.seed}"

    @property
    def name(self) -> str:
        """The name of its folder inside the folder of the comparison."""
        return f"{folder_name(self.prior)}-{self.seed}"


class RowScores(NamedTuple):
    """For each evaluated row: its index in the data set, its NLL and its ELBO in nats, (N,) each."""

    row: np.ndarray
    nll: np.ndarray
    elbo: np.ndarray


class Finished(NamedTuple):
    """The results of a finished cell."""

    metrics: dict[str, Estimate]
    scores: RowScores


def finished_cell(folder: Path, settings: RunSettings, num_samples: int, seed: int) -> Finished | None:
    """Return the results of a finished run with these settings, samples and seed; None if there are none yet."""
    if not (folder / CONFIG).exists():
        return None
    run = Run.open(folder)
    _require_same_settings(run, settings)
    metrics = run.read_metrics(num_samples, seed)
    if metrics is None:
        return None
    scores = read_row_scores(folder / ROW_SCORES, num_samples, seed)
    return None if scores is None or not _belong_together(metrics, scores) else Finished(metrics, scores)


def _require_same_settings(run: Run, settings: RunSettings) -> None:
    """Refuse a run with other settings. Settings left open may have any value that the run's data decided."""
    recorded, data = run.settings.model, settings.data
    if data.stream == "auto":
        data = data.model_copy(update={"stream": run.settings.data.stream})
    model = settings.model.with_likelihood(settings.model.likelihood or recorded.likelihood or "gaussian")
    model = model.model_copy(update={name: getattr(recorded, name, None) for name, value in model if value is None})
    if run.refit_of is not None or settings.model_copy(update={"model": model, "data": data}) != run.settings:
        raise ValueError(f"{run.path}: this run has other settings; choose another --out, or remove the run")


def _belong_together(metrics: dict[str, Estimate], scores: RowScores) -> bool:
    """Return whether the metrics are the means of these scores; if the run was trained again, they are not."""
    means = {name: float(getattr(scores, name).mean()) for name in SCORES}
    return all(name in metrics and math.isclose(metrics[name].value, means[name], rel_tol=1e-6) for name in SCORES)


def write_row_scores(path: Path, scores: RowScores, num_samples: int, seed: int) -> None:
    """Write the scores, with the number of samples and the seed of the estimates."""
    arrays = scores._asdict() | {_EVALUATION: np.array([num_samples, seed])}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_row_scores(path: Path, num_samples: int, seed: int) -> RowScores | None:
    """Read the scores of this number of samples and seed; None if they cannot be read and must be computed again."""
    try:
        arrays = read_arrays(path)
        scores = RowScores(*(arrays[name] for name in RowScores._fields))
        same = arrays[_EVALUATION].tolist() == [num_samples, seed]
    except (FileNotFoundError, ValueError, KeyError):  # read_arrays never unpickles; a damaged file raises one of these
        return None
    whole = all(a.ndim == 1 and len(a) == len(scores.row) > 0 and a.dtype.kind in "if" for a in scores)
    return scores if same and whole else None
