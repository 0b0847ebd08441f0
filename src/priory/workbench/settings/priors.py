"""The priors of the command line. To add one: its settings, and a line in `PRIORS`."""

from typing import Literal

from pydantic import Field

from priory.workbench.settings.base import Settings, Size
from priory.workbench.settings.parts import PriorPart, as_prior_part
from priory.workbench.settings.registry import Registry


class MixtureSettings(Settings):
    """Settings of every mixture."""

    learn_weights: bool = Field(True, description="learned mixing weights, or uniform ones")


class ComponentSettings(MixtureSettings):
    """Settings of a mixture without a grid."""

    components: Size = Field(64, description="K of a mixture without a grid")


class PseudoInputSettings(Settings):
    """Settings of pseudo-inputs."""

    learn_pseudo_inputs: bool = Field(True, description="learned pseudo-inputs, or fixed where they start")


class VampSettings(ComponentSettings, PseudoInputSettings):
    """Settings of a VampPrior."""

    initialize: Literal["data", "mean", "uniform"] = Field("data", description="where pseudo-inputs start")


class VampMixtureSettings(VampSettings):
    """Settings of a VampPrior mixture."""

    concentration: float = Field(1.0, gt=0, le=10**6, description="of the Dirichlet process over the clusters")
    evidence_rows: float = Field(
        256.0, gt=0, le=10**9, description="rows that the clusters' prior is weighed against: fewer, fewer clusters"
    )


class NetworkWidths(Settings):
    """Settings of a prior with a network of its own."""

    prior_hidden: tuple[Size, ...] = Field((256, 256), description="hidden widths of the prior's own network")


class GridSettings(MixtureSettings, NetworkWidths):
    """Settings of a prior with a grid behind its components."""

    points_per_side: int = Field(8, ge=1, le=10**6, description="nodes along each side of a grid")
    grid_dim: int = Field(2, ge=1, le=16, description="C, dimensions of the grid")
    grid_start: Literal["gtm", "mean"] = Field(
        "gtm", description="a grid starts as a classical GTM of the data, which guides it too, or at their mean"
    )
    grid_network: Literal["mlp", "rbf"] = Field("rbf", description="behind a grid: radial functions, or a perceptron")
    basis_per_side: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="radial functions along each side; None: points_per_side, or half with few rows",
    )
    basis_width: float = Field(1.0, gt=0, le=10**6, description="of a radial function, in spacings of their centers")

    @property
    def functions_per_side(self) -> int:
        """Radial basis functions along each side."""
        return self.basis_per_side or (self.points_per_side + 1) // 2


class GTMVampSettings(GridSettings, PseudoInputSettings):
    """Settings of a GTM-VampPrior."""


class ExemplarSettings(Settings):
    """Settings of an exemplar prior."""

    exemplars: int | None = Field(
        None, ge=2, le=10**9, description="training rows that are components of a step, drawn anew; None: all"
    )
    neighbors: int | None = Field(
        10, ge=1, le=10**6, description="exemplars for each row that a step encodes with a gradient; None: all"
    )
    exemplar_scale: float = Field(1.0, gt=0, le=10**6, description="where the exemplars' common scale starts")


class FlowSettings(NetworkWidths):
    """Settings of a flow."""

    flow_transforms: int = Field(3, ge=1, le=1000, description="coupling layers of a flow")


class BaseSettings(Settings):
    """Settings of a prior on top of another one, whose own settings join these."""

    base_prior: str = Field("standard", description="the prior below; in refit, the run's own keeps its weights")
    acceptance_hidden: tuple[Size, ...] = Field((100, 100), description="hidden widths of the network of acceptance")


class ResampledSettings(BaseSettings):
    """Settings of a resampled prior."""

    truncation: int | None = Field(
        100, ge=2, le=10**9, description="draws of the base, of which the last one is accepted; none: no limit"
    )


CONDITIONAL = ("standard", "mog", "vamp", "gtm", "gtm-vamp", "flow")  # with a form p(z | c)
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
