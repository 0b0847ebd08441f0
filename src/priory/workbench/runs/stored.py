"""The JSON files of a run folder: its configuration, and its metrics with the settings of their estimation."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from priory.evaluation import Estimate
from priory.rows import Conditions
from priory.training.settings import RefitSettings
from priory.workbench.data import Fingerprint
from priory.workbench.settings.base import Settings
from priory.workbench.settings.gtm import GTMRunSettings
from priory.workbench.settings.run import RunSettings

Scale = Annotated[FiniteFloat, Field(gt=0)]


class StoredFacts(Settings):
    """The part of `DataFacts` that is needed to rebuild a model."""

    num_inputs: int = Field(ge=1)
    num_rows: int = Field(ge=1)
    num_train_rows: int = Field(ge=1)
    image_shape: tuple[int, int] | None
    context_sizes: tuple[int, ...] = ()


class RefitRecord(Settings):
    """The source of the encoder and the decoder of a run whose prior was fitted by `priory refit`."""

    run: str = Field(description="the folder of the run that trained them")
    prior: str = Field(description="the prior of that run")
    seed: int
    settings: RefitSettings


class Config(Settings):
    """The content of `config.json` of a VAE."""

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
    encoding: Conditions | None = None


class StoredScaling(Settings):
    """Means and standard deviations of the training rows, one number per column of the model."""

    loc: tuple[FiniteFloat, ...]
    scale: tuple[Scale, ...]

    @model_validator(mode="after")
    def _of_one_length(self) -> "StoredScaling":
        if len(self.loc) != len(self.scale):
            raise ValueError(f"expected as many scales as locs, {len(self.loc)}, got {len(self.scale)}")
        return self


class GTMConfig(Settings):
    """The content of `config.json` of a map."""

    priory: str
    kind: Literal["gtm"] = "gtm"
    settings: GTMRunSettings
    columns: tuple[str, ...]
    constants: dict[str, FiniteFloat | None]
    image_shape: tuple[int, int] | None
    fingerprint: Fingerprint
    split_checksum: str
    standardized: StoredScaling | None
    precise: bool = False


class StoredEstimate(BaseModel):
    """A number and its standard error, which is null if there is none."""

    value: FiniteFloat
    se: FiniteFloat | None


class StoredEvaluation(BaseModel):
    """The settings of the estimation of metrics, of a VAE or a map."""

    num_samples: int | None = None
    seed: int | None = None
    num_neighbors: int | None = None


class StoredMetrics(BaseModel):
    """The content of `metrics.json`: `{"nll": {"value": ..., "se": ...}, ..., "evaluation": {...}}`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, StoredEstimate]

    evaluation: StoredEvaluation

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The metrics in the order of the file; a null standard error becomes NaN."""
        return {
            name: Estimate(stored.value, math.nan if stored.se is None else stored.se)
            for name, stored in self.__pydantic_extra__.items()
        }
