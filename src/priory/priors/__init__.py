"""Priors, one family member per file."""

from priory.priors.base import MixturePrior, Prior
from priory.priors.conditional import ConditionalPrior, GivenPrior
from priory.priors.conditional_flow import ConditionalFlowPrior
from priory.priors.conditional_gaussians import ConditionalMixtureOfGaussians
from priory.priors.conditional_mixture import ConditionalMixturePrior
from priory.priors.covariates import ComponentCovariates, Covariates, GridCovariates
from priory.priors.density import DensityPrior
from priory.priors.exemplar import ExemplarPrior
from priory.priors.flow import FlowPrior
from priory.priors.gaussians import MixtureOfGaussians
from priory.priors.grid import GridPrior
from priory.priors.gtm import GTMPrior
from priory.priors.gtm_vamp import GTMVampPrior
from priory.priors.hierarchical import HierarchicalPrior
from priory.priors.normal import StandardNormal
from priory.priors.resampled import NoiseContrastivePrior, ResampledPrior
from priory.priors.vamp import VampPrior
from priory.priors.vamp_mixture import VampPriorMixture

__all__ = [
    "ComponentCovariates",
    "ConditionalFlowPrior",
    "ConditionalMixtureOfGaussians",
    "ConditionalMixturePrior",
    "ConditionalPrior",
    "Covariates",
    "DensityPrior",
    "ExemplarPrior",
    "FlowPrior",
    "GTMPrior",
    "GTMVampPrior",
    "GivenPrior",
    "GridCovariates",
    "GridPrior",
    "HierarchicalPrior",
    "MixtureOfGaussians",
    "MixturePrior",
    "NoiseContrastivePrior",
    "Prior",
    "ResampledPrior",
    "StandardNormal",
    "VampPrior",
    "VampPriorMixture",
]
