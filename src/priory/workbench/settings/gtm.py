"""The settings of `priory gtm fit`."""

from typing import Annotated, Literal

from pydantic import Field

from priory.training.settings import MOST
from priory.workbench.settings.base import Settings
from priory.workbench.settings.run import DataSettings

Side = Annotated[int, Field(ge=2, le=1024)]  # nodes along a side of the grid; a map needs two


class TableSettings(DataSettings):
    """The source of the data and how to read it."""

    binarize: Literal["none"] = Field("none", description="a map models the values as they are")


class GTMSettings(Settings):
    """The shape of the map and how to fit it. `priory.GTM` has the same names and defaults and explains them."""

    points_per_side: Side = Field(16, description="nodes along each side of the map")
    basis_per_side: Side | None = Field(
        None, description="radial functions along each side; default: half of points_per_side"
    )
    basis_width: float = Field(
        1.0, gt=0, le=1e6, description="width of the radial functions, in units of their distance"
    )
    weight_decay: float = Field(0.1, ge=0, le=1e12, description="precision of the prior of the weights W")
    tether: float | None = Field(
        None,
        ge=0,
        le=1e12,
        description="precision of a prior of W around the most likely plane; default: chosen for a small table, else 0",
    )
    annealing: int = Field(
        100, ge=0, le=MOST, description="iterations over which an initial tether to the plane weakens"
    )
    max_iter: int = Field(500, ge=1, le=MOST, description="maximum number of EM iterations")
    tol: float = Field(
        1e-5, ge=0, allow_inf_nan=False, description="EM stops if the objective changes relatively by less"
    )
    batch_size: int | None = Field(None, ge=1, le=MOST, description="rows per step of incremental EM; None: all rows")
    dtype: Literal["float64", "float32"] = Field("float64", description="floating-point type of the computation")
    standardize: bool | None = Field(
        None, description="standardize the columns; default: only if they have no common unit"
    )


class GTMRunSettings(Settings):
    """A run: data, model, seed."""

    data: TableSettings = Field(default_factory=TableSettings)
    model: GTMSettings = Field(default_factory=GTMSettings)
    seed: int = Field(0, ge=0, lt=2**32, description="seed of the order of batches")
