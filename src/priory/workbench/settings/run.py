"""The settings of a run, as in its `config.json`, and those of `priory refit`."""

import os
from typing import Literal, Self

from pydantic import Field, SerializeAsAny, field_validator

from priory.training.settings import RefitSettings, TrainingSettings
from priory.workbench.data import EMBEDDED
from priory.workbench.settings.base import Settings
from priory.workbench.settings.model import ModelSettings


class DataSettings(Settings):
    """The source of the data and how to read it."""

    source: str = Field("digits", description="a file, .parquet files, or an embedded data set")
    labels: tuple[str, ...] = Field((), description="a column of labels, which the model leaves out")
    conditions: tuple[str, ...] = Field((), description="a column that the model conditions on")
    quantities: tuple[str, ...] = Field(
        (), description="a condition that is a quantity although its values are integers"
    )
    ids: str | None = Field(None, description="the column of row names")
    drop: tuple[str, ...] = Field((), description="a column to leave out")
    layer: str | None = Field(None, description="layer of an .h5ad file")
    header: bool | None = Field(None, description="whether the first line of a text table holds names")
    delimiter: str | None = Field(None, description="the character between fields of a text table, or tab")
    decimal: Literal[".", ","] | None = Field(None, description="the decimal mark of a text table, . or ,")
    missing: tuple[str, ...] = Field((), description="a word that marks a missing cell of a text table, such as ?")
    split: Literal["given", "shuffled"] = Field("given", description="the file's own split, or a shuffled one")
    split_seed: int = Field(0, ge=0, lt=2**63, description="seed of a shuffled or 80/10/10 split")
    stream: Literal["auto", "yes", "no"] = Field(
        "auto", description="leave rows in their files; auto: if they would take more than half of the free memory"
    )
    binarize: Literal["none", "dynamic", "static"] = Field(
        "none", description="draw binary values from gray ones, once (static) or in each epoch (dynamic)"
    )

    @field_validator("source")
    @classmethod
    def _from_any_folder(cls, source: str) -> str:
        """Return a file's absolute path, so that the run can be used from any folder."""
        return source if source in EMBEDDED else os.path.realpath(source)  # it also accepts a cycle of links

    def as_decided(self, *, streamed: bool) -> Self:
        """Return the same settings with `stream` decided, so that every machine treats the rows in the same way."""
        return self.model_copy(update={"stream": "yes" if streamed else "no"})


class RunSettings(Settings):
    """A run: data, model, training, seed."""

    data: DataSettings = Field(default_factory=DataSettings)
    model: SerializeAsAny[ModelSettings] = Field(default_factory=ModelSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    seed: int = Field(0, ge=0, lt=2**63, description="seed of weights, batches and noise")


class RefitRequest(Settings):
    """The settings of `priory refit`: the new prior, among the model's settings, and how to fit it."""

    model: SerializeAsAny[ModelSettings] = Field(default_factory=ModelSettings)
    refit: RefitSettings = Field(default_factory=RefitSettings)
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the prior's initial values and of the noise")
