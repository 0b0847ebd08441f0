"""The public names that need torch alone; `priory` gives them as its own, and imports this when the first is used."""

from priory.distributions import diagonal_normal
from priory.encoders import Encoder, NormalEncoder
from priory.evaluation import Estimate, evaluate, log_likelihood
from priory.grids import latent_grid
from priory.guide import Guide
from priory.likelihoods import (
    BernoulliDecoder,
    CategoricalDecoder,
    Decoder,
    DiscretisedLogisticDecoder,
    GaussianDecoder,
    NegativeBinomialDecoder,
)
from priory.mixture import Mixture
from priory.networks import ConvolutionalDecoderNetwork, ConvolutionalEncoderNetwork, gated_mlp, mlp
from priory.objectives import Elbo, elbo, guided_elbo, importance_weighted_bound
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
)
from priory.vae import VAE

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
    "Guide",
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
    "guided_elbo",
    "importance_weighted_bound",
    "latent_grid",
    "log_likelihood",
    "mlp",
]
