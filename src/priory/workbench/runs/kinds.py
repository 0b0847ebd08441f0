"""Open run folders of any kind; the configuration determines the kind."""

import warnings
from pathlib import Path
from typing import Any

from priory.workbench.runs.config import kind_of, note_of_newer_version
from priory.workbench.runs.folder import RunFolder
from priory.workbench.runs.gtm_run import GTMRun
from priory.workbench.runs.vae_run import Run

KINDS: dict[str, type[Run] | type[GTMRun]] = {kind.kind: kind for kind in (Run, GTMRun)}


def open_run(path: str | Path) -> RunFolder:
    """Read a run folder's configuration."""
    return KINDS[kind_of(Path(path))].open(path)


def load(path: str | Path) -> Any:
    """Load the model of a run folder, without unpickling anything.

    A run of `priory fit` gives a `VAE` in evaluation mode; if training has not ended, with the best weights so far. A
    run of `priory gtm fit` gives an estimator for rows with the model's columns, in the data's own units: a `GTM`, or a
    scikit-learn pipeline that standardizes the columns and ends with the `GTM`.

    Raises:
        ValueError: the folder is not a run, or has no weights yet.
    """
    if note := note_of_newer_version(Path(path)):
        warnings.warn(note, stacklevel=3)  # the caller of `priory.load`
    return open_run(path).loaded()
