"""Learned priors for variational autoencoders: VampPrior, GTM, GTM-VampPrior, mixtures of Gaussians, flows."""

from typing import TYPE_CHECKING, Any

from priory.distributions import Mixture, diagonal_normal
from priory.encoders import Encoder, NormalEncoder
from priory.evaluation import Estimate, evaluate, log_likelihood
from priory.likelihoods import (
    BernoulliDecoder,
    CategoricalDecoder,
    Decoder,
    DiscretisedLogisticDecoder,
    GaussianDecoder,
    NegativeBinomialDecoder,
)
from priory.networks import ConvolutionalDecoderNetwork, ConvolutionalEncoderNetwork, gated_mlp, mlp
from priory.objectives import Elbo, elbo, importance_weighted_bound
from priory.preprocessing import LogNormalise, Rescale, Standardise
from priory.priors import (
    DensityPrior,
    FlowPrior,
    GridPrior,
    GTMPrior,
    GTMVampPrior,
    MixtureOfGaussians,
    MixturePrior,
    Prior,
    StandardNormal,
    VampPrior,
    latent_grid,
)
from priory.vae import VAE

if TYPE_CHECKING:
    from priory.conformance import check_bound, check_prior
    from priory.datasets import load_dataset
    from priory.runs import load
    from priory.training import fit

__version__ = "0.1.0.dev0"

# Imported when first used. The first three need the extra `all`, so that the core needs torch alone, and `from priory
# import *` leaves them out; the checks are for tests.
_LAZY = {
    "fit": "priory.training",
    "load": "priory.runs",
    "load_dataset": "priory.datasets",
    "check_prior": "priory.conformance",
    "check_bound": "priory.conformance",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'priory' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


__all__ = [
    "VAE",
    "BernoulliDecoder",
    "CategoricalDecoder",
    "ConvolutionalDecoderNetwork",
    "ConvolutionalEncoderNetwork",
    "Decoder",
    "DensityPrior",
    "DiscretisedLogisticDecoder",
    "Elbo",
    "Encoder",
    "Estimate",
    "FlowPrior",
    "GTMPrior",
    "GTMVampPrior",
    "GaussianDecoder",
    "GridPrior",
    "LogNormalise",
    "Mixture",
    "MixtureOfGaussians",
    "MixturePrior",
    "NegativeBinomialDecoder",
    "NormalEncoder",
    "Prior",
    "Rescale",
    "StandardNormal",
    "Standardise",
    "VampPrior",
    "diagonal_normal",
    "elbo",
    "evaluate",
    "gated_mlp",
    "importance_weighted_bound",
    "latent_grid",
    "log_likelihood",
    "mlp",
]
