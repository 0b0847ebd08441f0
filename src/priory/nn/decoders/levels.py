"""Decoders of binary data and of levels 0..n-1."""

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, constraints

from priory.distributions import BinaryVector, CategoricalLevels, DiscretizedLogistic, check_num_levels
from priory.nn.decoders.base import LikelihoodDecoder, softly_bounded
from priory.nn.preprocessing import Identity, Rescale

# The initial scale of a discretized logistic is a tenth of the range, so that no pixel starts in a far tail.
INITIAL_RELATIVE_LOG_SCALE = math.log(0.1)


class BernoulliDecoder(LikelihoodDecoder):
    """Binary data, p(x_d = 1 | z) = sigmoid(network(z)_d).

    Args:
        network: maps z (..., L) to logits (..., D).

    >>> import torch
    >>> decoder = BernoulliDecoder(torch.nn.Linear(2, 5))
    >>> p_x = decoder(torch.zeros(3, 2))
    >>> p_x.batch_shape, p_x.event_shape
    (torch.Size([3]), torch.Size([5]))
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, self.outputs_per_dimension())

    @classmethod
    def support(cls, **options: Any) -> constraints.Constraint:
        return constraints.boolean

    @classmethod
    def preprocessing(cls, rows: Float[Tensor, "datum input"], **options: Any) -> Identity:
        return Identity()

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        return BinaryVector(self.outputs(z).squeeze(-1))


class LevelDecoder(LikelihoodDecoder):
    """Base class of decoders of levels 0..n-1."""

    @classmethod
    def support(cls, num_levels: int = 256, **options: Any) -> constraints.Constraint:
        return constraints.integer_interval(0, num_levels - 1)

    @classmethod
    def preprocessing(cls, rows: Float[Tensor, "datum input"], num_levels: int = 256, **options: Any) -> Rescale:
        return Rescale(0.0, float(num_levels - 1))


class CategoricalDecoder(LevelDecoder):
    """Levels 0..n-1, each with its own probability, p(x_d = k | z) = softmax_k(network(z)_d).

    Args:
        network: maps z (..., L) to logits (..., D * n).
        num_levels: n, at least two.

    Raises:
        ValueError: num_levels below two; a network whose output width is not a multiple of it.

    >>> import torch
    >>> decoder = CategoricalDecoder(torch.nn.Linear(2, 5 * 17), num_levels=17)
    >>> decoder(torch.zeros(3, 2)).mean.shape
    torch.Size([3, 5])
    """

    def __init__(self, network: nn.Module, num_levels: int) -> None:
        check_num_levels(num_levels)
        super().__init__(network, self.outputs_per_dimension(num_levels=num_levels))
        self.num_levels = num_levels

    @classmethod
    def outputs_per_dimension(cls, num_levels: int, **options: Any) -> int:
        return num_levels

    @classmethod
    def options_for(cls, highest: float) -> dict[str, Any]:
        return {"num_levels": int(highest) + 1}

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        return Independent(CategoricalLevels(logits=self.outputs(z)), 1)


class DiscretizedLogisticDecoder(LevelDecoder):
    """Ordered levels 0..n-1: for each pixel, a logistic density rounded to levels.

            x_d | z ~ round(Logistic((n - 1) loc_d(z), (n - 1) scale_d(z))), with the tails in the end levels

    The network returns loc, in units of the range, so that 0 is the lowest level and 1 the highest, and log(scale /
    0.1). Loc is unbounded: outside of [0, 1], a pixel is certainly black or white. The logarithm is bounded smoothly,
    which keeps every density finite and every gradient nonzero at ordinary values.

    Args:
        network: maps z (..., L) to (..., D * 2).
        num_levels: n, at least two.

    Raises:
        ValueError: num_levels below two; a network whose output width is odd.

    Source: Salimans et al. 2017 (arXiv:1701.05517), eq. 2.

    >>> import torch
    >>> decoder = DiscretizedLogisticDecoder(torch.nn.Linear(2, 5 * 2), num_levels=256)
    >>> decoder(torch.zeros(3, 2)).log_prob(torch.zeros(3, 5)).shape
    torch.Size([3])
    """

    def __init__(self, network: nn.Module, num_levels: int = 256) -> None:
        check_num_levels(num_levels)
        super().__init__(network, self.outputs_per_dimension())
        self.num_levels = num_levels

    @classmethod
    def outputs_per_dimension(cls, **options: Any) -> int:
        return 2

    @classmethod
    def options_for(cls, highest: float) -> dict[str, Any]:
        return {"num_levels": max(256, int(highest) + 1)}

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        loc, relative_log_scale = self.outputs(z).unbind(-1)
        log_scale = math.log(self.num_levels - 1) + INITIAL_RELATIVE_LOG_SCALE + relative_log_scale
        levels = DiscretizedLogistic((self.num_levels - 1) * loc, softly_bounded(log_scale), self.num_levels)
        return Independent(levels, 1)
