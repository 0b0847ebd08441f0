"""What a run of `priory gtm fit` is made from."""

from typing import Annotated, Literal

from pydantic import Field

from priory.training.settings import MOST
from priory.workbench.settings.base import Settings
from priory.workbench.settings.run import DataSettings

Side = Annotated[int, Field(ge=2, le=1024)]  # of a grid; one point is no map


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
    annealing: int = Field(100, ge=0, le=MOST, description="iterations that let go of the plane")
    max_iter: int = Field(500, ge=1, le=MOST, description="most iterations of EM")
    tol: float = Field(1e-5, ge=0, allow_inf_nan=False, description="relative change at which EM ends")
    batch_size: int | None = Field(None, ge=1, le=MOST, description="rows of a step of incremental EM")
    dtype: Literal["float64", "float32"] = Field("float64", description="what to compute in")
    standardize: bool | None = Field(None, description="standardize columns; None: unless they have a common unit")


class GTMRunSettings(Settings):
    """A run: data, model, seed."""

    data: TableSettings = Field(default_factory=TableSettings)
    model: GTMSettings = Field(default_factory=GTMSettings)
    seed: int = Field(0, ge=0, lt=2**32, description="seeds the order of batches")
