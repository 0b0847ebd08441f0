"""What a run of `priory gtm fit` is made from, and the `config.json` of its folder."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from priory.workbench.settings.base import Settings
from priory.workbench.settings.run import DataSettings

Side = Annotated[int, Field(ge=2, le=1024)]  # of a grid; one point is no map
Scale = Annotated[FiniteFloat, Field(gt=0)]


class TableSettings(DataSettings):
    """Where the data come from and how the table is read."""

    binarize: Literal["none"] = Field("none", description="values are modeled as they are")


class GTMSettings(Settings):
    """The shape of the map and how it is fitted. Names and defaults are those of `priory.GTM`, which explains them."""

    points_per_side: Side = Field(16, description="nodes along each side of the map")
    basis_per_side: Side | None = Field(None, description="radial functions along each side")
    basis_width: float = Field(1.0, gt=0, le=1e6, description="in units of their distance")
    weight_decay: float = Field(0.1, ge=0, le=1e12, description="precision of the prior of W")
    tether: float | None = Field(
        None, ge=0, le=1e12, description="precision of W about a plane; None: chosen if the table is small"
    )
    annealing: int = Field(100, ge=0, description="iterations that let go of the plane")
    max_iter: int = Field(500, ge=1, description="most iterations of EM")
    tol: float = Field(1e-5, ge=0, allow_inf_nan=False, description="relative change at which EM ends")
    batch_size: int | None = Field(None, ge=1, description="rows of a step of incremental EM")
    dtype: Literal["float64", "float32"] = Field("float64", description="what to compute in")
    standardize: bool | None = Field(None, description="standardize columns; None: unless they have a common unit")


class GTMRunSettings(Settings):
    """A run: data, model, seed."""

    data: TableSettings = TableSettings()
    model: GTMSettings = GTMSettings()
    seed: int = Field(0, ge=0, lt=2**32, description="seeds the order of batches")


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
    standardized: StoredScaling | None
