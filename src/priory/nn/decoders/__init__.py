"""The likelihoods p(x|z): decoders, one kind of data a file. To add one: write it, and one line in `LIKELIHOODS`."""

from priory.nn.decoders.base import Decoder, LikelihoodDecoder
from priory.nn.decoders.counts import NegativeBinomialDecoder
from priory.nn.decoders.gaussian import GaussianDecoder
from priory.nn.decoders.levels import BernoulliDecoder, CategoricalDecoder, DiscretisedLogisticDecoder

LIKELIHOODS: dict[str, type[LikelihoodDecoder]] = {
    "bernoulli": BernoulliDecoder,
    "categorical": CategoricalDecoder,
    "gaussian": GaussianDecoder,
    "discretised-logistic": DiscretisedLogisticDecoder,
    "negative-binomial": NegativeBinomialDecoder,
}

__all__ = [
    "LIKELIHOODS",
    "BernoulliDecoder",
    "CategoricalDecoder",
    "Decoder",
    "DiscretisedLogisticDecoder",
    "GaussianDecoder",
    "LikelihoodDecoder",
    "NegativeBinomialDecoder",
]
