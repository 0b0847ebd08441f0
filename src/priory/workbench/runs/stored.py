"""What the JSON files of a run folder hold: its configuration, and its metrics with how they were estimated."""

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
    """The part of `DataFacts` that a model is rebuilt from."""

    num_inputs: int = Field(ge=1)
    num_rows: int = Field(ge=1)
    image_shape: tuple[int, int] | None
    context_sizes: tuple[int, ...] = ()


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
    encoding: Conditions | None = None


class StoredScaling(Settings):
    """The training rows' means and standard deviations, a number for each column of the model."""

    loc: tuple[FiniteFloat, ...]
    scale: tuple[Scale, ...]

    @model_validator(mode="after")
    def _of_one_length(self) -> "StoredScaling":
        if len(self.loc) != len(self.scale):
            raise ValueError(f"expected as many scales as locs, {len(self.loc)}, got {len(self.scale)}")
        return self


class GTMConfig(Settings):
    """What `config.json` of a map holds."""

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
    """A number and its standard error; null stands for a number that has none."""

    value: FiniteFloat
    se: FiniteFloat | None


class StoredEvaluation(BaseModel):
    """How the metrics of a VAE, or those of a map, were estimated."""

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
        """The metrics in the order of the file; NaN stands for null."""
        return {
            name: Estimate(stored.value, math.nan if stored.se is None else stored.se)
            for name, stored in self.__pydantic_extra__.items()
        }
