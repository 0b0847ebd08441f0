"""Decoders, from z to p(x|z), one kind of data per file."""

from priory.nn.decoders.base import Decoder, LikelihoodDecoder
from priory.nn.decoders.counts import NegativeBinomialDecoder
from priory.nn.decoders.gaussian import GaussianDecoder
from priory.nn.decoders.levels import BernoulliDecoder, CategoricalDecoder, DiscretizedLogisticDecoder

__all__ = [
    "BernoulliDecoder",
    "CategoricalDecoder",
    "Decoder",
    "DiscretizedLogisticDecoder",
    "GaussianDecoder",
    "LikelihoodDecoder",
    "NegativeBinomialDecoder",
]
