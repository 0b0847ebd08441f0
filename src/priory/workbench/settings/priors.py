"""The priors of the command line. To add one, add its settings and a line to `PRIORS`."""

import math
from typing import Literal, Self

from pydantic import Field

from priory.workbench.settings.base import Settings, Size
from priory.workbench.settings.parts import PriorPart, as_prior_part
from priory.workbench.settings.registry import Registry


class MixtureSettings(Settings):
    """Settings of every mixture."""

    learn_weights: bool = Field(True, description="learn the mixing weights; otherwise they are uniform")


class ComponentSettings(MixtureSettings):
    """Settings of a mixture without a grid."""

    components: Size = Field(64, description="K, number of components of a mixture without a grid")


class PseudoInputSettings(Settings):
    """Settings of pseudo-inputs."""

    learn_pseudo_inputs: bool = Field(
        True, description="learn the pseudo-inputs; otherwise they stay at their initial values"
    )


class VampSettings(ComponentSettings, PseudoInputSettings):
    """Settings of a VampPrior."""

    initialize: Literal["data", "mean", "uniform"] = Field("data", description="initial values of the pseudo-inputs")


class VampMixtureSettings(VampSettings):
    """Settings of a VampPrior mixture."""

    concentration: float = Field(
        1.0, gt=0, le=10**6, description="concentration of the Dirichlet process over the clusters"
    )
    evidence_rows: float = Field(
        256.0,
        gt=0,
        le=10**9,
        description="rows against which the prior of the clusters is weighed; fewer rows, fewer clusters",
    )


class NetworkWidths(Settings):
    """Settings of a prior that has its own network."""

    prior_hidden: tuple[Size, ...] = Field((256, 256), description="widths of the hidden layers of the prior's network")


# With so many nodes, the maps of docs/maps.md are best: the fewest with 1000 to 1400 rows, the most with 50 000.
FEWEST_NODES, MOST_NODES = 20**2, 30**2
# From here on, a node has a radial function of its own. Digits have too few rows for that and overfit, MNIST improves.
ROWS_OF_A_FUNCTION = 20
MOST_FUNCTIONS = 1024  # in each iteration, EM solves a linear system with one equation for each function


class GridSettings(MixtureSettings, NetworkWidths):
    """Settings of a prior whose components come from a grid."""

    points_per_side: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="nodes along each side of a grid; None: 20, or up to 30 with more than 8000 training rows",
    )
    grid_dim: int = Field(2, ge=1, le=16, description="C, dimensions of the grid")
    grid_start: Literal["gtm", "mean"] = Field(
        "gtm", description="initial grid: a classical GTM of the data, which also guides training, or their mean"
    )
    grid_network: Literal["mlp", "rbf"] = Field(
        "rbf", description="network from grid to components: radial functions or a perceptron"
    )
    basis_per_side: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="radial functions along each side; None: points_per_side, "
        "or half of it with fewer than 20 rows for each node",
    )
    basis_width: float = Field(
        1.0, gt=0, le=10**6, description="width of the radial functions, in units of the distance of their centers"
    )

    def for_rows(self, num_rows: int) -> Self:
        """Return the settings with both sides of the grid chosen for so many training rows, unless they are given.

        >>> chosen = [GridSettings().for_rows(n) for n in (1000, 12_500, 50_000)]
        >>> [(each.points_per_side, each.functions_per_side) for each in chosen]
        [(20, 10), (25, 25), (30, 30)]
        """
        nodes = min(max(FEWEST_NODES, num_rows / ROWS_OF_A_FUNCTION), MOST_NODES)
        side = self.points_per_side or max(2, math.floor(nodes ** (1 / self.grid_dim)))
        rich = self.grid_start == "gtm" and side**self.grid_dim <= min(num_rows / ROWS_OF_A_FUNCTION, MOST_FUNCTIONS)
        basis = self.basis_per_side or (side if rich else None)
        return self.model_copy(update={"points_per_side": side, "basis_per_side": basis})

    @property
    def functions_per_side(self) -> int:
        """Radial basis functions along each side."""
        assert self.points_per_side is not None, "call `for_rows` first"
        return self.basis_per_side or (self.points_per_side + 1) // 2


class GTMVampSettings(GridSettings, PseudoInputSettings):
    """Settings of a GTM-VampPrior."""


class ExemplarSettings(Settings):
    """Settings of an exemplar prior."""

    exemplars: int | None = Field(
        None, ge=2, le=10**9, description="training rows drawn as components in each step; None: all"
    )
    neighbors: int | None = Field(
        10, ge=1, le=10**6, description="exemplars per row that a step encodes with a gradient; None: all"
    )
    exemplar_scale: float = Field(1.0, gt=0, le=10**6, description="initial value of the exemplars' common scale")


class FlowSettings(NetworkWidths):
    """Settings of a flow."""

    flow_transforms: int = Field(3, ge=1, le=1000, description="coupling layers of a flow")


class BaseSettings(Settings):
    """Settings of a prior that builds on a base prior; the settings of the base prior join these."""

    base_prior: str = Field("standard", description="the base prior; in refit, the run's own prior keeps its weights")
    acceptance_hidden: tuple[Size, ...] = Field(
        (100, 100), description="widths of the hidden layers of the acceptance network"
    )


class ResampledSettings(BaseSettings):
    """Settings of a resampled prior."""

    truncation: int | None = Field(
        100, ge=2, le=10**9, description="draws from the base prior until one is accepted for certain; None: no limit"
    )


CONDITIONAL = ("standard", "mog", "vamp", "gtm", "gtm-vamp", "flow")  # these have a form p(z | c)
PRIORS = Registry("prior", "priory.priors", as_prior_part)
for _name, _prior, _settings in (
    ("standard", "StandardNormal", Settings),
    ("mog", "MixtureOfGaussians", ComponentSettings),
    ("vamp", "VampPrior", VampSettings),
    ("vamp-mixture", "VampPriorMixture", VampMixtureSettings),
    ("gtm", "GTMPrior", GridSettings),
    ("gtm-vamp", "GTMVampPrior", GTMVampSettings),
    ("exemplar", "ExemplarPrior", ExemplarSettings),
    ("flow", "FlowPrior", FlowSettings),
    ("resampled", "ResampledPrior", ResampledSettings),
    ("noise-contrastive", "NoiseContrastivePrior", BaseSettings),
):
    _build = f"priory.workbench.models.priors:build_{_name.replace('-', '_')}"
    _conditional = _build.replace(".priors:", ".conditional:") if _name in CONDITIONAL else None
    PRIORS.register(_name, PriorPart(f"priory.priors:{_prior}", _settings, _build, _conditional))
