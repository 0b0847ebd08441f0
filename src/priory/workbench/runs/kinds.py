"""Run folders of whatever kind: opened by what their configuration says."""

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
    """The model of a run folder; nothing is unpickled.

    Of `priory fit`, a `VAE` in evaluation mode; where training has not ended, its weights are the best so far. Of
    `priory gtm fit`, an estimator for rows of the columns that the model has, in the data's own units: a `GTM`, or
    where the columns were standardized a scikit-learn pipeline that does so and ends with the `GTM`.

    Raises:
        ValueError: the folder holds no run, or one without weights yet.
    """
    if note := note_of_newer_version(Path(path)):
        warnings.warn(note, stacklevel=3)  # 2 is `priory.load`
    return open_run(path).loaded()
