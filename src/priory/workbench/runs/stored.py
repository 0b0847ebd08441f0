"""What the JSON files of a run folder hold: its configuration, and its metrics with how they were estimated."""

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, FiniteFloat, RootModel

from priory.evaluation import Estimate
from priory.training.settings import RefitSettings
from priory.workbench.data import Fingerprint
from priory.workbench.settings.base import Settings
from priory.workbench.settings.run import RunSettings


class StoredFacts(Settings):
    """The part of `DataFacts` that a model is rebuilt from."""

    num_inputs: int = Field(ge=1)
    num_rows: int = Field(ge=1)
    image_shape: tuple[int, int] | None


class RefitRecord(Settings):
    """Where the encoder and the decoder of a run come from whose prior was fitted to them by `priory refit`."""

    run: str = Field(description="the folder of the run they were trained in")
    prior: str = Field(description="the prior that they were trained with")
    seed: int
    settings: RefitSettings


class Config(Settings):
    """What `config.json` of a VAE holds."""

    priory: str
    kind: Literal["vae"] = "vae"
    settings: RunSettings
    facts: StoredFacts
    columns: tuple[str, ...]
    constants: dict[str, FiniteFloat]
    binarize_scale: FiniteFloat | None
    fingerprint: Fingerprint
    split_checksum: str
    refit_of: RefitRecord | None = None


class StoredMetrics(RootModel[dict[str, dict[str, float | None]]]):
    """The content of `metrics.json`: `{"nll": {"value": ..., "se": ...}, ..., "evaluation": {...}}`."""


def estimate_of(numbers: Mapping[str, float | None]) -> Estimate:
    """A number of `metrics.json` and its standard error; NaN stands for null."""
    found = [numbers.get(name) for name in Estimate._fields]
    return Estimate(*(math.nan if number is None else number for number in found))
