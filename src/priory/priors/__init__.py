"""Priors: one member of the family a file."""

from priory.priors.base import MixturePrior, Prior
from priory.priors.density import DensityPrior
from priory.priors.flow import FlowPrior
from priory.priors.gaussians import MixtureOfGaussians
from priory.priors.grid import GridPrior
from priory.priors.gtm import GTMPrior
from priory.priors.gtm_vamp import GTMVampPrior
from priory.priors.hierarchical import HierarchicalPrior
from priory.priors.normal import StandardNormal
from priory.priors.vamp import VampPrior

__all__ = [
    "DensityPrior",
    "FlowPrior",
    "GTMPrior",
    "GTMVampPrior",
    "GridPrior",
    "HierarchicalPrior",
    "MixtureOfGaussians",
    "MixturePrior",
    "Prior",
    "StandardNormal",
    "VampPrior",
]
