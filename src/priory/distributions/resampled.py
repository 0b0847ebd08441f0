"""A density times an acceptance probability, normalized: the distribution of rejection sampling."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.density import working_dtype
from priory.distributions.mixture import Mixture
from priory.distributions.normal import is_diagonal_normal

DRAWS_AT_ONCE = 2**15  # draws of the base in one call of the network
LEAST_ACCEPTANCE = 1e-6  # without truncation, sampling with a lower acceptance would take too long
MOST_EXTREME = (1e-30, 1 - 1e-7)  # limits of Z, so that log Z and log(1 - Z) stay finite in float32

LogFunction = Callable[[Float[Tensor, "*batch latent"]], Float[Tensor, "*batch"]]


class Resampled(Distribution):
    """p(z) = base(z) ((1 - r) a(z) / Z + r),    Z = E_base [a(z)],    r = (1 - Z)^(T - 1).

    Draw from the base until a draw is accepted, with probability a(z); always accept the T-th draw. r is the
    probability that all draws before it are rejected. Without T, r is zero.

    Args:
        base: a distribution over vectors, without batch dimensions.
        log_acceptance: from z (..., L) to log a(z), (...), at most zero.
        truncation: T, at least 2; None never accepts a draw without the test.
        num_draws: draws of the base that estimate Z.

    Attributes:
        log_normalizer: log Z, an estimate with gradients in the acceptance and the base.
        relative_error: standard error of Z divided by Z, which is the standard error of log Z.

    Source: Bauer & Mnih 2019, arXiv:1810.11428.

    >>> from priory import diagonal_normal
    >>> base = diagonal_normal(torch.zeros(1), torch.ones(1))
    >>> half = Resampled(base, lambda z: torch.nn.functional.logsigmoid(50 * z).squeeze(-1), None, 10_000)
    >>> half.log_normalizer.exp().round(decimals=1), bool((half.sample((100,)) > -0.2).all())
    (tensor(0.5000, dtype=torch.float64), True)
    """

    arg_constraints = {}  # noqa: RUF012, torch's convention; nothing to check

    def __init__(self, base: Distribution, log_acceptance: LogFunction, truncation: int | None, num_draws: int) -> None:
        self.base, self.log_acceptance, self.truncation = base, log_acceptance, truncation
        self.log_normalizer, self.relative_error = log_expectation(base, log_acceptance, num_draws)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the base."""
        return self.base.support

    def log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """log p(z), in nats."""
        log_acceptance = self.log_acceptance(value)
        log_ratio = log_acceptance - self.log_normalizer.to(log_acceptance)
        if self.truncation is not None:  # log r and log(1 - r), without cancellation in 1 - r for a small Z
            log_refused = (self.truncation - 1) * torch.log1p(-self.log_normalizer.exp().clamp(*MOST_EXTREME))
            log_taken = torch.log(-torch.expm1(log_refused))
            log_ratio = torch.logaddexp(log_ratio + log_taken.to(log_ratio), log_refused.to(log_ratio))
        return self.base.log_prob(value) + log_ratio

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*sample latent"]:
        """Draw values by rejection sampling; each takes 1 / Z draws of the base on average, and at most T.

        Raises:
            ValueError: there is no truncation, and Z is below 1e-6.
        """
        acceptance = float(self.log_normalizer.exp())
        if self.truncation is None and acceptance < LEAST_ACCEPTANCE:
            raise ValueError(
                f"sample: expected the base's draws to be accepted with a probability of {LEAST_ACCEPTANCE:g} or more, "
                f"got {acceptance:.1g}; give the prior a truncation, such as truncation=100"
            )
        shape = torch.Size(sample_shape)
        parts = [self._sampled(len(part)) for part in torch.arange(shape.numel()).split(DRAWS_AT_ONCE)]
        return torch.cat(parts).reshape(*shape, *self.event_shape)

    def _sampled(self, count: int) -> Float[Tensor, "count latent"]:
        """Draw `count` values; the fewer values are still missing, the more draws each of them gets at once."""
        z = self.base.sample(torch.Size((count,)))
        waiting = torch.arange(count, device=z.device)
        left, width = math.inf if self.truncation is None else self.truncation, 1
        while len(waiting):
            width = int(min(left, 2 * width, max(1, DRAWS_AT_ONCE // len(waiting))))
            proposed = self.base.sample(torch.Size((len(waiting), width)))
            accepted = torch.rand(proposed.shape[:-1], device=z.device).log() < self.log_acceptance(proposed)
            left -= width
            if left == 0:
                accepted[:, -1] = True
            done, first = accepted.any(-1), accepted.int().argmax(-1)
            z[waiting[done]] = proposed[done, first[done]]
            waiting = waiting[~done]
        return z


def log_expectation(base: Distribution, log_value: LogFunction, num_draws: int) -> tuple[Tensor, Tensor]:
    """Estimate log E_base [exp(log_value(z))] by draws of the base, with gradients in both; also its standard error.

    Each component of a mixture has the same number of draws, weighted by its weight, so the estimate is also a smooth
    function of the weights. The estimate of the expectation is unbiased, so its logarithm is too low by half of the
    squared standard error.

    Args:
        base: a distribution over vectors, without batch dimensions.
        log_value: from z (..., L) to a logarithm, (...).
        num_draws: the number of draws; at least two for each component.

    >>> from priory import diagonal_normal
    >>> base = diagonal_normal(torch.zeros(1), torch.ones(1))
    >>> log_expectation(base, lambda z: torch.full_like(z[..., 0], -2.0), 10)[0].float()
    tensor(-2.)
    """
    if isinstance(base, Mixture):
        parts, log_weights = base.components, base.log_weights
    else:
        parts, log_weights = base, torch.zeros(1)
    each = max(2, num_draws // len(log_weights))
    log_values_of_parts = []
    for start in range(0, each, step := max(1, DRAWS_AT_ONCE // len(log_weights))):
        z, log_ratio = _differentiable_draws(parts, min(step, each - start))
        log_values_of_parts.append((log_value(z) + log_ratio).reshape(len(z), -1).to(working_dtype(z.device)))
    log_values = torch.cat(log_values_of_parts)  # (draw, component)
    log_weights = log_weights.to(log_values)
    log_mean = torch.logsumexp(log_values + log_weights, (0, 1)) - math.log(each)
    terms = torch.exp(log_values + log_weights - log_mean).detach()
    return log_mean, (terms.var(0).sum() / each).sqrt()


def _differentiable_draws(parts: Distribution, number: int) -> tuple[Tensor, Tensor | float]:
    """Draw z from each distribution of a batch; if z has no gradient, also return a zero with that of log p(z)."""
    shape = torch.Size((number,))
    if is_diagonal_normal(parts):
        normal: Any = parts.base_dist  # type: ignore[attr-defined]
        noise = torch.randn(*shape, *normal.loc.shape, dtype=torch.float32, device="cpu")
        return normal.loc + normal.scale * noise.to(normal.loc), 0.0  # same draws in all precisions, on all devices
    if parts.has_rsample:
        return parts.rsample(shape), 0.0
    z = parts.sample(shape)
    log_prob = parts.log_prob(z)
    return z, log_prob - log_prob.detach()
