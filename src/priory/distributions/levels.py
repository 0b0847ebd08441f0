"""Levels 0..n-1: with separate probabilities, or as a rounded logistic."""

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints
from torch.distributions.utils import broadcast_all

from priory.distributions.values import Shape, log_one_minus_exp, log_sigmoid, promoted


class CategoricalLevels(Categorical):
    """A categorical distribution over the numbers 0..K-1, so that it has a mean and a variance.

        p(x = k) = softmax(logits)_k,    mean = sum_k k p(x = k)

    Samples have the floating-point type of the logits, as data rows have, and `log_prob` accepts such values. NaN in
    the parameters gives NaN in `log_prob`.

    Args:
        probs: (..., K), probabilities, or
        logits: (..., K), unnormalized log-probabilities.

    >>> levels = CategoricalLevels(logits=torch.zeros(5))
    >>> levels.mean, levels.variance
    (tensor(2.), tensor(2.))
    >>> levels.log_prob(torch.tensor(3.0)).exp()
    tensor(0.2000)
    """

    arg_constraints = {}  # noqa: RUF012, torch's convention; its search for NaN takes a quarter of a decoding

    @property
    def mean(self) -> Float[Tensor, "..."]:
        return (self.probs * self._levels()).sum(-1)

    @property
    def variance(self) -> Float[Tensor, "..."]:
        return (self.probs * (self._levels() - self.mean.unsqueeze(-1)) ** 2).sum(-1)

    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        return super().sample(torch.Size(sample_shape)).to(self._levels().dtype)

    def _levels(self) -> Float[Tensor, " level"]:
        return torch.arange(self._num_events, dtype=self._param.dtype, device=self._param.device)


class DiscretizedLogistic(Distribution):
    """A logistic distribution rounded to the levels 0..n-1, with the tails in the first and the last level.

        P(x = k) = S((k + 1/2 - loc) / scale) - S((k - 1/2 - loc) / scale),    S(y) = 1 / (1 + exp(-y)),

    with -inf as the lower edge of level 0 and +inf as the upper edge of level n-1. With b and a the two arguments,
    log(S(b) - S(a)) = log S(b) + log S(-a) + log(1 - exp(a - b)). All terms have one sign, so nothing cancels, no
    probability is clamped, and the n probabilities sum to one. Precise in float32 for scales from 1e-6 to 1e6 levels.

    Args:
        loc: (...,), center, in levels; may be outside of 0..n-1.
        log_scale: (...,), logarithm of the scale in levels; before rounding the standard deviation is 1.81 scales.
        num_levels: n, at least two.

    Raises:
        ValueError: num_levels below two.

    Source: Salimans et al. 2017 (arXiv:1701.05517), eq. 2.

    >>> pixel = DiscretizedLogistic(torch.tensor(100.0), torch.tensor(0.0))
    >>> pixel.log_prob(torch.tensor([0.0, 100.0]))
    tensor([-99.5000,  -1.4068])
    """

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}  # noqa: RUF012, torch's convention

    def __init__(
        self,
        loc: Float[Tensor, "..."],
        log_scale: Float[Tensor, "..."],
        num_levels: int = 256,
        validate_args: bool | None = None,
    ) -> None:
        check_num_levels(num_levels)
        self.loc, self.log_scale = broadcast_all(loc, log_scale)
        self.num_levels = num_levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.num_levels - 1)

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> Distribution:
        loc, log_scale = self.loc.expand(batch_shape), self.log_scale.expand(batch_shape)
        return DiscretizedLogistic(loc, log_scale, self.num_levels, self._validate_args)

    def log_prob(self, value: Num[Tensor, "..."]) -> Float[Tensor, "..."]:
        if self._validate_args:
            self._validate_sample(value)
        value = promoted(value, self.loc)
        inverse_scale = torch.exp(-self.log_scale)
        log_below_upper = log_sigmoid((value + 0.5 - self.loc) * inverse_scale)
        log_above_lower = log_sigmoid((self.loc + 0.5 - value) * inverse_scale)
        log_overlap = log_one_minus_exp(inverse_scale)
        has_lower, has_upper = value > 0, value < self.num_levels - 1
        return (
            torch.where(has_upper, log_below_upper, 0)
            + torch.where(has_lower, log_above_lower, 0)
            + torch.where(has_lower & has_upper, log_overlap, 0)
        )

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """The exact mean, sum_{k=1}^{n-1} P(x >= k)."""
        inverse_scale = torch.exp(-self.log_scale)
        total = torch.zeros_like(self.loc)
        for level in range(1, self.num_levels):  # one level at a time, because an axis of 256 needs too much memory
            total = total + torch.sigmoid((self.loc + 0.5 - level) * inverse_scale)
        return total

    @property
    def variance(self) -> Float[Tensor, "..."]:
        """The exact variance, sum_k (k - mean)^2 P(x = k)."""
        mean, total = self.mean, torch.zeros_like(self.loc)
        for level in range(self.num_levels):
            total = total + (level - mean) ** 2 * self.log_prob(torch.full_like(self.loc, level)).exp()
        return total

    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
            # rand can return 0, whose logit is -inf. The last line clamps the tails to the end levels.
            logit = torch.logit(u.clamp(min=torch.finfo(u.dtype).tiny))
            return (self.loc + torch.exp(self.log_scale) * logit).round().clamp(0, self.num_levels - 1)


def check_num_levels(num_levels: int) -> None:
    """Raise ValueError unless there are at least two levels."""
    if num_levels < 2:
        raise ValueError(
            f"num_levels: expected at least 2, got {num_levels}; "
            "give the number of values that a datum can have: 256 for pixels in 0..255, 17 for digits in 0..16"
        )
