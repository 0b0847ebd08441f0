"""Distributions over data that torch lacks, by the kind of data as in `likelihoods`.

A discretized logistic, levels with a mean, a stable negative binomial, Bernoulli vectors with a fast density. Most are
univariate, batch (...,), event (): a decoder wraps them in `Independent`. Probabilities are never clamped; a clamped
pixel probability does not sum to one.
"""

from priory.distributions.binary import BinaryVector
from priory.distributions.counts import NegativeBinomial
from priory.distributions.levels import CategoricalLevels, DiscretizedLogistic, check_num_levels

__all__ = ["BinaryVector", "CategoricalLevels", "DiscretizedLogistic", "NegativeBinomial", "check_num_levels"]
