"""Counts: a negative binomial that is precise for tiny to very large counts."""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.distributions import Distribution, Gamma, constraints
from torch.distributions.utils import broadcast_all

from priory.density.exported import is_exporting
from priory.distributions.values import Shape, log_sigmoid, promoted, sigmoid

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

# For larger arguments Stirling's series with the six terms below is exact to 1e-14. For smaller ones all terms of the
# direct formula are below 17, so float32 loses no digits that matter.
STIRLING_FROM = 8.0
STIRLING_COEFFICIENTS = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)

# atanh(v) = v + v^3/3 + v^5/5 + ...; for |v| < 0.1, eight terms after the first give float64 precision.
ATANH_COEFFICIENTS = tuple(1 / (2 * j + 1) for j in range(1, 9))


class NegativeBinomial(Distribution):
    """Counts with mean m and variance m + m^2 / r, given by the logarithms of the mean and of the total count r.

        P(x) = Gamma(x + r) / (Gamma(r) x!) (r / (r + m))^r (m / (r + m))^x,

    a Poisson distribution whose rate is gamma distributed with shape r. The inverse dispersion is r; r -> infinity is
    the Poisson distribution. For large m or r, the logarithm of this expression is a small difference of large numbers.
    So it is computed as a saddle-point expansion, in which they cancel analytically. For x > 0

        log P(x) = - log(2 pi x (1 + x/r)) / 2 + d(x + r) - d(r) - d(x) - r f(u_r) - x f(u_x),
        f(u) = u - log(1 + u),    u_r = (x - m) / (r + m),    u_x = (m - x) / x * r / (r + m),

    with d the error of Stirling's formula for log Gamma, and log P(0) = -r log(1 + m/r). Values and gradients are
    precise in float32 for m from 1e-8 to 1e8 and r from 1e-4 to 1e8; m = 0 (log_mean = -inf) is the point mass at zero.

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
        self, log_mean: Float[Tensor, "..."], log_total_count: Float[Tensor, "..."], validate_args: bool | None = None
    ) -> None:
        self.log_mean, self.log_total_count = broadcast_all(log_mean, log_total_count)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> Distribution:
        log_mean, log_total_count = self.log_mean.expand(batch_shape), self.log_total_count.expand(batch_shape)
        return NegativeBinomial(log_mean, log_total_count, self._validate_args)

    def log_prob(self, value: Num[Tensor, "..."]) -> Float[Tensor, "..."]:
        if self._validate_args:
            self._validate_sample(value)
        value = promoted(value, self.log_mean)
        total_count = torch.exp(self.log_total_count)
        log_prob_zero = total_count * log_sigmoid(self.log_total_count - self.log_mean)
        positive = value > 0
        return torch.where(positive, self._log_prob_positive(torch.where(positive, value, 1)), log_prob_zero)

    def _log_prob_positive(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        m, r, log_odds = torch.exp(self.log_mean), torch.exp(self.log_total_count), self._log_odds
        u_r = (x - m) / (r + m)
        u_x = (m - x) / x * sigmoid(-log_odds)
        deviance_r = _deviance(u_r, torch.log1p(x / r) + log_sigmoid(-log_odds))
        deviance_x = _deviance(u_x, torch.log1p(r / x) + log_sigmoid(log_odds))
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
            # validate_args=False, because a rate of inf (m = 0) is valid: the count is zero
            rate = Gamma(torch.exp(self.log_total_count), torch.exp(-self._log_odds), validate_args=False)
            return torch.poisson(rate.sample(torch.Size(sample_shape)))


def _deviance(u: Float[Tensor, "..."], log_ratio: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """f(u) = u - log(1 + u) for u >= -1; precise near 0, and near -1 if log_ratio = log(1 + u) is precise."""
    v = u / (2 + u)  # log(1 + u) = 2 atanh(v), and u - 2v = u v
    series = u * v - 2 * v**3 * _polynomial(v * v, ATANH_COEFFICIENTS)
    near_minus_one = u < -0.5
    log1p = torch.where(near_minus_one, log_ratio, torch.log1p(torch.where(near_minus_one, 0, u)))
    return torch.where(v.abs() < 0.1, series, u - log1p)


def _stirling_error(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """d(y) = log Gamma(y) - (y - 1/2) log y + y - log(2 pi) / 2 for y > 0."""
    is_small = y < STIRLING_FROM
    small = torch.where(is_small, y, STIRLING_FROM)
    large = torch.where(is_small, STIRLING_FROM, y)  # not y.clamp: from torch 2.14 on, it has no gradient at the bound
    direct = _log_gamma(small) - (small - 0.5) * torch.log(small) + small - HALF_LOG_TWO_PI
    return torch.where(is_small, direct, _stirling_series(large))


def _stirling_series(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """d(y) for y >= 8."""
    inverse = 1 / y
    return inverse * _polynomial(inverse * inverse, STIRLING_COEFFICIENTS)


def _log_gamma(y: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log Gamma(y) for 0 < y <= 8. ONNX lacks it, so graphs use log Gamma(y + 8) - log(y (y + 1) ... (y + 7))."""
    if not is_exporting():
        return torch.lgamma(y)
    above = y + STIRLING_FROM
    product = torch.stack([y + step for step in range(int(STIRLING_FROM))]).prod(0)
    return (above - 0.5) * torch.log(above) - above + HALF_LOG_TWO_PI + _stirling_series(above) - torch.log(product)


def _polynomial(x: Float[Tensor, "..."], coefficients: tuple[float, ...]) -> Float[Tensor, "..."]:
    """sum_j coefficients[j] x^j, by Horner's rule."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
