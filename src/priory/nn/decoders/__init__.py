"""The likelihoods p(x|z): decoders, one kind of data a file. To add one: write it, and one line in `LIKELIHOODS`."""

from priory.nn.decoders.base import Decoder, LikelihoodDecoder
from priory.nn.decoders.counts import NegativeBinomialDecoder
from priory.nn.decoders.gaussian import GaussianDecoder
from priory.nn.decoders.levels import BernoulliDecoder, CategoricalDecoder, DiscretizedLogisticDecoder

LIKELIHOODS: dict[str, type[LikelihoodDecoder]] = {
    "bernoulli": BernoulliDecoder,
    "categorical": CategoricalDecoder,
    "gaussian": GaussianDecoder,
    "discretized-logistic": DiscretizedLogisticDecoder,
    "negative-binomial": NegativeBinomialDecoder,
}

__all__ = [
    "LIKELIHOODS",
    "BernoulliDecoder",
    "CategoricalDecoder",
    "Decoder",
    "DiscretizedLogisticDecoder",
    "GaussianDecoder",
    "LikelihoodDecoder",
    "NegativeBinomialDecoder",
]
