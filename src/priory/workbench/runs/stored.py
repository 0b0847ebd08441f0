"""What the JSON files of a run folder hold: its configuration, and its metrics with how they were estimated."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, FiniteFloat, RootModel

from priory.evaluation import Estimate
from priory.training.settings import RefitSettings
from priory.workbench.settings.base import Settings
from priory.workbench.settings.run import RunSettings

_EVALUATION = "evaluation"


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
    refit_of: RefitRecord | None = None


class StoredMetrics(RootModel[dict[str, dict[str, float | None]]]):
    """What `metrics.json` holds; null is a number that is not known."""


def metrics_tree(metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> dict[str, Any]:
    """`{"nll": {"value": ..., "se": ...}, ..., "evaluation": {"num_samples": ..., "seed": ...}}`: numbers, and how."""
    return {name: e._asdict() for name, e in metrics.items()} | {_EVALUATION: _evaluation(num_samples, seed)}


def estimates(stored: StoredMetrics, num_samples: int, seed: int) -> dict[str, Estimate] | None:
    """The stored metrics; None where they were estimated in another way."""
    tree = dict(stored.root)
    if tree.pop(_EVALUATION, None) != _evaluation(num_samples, seed):
        return None
    return {name: _estimate(numbers) for name, numbers in tree.items()}


def _estimate(numbers: Mapping[str, float | None]) -> Estimate:
    found = [numbers.get(name) for name in Estimate._fields]
    return Estimate(*(math.nan if number is None else number for number in found))


def _evaluation(num_samples: int, seed: int) -> dict[str, int]:
    return {"num_samples": num_samples, "seed": seed}
