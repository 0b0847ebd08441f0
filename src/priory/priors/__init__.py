"""The family of priors. To add one: write its file, and one line in `PRIORS`."""

from priory.priors.base import MixturePrior, Prior, PriorSpec
from priory.priors.density import DensityPrior
from priory.priors.flow import FlowPrior
from priory.priors.gaussians import MixtureOfGaussians
from priory.priors.grid import GridPrior
from priory.priors.gtm import GTMPrior
from priory.priors.gtm_vamp import GTMVampPrior
from priory.priors.normal import StandardNormal
from priory.priors.vamp import VampPrior

PRIORS: dict[str, type[Prior]] = {
    "standard": StandardNormal,
    "mog": MixtureOfGaussians,
    "vamp": VampPrior,
    "gtm": GTMPrior,
    "gtm-vamp": GTMVampPrior,
    "flow": FlowPrior,
}

__all__ = [
    "PRIORS",
    "DensityPrior",
    "FlowPrior",
    "GTMPrior",
    "GTMVampPrior",
    "GridPrior",
    "MixtureOfGaussians",
    "MixturePrior",
    "Prior",
    "PriorSpec",
    "StandardNormal",
    "VampPrior",
]
