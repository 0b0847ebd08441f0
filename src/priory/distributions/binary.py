"""Distributions of zeros and ones."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from priory.density import is_transformed
from priory.distributions.values import Shape


class Binary(Bernoulli):
    """A Bernoulli distribution that checks its data in one pass; NaN in its parameters gives NaN in `log_prob`.

        p(x = 1) = sigmoid(logits)

    torch's own checks take as long as the density itself; half of the time they look for NaN in the parameters.

    Args:
        probs: (...,), probabilities, or
        logits: (...,), their log-odds.

    Raises:
        ValueError: `log_prob` of a value that is neither 0 nor 1.

    >>> Binary(logits=torch.zeros(2)).log_prob(torch.tensor([0.0, 1.0])).exp()
    tensor([0.5000, 0.5000])
    """

    arg_constraints = {}  # noqa: RUF012, torch's convention; nothing to check

    def _validate_sample(self, value: Num[Tensor, "..."]) -> None:
        if torch.compiler.is_compiling():  # a graph has no numbers to check
            return
        if is_transformed():
            super()._validate_sample(value)
            return
        difference = value * value - value  # zero only for 0 and 1
        if value.numel() and any(float(extreme) != 0.0 for extreme in difference.aminmax()):
            super()._validate_sample(value)  # it raises the error


class BinaryVector(Independent):
    """D independent Bernoulli variables as one event; the density takes two passes over the logits.

        log p(x) = - sum_d softplus((1 - 2 x_d) logits_d)

    All terms of the sum have one sign. torch's own density takes twice as long.

    Args:
        logits: (..., D), log-odds.

    Raises:
        ValueError: `log_prob` of a value that is neither 0 nor 1.

    >>> BinaryVector(torch.zeros(2)).log_prob(torch.tensor([0.0, 1.0])).exp()
    tensor(0.2500)
    """

    def __init__(self, logits: Float[Tensor, "*batch input"]) -> None:
        super().__init__(Binary(logits=logits), 1)

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> "BinaryVector":
        return BinaryVector(self.base_dist.logits.expand(*batch_shape, -1))

    def log_prob(self, value: Num[Tensor, "*batch input"]) -> Float[Tensor, "*batch"]:
        if self._validate_args:
            self.base_dist._validate_sample(value)
        logits = self.base_dist.logits
        return -F.softplus((1 - 2 * value.to(logits.dtype)) * logits).sum(-1)
