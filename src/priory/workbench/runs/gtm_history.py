"""The likelihood after each iteration of EM."""

from pathlib import Path

import numpy as np

from priory._support.files import replacing
from priory.maps.gtm_surface import log_volume
from priory.workbench.data import DatasetRows
from priory.workbench.models.scaled_gtm import MapModel, batches

HISTORY_FILE = "history.csv"


def history_of(model: MapModel, rows: DatasetRows) -> dict[str, np.ndarray]:
    """Of each iteration, the mean log-likelihood of a training row before it, and the same minus the penalty.

    In nats, in the data's units.
    """
    volume = sum(log_volume(model.scaler, x).sum() for x in batches(rows)) / len(rows)
    gtm = model.gtm
    return {
        "iteration": np.arange(1, gtm.n_iter_ + 1),
        "log_likelihood": gtm.log_likelihoods_ - volume,
        "penalized_log_likelihood": gtm.penalized_log_likelihoods_ - volume,
    }


def write_history(path: Path, history: dict[str, np.ndarray]) -> None:
    """A CSV file; every number is written to its last bit."""
    lines = [",".join(map(repr, row)) for row in zip(*(column.tolist() for column in history.values()), strict=True)]
    with replacing(path) as temporary:
        temporary.write_text("\n".join([",".join(history), *lines]) + "\n", encoding="utf-8")
