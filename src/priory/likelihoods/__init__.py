"""The likelihoods p(x|z): decoders, one kind of data a file. To add one: write it, and one line in `LIKELIHOODS`."""

from priory.likelihoods.base import Decoder, LikelihoodDecoder
from priory.likelihoods.counts import NegativeBinomialDecoder
from priory.likelihoods.gaussian import GaussianDecoder
from priory.likelihoods.levels import BernoulliDecoder, CategoricalDecoder, DiscretisedLogisticDecoder

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
