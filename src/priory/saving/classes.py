"""The classes that a recipe may name; `load` calls no others."""

from collections.abc import Callable
from typing import Any

from torch import distributions, nn
from torch.distributions import Distribution, Transform, transforms

from priory.distributions.mixture import Mixture
from priory.distributions.normal import Normal
from priory.grid.guide import Guide
from priory.grid.nodes import RadialBasis
from priory.model import ComposedModel
from priory.nn import branches, conditional, decoders, encoders, hierarchy, networks, preprocessing
from priory.priors import (
    ComponentCovariates,
    ConditionalFlowPrior,
    ConditionalMixtureOfGaussians,
    ConditionalMixturePrior,
    DensityPrior,
    ExemplarPrior,
    FlowPrior,
    GridCovariates,
    GTMPrior,
    GTMVampPrior,
    HierarchicalPrior,
    MixtureOfGaussians,
    NoiseContrastivePrior,
    ResampledPrior,
    StandardNormal,
    VampPrior,
    VampPriorMixture,
)
from priory.vae import VAE, ConditionalVAE

OURS = (
    VAE,
    ConditionalVAE,
    ComposedModel,
    conditional.ConditionalEncoder,
    conditional.ConditionalDecoder,
    encoders.NormalEncoder,
    hierarchy.HierarchicalEncoder,
    decoders.BernoulliDecoder,
    decoders.CategoricalDecoder,
    decoders.DiscretizedLogisticDecoder,
    decoders.GaussianDecoder,
    decoders.NegativeBinomialDecoder,
    branches.Branches,
    networks.GatedLinear,
    networks.ConvolutionalEncoderNetwork,
    networks.ConvolutionalDecoderNetwork,
    preprocessing.Identity,
    preprocessing.LogNormalize,
    preprocessing.Rescale,
    preprocessing.Standardize,
    ComponentCovariates,
    ConditionalFlowPrior,
    ConditionalMixtureOfGaussians,
    ConditionalMixturePrior,
    DensityPrior,
    ExemplarPrior,
    FlowPrior,
    GridCovariates,
    GTMPrior,
    GTMVampPrior,
    HierarchicalPrior,
    MixtureOfGaussians,
    NoiseContrastivePrior,
    ResampledPrior,
    StandardNormal,
    VampPrior,
    VampPriorMixture,
    Guide,
    RadialBasis,
)


def _subclasses(prefix: str, module: Any, base: Any) -> dict[str, Any]:
    return {f"{prefix}.{n}": c for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, base)}


CONSTRUCTORS: dict[str, Callable[..., nn.Module]] = {
    **{f"priory.{each.__name__}": each for each in OURS},
    **{f"priory.FlowPrior.{name}": getattr(FlowPrior, name) for name in ("coupling", "spline")},
    **_subclasses("torch.nn", nn, nn.Module),
}
DISTRIBUTIONS: dict[str, type] = {
    **{f"priory.distributions.{each.__name__}": each for each in (Normal, Mixture)},
    **_subclasses("torch.distributions", distributions, Distribution),
    **_subclasses("torch.distributions.transforms", transforms, Transform),
}
NAMES: dict[Any, str] = {each: name for name, each in (CONSTRUCTORS | DISTRIBUTIONS).items()}
