"""A density times an acceptance probability, normalized: what rejection sampling draws from."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution


class Resampled(Distribution):
    """p(z) = base(z) (acceptance(z) (1 - r) / Z + r),    Z = E_base [acceptance],    r = (1 - Z)^(T - 1).

    The distribution of rejection sampling from `base` that accepts the T-th draw if it has refused all before. r, the
    probability that it comes to this, is zero for T = infinity.

    Args:
        base: a distribution over vectors without batch dimensions.
        log_acceptance: from z (..., L) to the logarithm of a probability, (...).
        log_normalizer: log Z, a scalar.
        truncation: T, at least 1; infinity never gives up.
        relative_error: the standard error of Z over Z, if it is an estimate.

    Source: Bauer & Mnih 2019, arXiv:1810.11428, eq. 7.
    """

    arg_constraints = {}  # noqa: RUF012, torch's convention; nothing to check
    has_rsample = False

    def __init__(
        self,
        base: Distribution,
        log_acceptance: Callable[[Tensor], Tensor],
        log_normalizer: Float[Tensor, ""],
        truncation: float = math.inf,
        relative_error: float = 0.0,
    ) -> None:
        self.base, self.log_acceptance, self.truncation = base, log_acceptance, truncation
        self.log_normalizer, self.relative_error = log_normalizer, relative_error
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base.support

    def log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """log p(z), in nats."""
        accepted = self.log_acceptance(value) - self.log_normalizer
        if math.isinf(self.truncation):
            return self.base.log_prob(value) + accepted
        # log r, without the cancellation of 1 - Z for a small Z
        log_refused = (self.truncation - 1) * torch.log1p(-self.log_normalizer.exp().clamp(max=1 - 1e-7))
        log_not_refused = torch.log(-torch.expm1(log_refused).clamp(max=-1e-38))
        return self.base.log_prob(value) + torch.logaddexp(accepted + log_not_refused, log_refused.expand_as(accepted))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*sample latent"]:
        """Draw from the base until a draw is accepted, at most T times."""
        shape = torch.Size(sample_shape)
        z = self.base.sample(torch.Size((shape.numel(),)))
        waiting = torch.arange(len(z), device=z.device)
        tries = 1
        while len(waiting) and tries < self.truncation:
            proposed = z[waiting]
            refused = torch.rand(len(waiting), device=z.device).log() >= self.log_acceptance(proposed)
            waiting = waiting[refused]
            z[waiting] = self.base.sample(torch.Size((len(waiting),)))
            tries += 1
        return z.reshape(*shape, *self.event_shape)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Resampled":
        """The same distribution with its batch dimensions broadcast to `batch_shape`."""
        base = self.base.expand(torch.Size(batch_shape))
        return Resampled(base, self.log_acceptance, self.log_normalizer, self.truncation, self.relative_error)
