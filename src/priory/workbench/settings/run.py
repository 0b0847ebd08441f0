"""The settings of a run, as its `config.json` holds them, and those of `priory refit`."""

import os
from typing import Literal, Self

from pydantic import Field, SerializeAsAny, field_validator

from priory.training.settings import RefitSettings, TrainingSettings
from priory.workbench.data import EMBEDDED
from priory.workbench.settings.base import Settings
from priory.workbench.settings.model import ModelSettings


class DataSettings(Settings):
    """Where the data come from and how the table is read."""

    source: str = Field("digits", description="a file, .parquet files, or an embedded data set")
    labels: tuple[str, ...] = Field((), description="columns that are labels, not data")
    conditions: tuple[str, ...] = Field((), description="columns that the model conditions on")
    quantities: tuple[str, ...] = Field((), description="conditions that are quantities, though they are integers")
    ids: str | None = Field(None, description="the column that names the rows")
    drop: tuple[str, ...] = Field((), description="columns to leave out")
    layer: str | None = Field(None, description="layer of an .h5ad file")
    header: bool | None = Field(None, description="whether the first line of a text table holds names")
    delimiter: str | None = Field(None, description="the character between fields of a text table, or tab")
    decimal: Literal[".", ","] | None = Field(None, description="the decimal mark of a text table, . or ,")
    missing: tuple[str, ...] = Field((), description="a word for a missing cell of a text table, such as ?")
    split: Literal["given", "shuffled"] = Field("given", description="the file's own split, or a shuffled one")
    split_seed: int = Field(0, ge=0, lt=2**63, description="seed of a shuffled or 80/10/10 split")
    stream: Literal["auto", "yes", "no"] = Field(
        "auto", description="leave rows in their files; auto: if they would take half of the free memory"
    )
    binarize: Literal["none", "dynamic", "static"] = Field("none", description="binarize gray values as coin flips")

    @field_validator("source")
    @classmethod
    def _from_any_folder(cls, source: str) -> str:
        """A file's absolute path, so that a run is the same run, and can be used, from any folder."""
        return source if source in EMBEDDED else os.path.realpath(source)  # of a circle of links too

    def as_decided(self, *, streamed: bool) -> Self:
        """The same settings with the decision whether rows stay in their files, which then holds on any machine."""
        return self.model_copy(update={"stream": "yes" if streamed else "no"})


class RunSettings(Settings):
    """A run: data, model, training, seed."""

    data: DataSettings = Field(default_factory=DataSettings)
    model: SerializeAsAny[ModelSettings] = Field(default_factory=ModelSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    seed: int = Field(0, ge=0, lt=2**63, description="seeds weights, batches and noise")


class RefitRequest(Settings):
    """What `priory refit` may be told: the new prior, among the model's settings, and how to fit it."""

    model: SerializeAsAny[ModelSettings] = Field(default_factory=ModelSettings)
    refit: RefitSettings = Field(default_factory=RefitSettings)
    seed: int = Field(0, ge=0, lt=2**63, description="seeds the prior's start and the noise")
