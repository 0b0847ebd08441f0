"""Distributions over data that torch lacks: levels with a mean, a discretised logistic, a stable negative binomial.

All are univariate: batch (...,), event (). A decoder wraps them in `Independent`. Probabilities are never clamped; a
clamped pixel probability does not sum to one.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Gamma, Independent, constraints
from torch.distributions.utils import broadcast_all

Shape = torch.Size | list[int] | tuple[int, ...]

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

# For larger arguments Stirling's series with the six terms below is exact to 1e-14, and for smaller ones all terms of
# the direct formula are below 17, so that float32 loses nothing that matters there.
STIRLING_FROM = 8.0
STIRLING_COEFFICIENTS = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)

# atanh(v) = v + v^3/3 + v^5/5 + ...; for |v| < 0.1 eight terms after the first reach float64.
ATANH_COEFFICIENTS = tuple(1 / (2 * j + 1) for j in range(1, 9))


class Binary(Bernoulli):
    """A Bernoulli distribution that checks its data in one pass; NaN among its parameters shows in `log_prob`.

        p(x = 1) = sigmoid(logits)

    torch's own checks take as long as the density itself, half of it to look for NaN among the parameters.

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
        difference = value * value - value  # zero for 0 and 1 alone
        if value.numel() and any(float(extreme) != 0.0 for extreme in difference.aminmax()):
            super()._validate_sample(value)  # which says what is wrong


class BinaryVector(Independent):
    """D independent Bernoulli variables as one event, with a density of two passes over the logits.

        log p(x) = - sum_d softplus((1 - 2 x_d) logits_d)

    A sum of terms of one sign; torch's own takes twice as long.

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


class CategoricalLevels(Categorical):
    """A categorical distribution whose categories are the numbers 0..K-1, so that it has a mean and a variance.

        p(x = k) = softmax(logits)_k,    mean = sum_k k p(x = k)

    Samples have the floating-point type of the logits, as data rows have, and `log_prob` takes such values. NaN among
    the parameters shows in `log_prob`.

    Args:
        probs: (..., K), probabilities, or
        logits: (..., K), unnormalised log-probabilities.

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


