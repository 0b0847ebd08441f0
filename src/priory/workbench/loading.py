"""Load the model of a folder written by any function or command of priory."""

from pathlib import Path
from typing import Any

from torch import nn

from priory import saving


def load(folder: str | Path, into: nn.Module | None = None) -> Any:
    """Load the model of a folder, without unpickling anything.

    - Folder of `priory.save`: returns the saved model.
    - Run folder of `priory fit`: returns a `VAE`; if training has not ended, with the best weights so far.
    - Run folder of `priory gtm fit`: returns an estimator for rows with the model's columns, in the data's own units: a
      `GTM`, or a scikit-learn pipeline that standardizes the columns and ends with the `GTM`.

    Modules are on the CPU and in evaluation mode.

    Args:
        folder: written by `priory.save`, `priory fit`, `priory refit` or `priory gtm fit`.
        into: a model to fill with the numbers of a folder of `priory.save`, and to return. It must have the same
            parameters and buffers; it stays on its device and gets the dtypes of the file.

    Raises:
        TypeError: `into` is not a module.
        ValueError: the folder has no model, a damaged model or one without weights; the folder needs `into`; or the
            numbers do not fit `into`.

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
