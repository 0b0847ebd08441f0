"""The likelihoods of the command line. To add one, add a line to `LIKELIHOODS`."""

from pydantic import Field

from priory.workbench.settings.base import Settings
from priory.workbench.settings.parts import LikelihoodPart, as_likelihood_part
from priory.workbench.settings.registry import Registry


class LevelSettings(Settings):
    """Settings of a likelihood of integers 0..n-1."""

    num_levels: int | None = Field(
        None, ge=2, le=10**9, description="number of levels of categorical or discretized-logistic values"
    )


LIKELIHOODS = Registry("likelihood", "priory.likelihoods", as_likelihood_part)
for _name, _decoder, _settings in (
    ("bernoulli", "BernoulliDecoder", Settings),
    ("categorical", "CategoricalDecoder", LevelSettings),
    ("gaussian", "GaussianDecoder", Settings),
    ("discretized-logistic", "DiscretizedLogisticDecoder", LevelSettings),
    ("negative-binomial", "NegativeBinomialDecoder", Settings),
):
    LIKELIHOODS.register(_name, LikelihoodPart(f"priory.nn.decoders:{_decoder}", _settings))
