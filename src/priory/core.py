"""The public names that need torch alone; `priory` gives them as its own, and imports this when the first is used."""

from priory.distributions.mixture import Mixture
from priory.distributions.normal import diagonal_normal
from priory.evaluation import Estimate, evaluate, log_likelihood
from priory.grid.guide import Guide
from priory.grid.nodes import latent_grid
from priory.nn.decoders import (
    BernoulliDecoder,
    CategoricalDecoder,
    Decoder,
    DiscretizedLogisticDecoder,
    GaussianDecoder,
    NegativeBinomialDecoder,
)
from priory.nn.encoders import Encoder, NormalEncoder
from priory.nn.networks import ConvolutionalDecoderNetwork, ConvolutionalEncoderNetwork, gated_mlp, mlp
from priory.nn.preprocessing import LogNormalize, Rescale, Standardize
from priory.objectives import Elbo, elbo, guided_elbo, importance_weighted_bound
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
    "DiscretizedLogisticDecoder",
    "Elbo",
    "Encoder",
    "Estimate",
    "FlowPrior",
    "GTMPrior",
    "GTMVampPrior",
    "GaussianDecoder",
    "GridPrior",
    "Guide",
    "LogNormalize",
    "Mixture",
    "MixtureOfGaussians",
    "MixturePrior",
    "NegativeBinomialDecoder",
    "NormalEncoder",
    "Prior",
    "Rescale",
    "StandardNormal",
    "Standardize",
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
