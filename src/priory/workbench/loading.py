"""Open a folder with a model, whoever wrote it."""

from pathlib import Path
from typing import Any

from torch import nn

from priory import saving


def load(folder: str | Path, into: nn.Module | None = None) -> Any:
    """Load the model of a folder; nothing is unpickled.

    From a folder of `priory.save`, the model that was saved. From a run folder of `priory fit`, a `VAE`; if training
    has not ended, with the best weights so far. From one of `priory gtm fit`, an estimator for rows of the columns that
    the model has, in the data's own units: a `GTM`, or a scikit-learn pipeline that standardizes the columns and ends
    with the `GTM`. Modules are on the CPU and in evaluation mode.

    Args:
        folder: written by `priory.save`, `priory fit`, `priory refit` or `priory gtm fit`.
        into: a model that gets the numbers of a folder of `priory.save`, and is returned; it stays on its device, and
            takes the dtypes of the file. It must have the same parameters and buffers.

    Raises:
        TypeError: `into` is no module.
        ValueError: the folder holds no model, a damaged one or one without weights yet; a recipe needs `into`; or the
            numbers are not those of `into`.

    >>> import tempfile, torch
    >>> from priory import MixtureOfGaussians, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(MixtureOfGaussians(latent_dim=2, num_components=3), folder)
    ...     load(folder)
    MixtureOfGaussians(K=3, L=2)
    """
    if into is not None or any((Path(folder) / name).exists() for name in (saving.RECIPE, saving.WEIGHTS)):
        return saving.load(folder, into)
    from priory.workbench.runs.kinds import load as load_run  # needs pydantic and scikit-learn

    return load_run(folder)