class DiscretisedLogistic(Distribution):
    """A logistic distribution rounded to the levels 0..n-1, with the tails in the first and the last level.

        P(x = k) = S((k + 1/2 - loc) / scale) - S((k - 1/2 - loc) / scale),    S(y) = 1 / (1 + exp(-y)),

    where the lower edge of level 0 is -inf and the upper edge of level n-1 is +inf. With b and a the two arguments,
    log(S(b) - S(a)) = log S(b) + log S(-a) + log(1 - exp(a - b)), a sum of terms of one sign: nothing cancels, no
    probability is clamped, and the n probabilities sum to one. Precise in float32 for scales from 1e-6 to 1e6 levels.

    Args:
        loc: (...,), centre, in levels; may lie outside of 0..n-1.
        log_scale: (...,), logarithm of the scale in levels; before rounding the standard deviation is 1.81 scales.
        num_levels: n, at least two.

    Raises:
        ValueError: num_levels below two.

    Source: Salimans et al. 2017 (arXiv:1701.05517), eq. 2.

    >>> pixel = DiscretisedLogistic(torch.tensor(100.0), torch.tensor(0.0))
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
        new = self._get_checked_instance(DiscretisedLogistic, _instance)
        new.loc, new.log_scale = self.loc.expand(batch_shape), self.log_scale.expand(batch_shape)
        new.num_levels = self.num_levels
        super(DiscretisedLogistic, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Num[Tensor, "..."]) -> Float[Tensor, "..."]:
        if self._validate_args:
            self._validate_sample(value)
        value = _promoted(value, self.loc)
        inverse_scale = torch.exp(-self.log_scale)
        log_below_upper = F.logsigmoid((value + 0.5 - self.loc) * inverse_scale)
        log_above_lower = F.logsigmoid((self.loc + 0.5 - value) * inverse_scale)
        log_overlap = torch.log(-torch.expm1(-inverse_scale))
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
        for level in range(1, self.num_levels):  # one level at a time: an axis of 256 would not fit for many images
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
            # rand can give 0, whose logit is -inf. What is clamped below is the tails: they belong to the end levels.
            logit = torch.logit(u.clamp(min=torch.finfo(u.dtype).tiny))
            return (self.loc + torch.exp(self.log_scale) * logit).round().clamp(0, self.num_levels - 1)


class NegativeBinomial(Distribution):
    """Counts with mean m and variance m + m^2 / r, by the logarithms of the mean and of the total count r.

        P(x) = Gamma(x + r) / (Gamma(r) x!) (r / (r + m))^r (m / (r + m))^x,

    a Poisson distribution whose rate is gamma distributed with shape r. The inverse dispersion is r, and r -> infinity
    is the Poisson distribution. At large m or r the logarithm of that line is a small difference of large numbers; here
    it is computed as a saddle-point expansion, in which they have cancelled on paper. For x > 0

        log P(x) = - log(2 pi x (1 + x/r)) / 2 + d(x + r) - d(r) - d(x) - r f(u_r) - x f(u_x),
        f(u) = u - log(1 + u),    u_r = (x - m) / (r + m),    u_x = (m - x) / x * r / (r + m),

    with d the error of Stirling's formula for log Gamma, and log P(0) = -r log(1 + m/r). Values and gradients hold in
    float32 for m from 1e-8 to 1e8 and r from 1e-4 to 1e8; m = 0 (log_mean = -inf) is the point mass at zero.

    Args:
        log_mean: (...,), log m.
        log_total_count: (...,), log r.

    Source: Loader 2000, "Fast and accurate computation of binomial probabilities"; Robinson & Smyth 2008
    (Biostatistics 9(2)) for the parameters.

    >>> counts = NegativeBinomial(log_mean=torch.tensor(3.0).log(), log_total_count=torch.tensor(1.0).log())
    >>> counts.mean, counts.variance
    (tensor(3.), tensor(12.))
    >>> counts.log_prob(torch.tensor([0.0, 1.0])).exp()
    tensor([0.2500, 0.1875])
    """

    arg_constraints = {"log_mean": constraints.real, "log_total_count": constraints.real}  # noqa: RUF012
    support = constraints.nonnegative_integer

    def __init__(
        self,
        log_mean: Float[Tensor, "..."],
        log_total_count: Float[Tensor, "..."],
        validate_args: bool | None = None,
    ) -> None:
        self.log_mean, self.log_total_count = broadcast_all(log_mean, log_total_count)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> Distribution:
        new = self._get_checked_instance(NegativeBinomial, _instance)
        new.log_mean, new.log_total_count = self.log_mean.expand(batch_shape), self.log_total_count.expand(batch_shape)
        super(NegativeBinomial, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Num[Tensor, "..."]) -> Float[Tensor, "..."]:
        if self._validate_args:
            self._validate_sample(value)
        value = _promoted(value, self.log_mean)
        total_count = torch.exp(self.log_total_count)
        log_prob_zero = total_count * F.logsigmoid(self.log_total_count - self.log_mean)
        positive = value > 0
        return torch.where(positive, self._log_prob_positive(torch.where(positive, value, 1)), log_prob_zero)

    def _log_prob_positive(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        m, r, log_odds = torch.exp(self.log_mean), torch.exp(self.log_total_count), self._log_odds
        u_r = (x - m) / (r + m)
        u_x = (m - x) / x * torch.sigmoid(-log_odds)
        deviance_r = _deviance(u_r, torch.log1p(x / r) + F.logsigmoid(-log_odds))
        deviance_x = _deviance(u_x, torch.log1p(r / x) + F.logsigmoid(log_odds))
        stirling = _stirling_error(x + r) - _stirling_error(r) - _stirling_error(x + torch.zeros_like(r))
        log_density_at_mode = -HALF_LOG_TWO_PI - 0.5 * torch.log(x) - 0.5 * torch.log1p(x / r)
        return log_density_at_mode + stirling - r * deviance_r - x * deviance_x

    @property
    def _log_odds(self) -> Float[Tensor, "..."]:
        """log(m / r), the logit of m / (r + m)."""
        return self.log_mean - self.log_total_count

    @property
    def mean(self) -> Float[Tensor, "..."]:
        return torch.exp(self.log_mean)

    @property
    def variance(self) -> Float[Tensor, "..."]:
        return self.mean * (1 + torch.exp(self._log_odds))

    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        with torch.no_grad():
            # validate_args=False: a rate of inf (m = 0) is meant, it gives the count zero
            rate = Gamma(torch.exp(self.log_total_count), torch.exp(-self._log_odds), validate_args=False)
            return torch.poisson(rate.sample(torch.Size(sample_shape)))


def _deviance(u: Float[Tensor, "..."], log_ratio: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """f(u) = u - log(1 + u) for u >= -1, precise near 0 and, by log_ratio = log(1 + u) found otherwise, near -1."""
    v = u / (2 + u)  # log(1 + u) = 2 atanh(v), and u - 2v = u v
    series = u * v - 2 * v**3 * _polynomial(v * v, ATANH_COEFFICIENTS)
    near_minus_one = u < -0.5
    log1p = torch.where(near_minus_one, log_ratio, torch.log1p(torch.where(near_minus_one, 0, u)))
    return torch.where(v.abs() < 0.1, series, u - log1p)


def _stirling_error(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """d(y) = log Gamma(y) - (y - 1/2) log y + y - log(2 pi) / 2 for y > 0."""
    small, inverse = y.clamp(max=STIRLING_FROM), 1 / y.clamp(min=STIRLING_FROM)
    direct = torch.lgamma(small) - (small - 0.5) * torch.log(small) + small - HALF_LOG_TWO_PI
    return torch.where(y < STIRLING_FROM, direct, inverse * _polynomial(inverse * inverse, STIRLING_COEFFICIENTS))


def _polynomial(x: Float[Tensor, "..."], coefficients: tuple[float, ...]) -> Float[Tensor, "..."]:
    """sum_j coefficients[j] x^j, by Horner's rule."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _promoted(value: Num[Tensor, "..."], parameter: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The value in the parameter's precision; torch would take float32 for integers beside scalar parameters."""
    return value.to(torch.promote_types(value.dtype, parameter.dtype))


def check_num_levels(num_levels: int) -> None:
    """Raise ValueError unless there are at least two levels."""
    if num_levels < 2:
        raise ValueError(
            f"num_levels must be at least 2, but it is {num_levels}; "
            "give the number of values that a datum can take: 256 for pixels in 0..255, 17 for digits in 0..16"
        )
