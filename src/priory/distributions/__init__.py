"""Distributions of data that torch lacks, by the kind of data.

Binary vectors with a fast density, levels with a mean, a discretized logistic, a stable negative binomial. Most are
univariate, with batch (...,) and event (): a decoder wraps them in `Independent`. Probabilities are never clamped,
because clamped pixel probabilities do not sum to one.
"""

from priory.distributions.binary import BinaryVector
from priory.distributions.counts import NegativeBinomial
from priory.distributions.levels import CategoricalLevels, DiscretizedLogistic, check_num_levels

__all__ = ["BinaryVector", "CategoricalLevels", "DiscretizedLogistic", "NegativeBinomial", "check_num_levels"]
