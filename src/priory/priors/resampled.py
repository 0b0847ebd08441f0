"""The resampled prior: a base prior whose draws a learned network accepts or refuses."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory._support.seeds import own_noise
from priory.distributions.resampled import Resampled
from priory.model import device_of
from priory.priors.base import Encoder, Features, Prior

TRAINING_DRAWS = 1024  # of the base in each step
DRAWS = 2**17  # in evaluation; the error of Z is then 0.3 % if a draw in 3000 is accepted with probability one
DRAWS_AT_ONCE = 2**14
SEED = 0  # of the draws in evaluation, so that the density is the same each time


class ResampledPrior(Prior):
    """p(z) = base(z) (a(z) (1 - r) / Z + r),    Z = E_base [a],    r = (1 - Z)^(T - 1).

    a(z) = sigmoid(network(z)) is the probability of accepting a draw of the base; after T - 1 refusals the next draw is
    taken. Z is an estimate: in training a moving average over steps, through which the gradient of the step's own draws
    flows; in evaluation a mean over 131 072 draws of the base, whose standard error the metric `log_normalizer` has.

    Args:
        base: any prior.
        network: from z (..., L) to a logit, (..., 1).
        truncation: T; infinity never gives up.
        smoothing: share of the step's own estimate in the moving average.

    Raises:
        ValueError: truncation is below 1, or smoothing is outside of (0, 1].

    Reference: Bauer & Mnih 2019, arXiv:1810.11428, eq. 7-11.

    >>> from priory import StandardNormal, mlp
    >>> prior = ResampledPrior(StandardNormal(2), mlp(2, [8], 1)).eval()
    >>> prior().log_prob(torch.zeros(3, 2)).shape, prior().relative_error < 0.01
    (torch.Size([3]), True)
    """

    summary = "any prior whose draws a learned network accepts or refuses"
    reference = "Bauer & Mnih 2019, arXiv:1810.11428, eq. 7-11"
    normalizer: Tensor

    def __init__(self, base: Prior, network: nn.Module, *, truncation: float = 100, smoothing: float = 0.1) -> None:
        super().__init__()
        if not truncation >= 1:
            raise ValueError(f"truncation: expected at least 1 draw, got {truncation}")
        if not 0 < smoothing <= 1:
            raise ValueError(f"smoothing: expected a share in (0, 1], got {smoothing}")
        self.base, self.network = base, network
        self.truncation, self.smoothing = truncation, smoothing
        self.register_buffer("normalizer", torch.tensor(math.nan))

    @property
    def needs_encoder(self) -> bool:  # type: ignore[override]
        """Whether the base prior needs the encoder."""
        return self.base.needs_encoder

    @property
    def latent_dim(self) -> int | None:  # type: ignore[override]
        """L, or None if the encoder decides."""
        return self.base.latent_dim

    def log_acceptance(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """log a(z)."""
        return F.logsigmoid(self.network(z).squeeze(-1))

    def forward(self, encoder: Encoder | None = None) -> Resampled:
        """p(z), with batch shape () and event shape (L,).

        Raises:
            TypeError: the base prior needs the encoder, and there is none.
        """
        p_base = self.base(encoder)
        log_normalizer, error = self._trained(p_base) if self.training else self._estimated(p_base)
        return Resampled(p_base, self.log_acceptance, log_normalizer, self.truncation, error)

    def _trained(self, p_base: Distribution) -> tuple[Tensor, float]:
        with torch.no_grad():
            z = p_base.sample(torch.Size((TRAINING_DRAWS,)))
        own = self.log_acceptance(z).exp().mean()
        with torch.no_grad():
            before = torch.where(self.normalizer.isnan(), own, self.normalizer)
            self.normalizer.copy_(torch.lerp(before, own, self.smoothing))
        return (own + (self.normalizer - own).detach()).log(), math.nan

    @torch.no_grad()
    def _estimated(self, p_base: Distribution) -> tuple[Tensor, float]:
        with own_noise(SEED, device_of(self)):
            parts = [
                self.log_acceptance(p_base.sample(torch.Size((DRAWS_AT_ONCE,)))).double()
                for _ in range(DRAWS // DRAWS_AT_ONCE)
            ]
        acceptance = torch.cat(parts).exp()
        mean = acceptance.mean()
        error = float(acceptance.std() / mean) / math.sqrt(DRAWS)
        return mean.log().to(parts[0].dtype if parts[0].dtype == torch.float64 else torch.float32), error

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """Fit the base prior, if its steps have a closed form."""
        return self.base.fit_by_em(z, features, seed=seed)
