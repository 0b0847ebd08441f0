"""The resampled prior: a learned network accepts or rejects draws of a base prior."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from priory._support.seeds import own_noise
from priory.distributions.resampled import Resampled
from priory.model import cast_like, device_of
from priory.priors.base import Encoder, Prior, log_prior_of
from priory.priors.conditional import require_unconditional

TRAINING_DRAWS = 2**12  # draws of the base in each step
DRAWS = 2**17  # draws of the base in evaluation
SEED = 0  # of the draws in evaluation


class ResampledPrior(Prior):
    """p(z) = base(z) ((1 - r) a(z) / Z + r),    Z = E_base [a(z)],    r = (1 - Z)^(T - 1).

    a(z) = sigmoid(network(z)) is the probability of accepting a draw of the base; after T - 1 rejections the next draw
    is accepted. Z is an estimate. In training it is the mean over 4096 new draws in each call, with its gradient. This
    log Z is too low by about Var[a] / (2 * 4096 Z^2), at most 0.012 nats if Z is above 0.01, which T = 100 ensures.
    (The paper divides the gradient of fewer draws by a moving average of Z, which lags behind the weights.) In
    evaluation Z is the mean over 131 072 draws with a fixed seed, so the density is the same at each call. `evaluate`
    reports its error as the metric `log_normalizer`.

    Args:
        base: any prior.
        network: from z (..., L) to the logit of a(z), (..., 1).
        truncation: T, at least 2; None never accepts a draw without the test.

    Raises:
        TypeError: base is not a prior, or is a conditional one.
        ValueError: truncation is below 2.

    Reference: Bauer & Mnih 2019, arXiv:1810.11428.

    >>> from priory import StandardNormal, mlp
    >>> p_z = ResampledPrior(StandardNormal(2), mlp(2, [8], 1)).eval()()
    >>> p_z.log_prob(torch.zeros(3, 2)).shape, bool(p_z.relative_error < 0.01)
    (torch.Size([3]), True)
    """

    summary = "any prior; a learned network accepts or rejects its draws"
    reference = "Bauer & Mnih 2019, arXiv:1810.11428"

    def __init__(self, base: Prior, network: nn.Module, *, truncation: int | None = 100) -> None:
        super().__init__()
        if not isinstance(base, Prior):
            raise TypeError(
                f"base: expected a prior, got {type(base).__name__}; make a distribution a prior with "
                "priory.DensityPrior"
            )
        require_unconditional("base", base)
        if truncation is not None and truncation < 2:
            raise ValueError(f"truncation: expected at least 2 draws, or None, got {truncation}")
        self.base, self.network, self.truncation = base, network, truncation
        self.latent_dim = base.latent_dim
        self.needs_encoder = base.needs_encoder  # type: ignore[misc]

    def log_acceptance(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """log a(z).

        Raises:
            ValueError: the network returns more than one number for each z.
        """
        with torch.autocast(z.device.type, enabled=False):  # the same precision for Z and every density
            logits = self.network(cast_like(z, self.network))
        if logits.shape != (*z.shape[:-1], 1):
            raise ValueError(
                f"network: expected one logit for each z, shape {(*z.shape[:-1], 1)}, got {tuple(logits.shape)}"
            )
        return F.logsigmoid(logits.squeeze(-1))

    def forward(self, encoder: Encoder | None = None) -> Resampled:
        """p(z), with batch shape () and event shape (L,).

        Raises:
            TypeError: the base prior needs the encoder, and there is none.
        """
        p_base = self.base(encoder)
        if self.training:
            return Resampled(p_base, self.log_acceptance, self.truncation, TRAINING_DRAWS)
        with own_noise(SEED, device_of(self)):
            return Resampled(p_base, self.log_acceptance, self.truncation, DRAWS)

    def log_prior(self, encoder: Encoder | None) -> Float[Tensor, ""] | None:
        """Return the log-density of the base's parameters, in nats per datum; None if the base has none."""
        return log_prior_of(self.base, encoder)

    def extra_repr(self) -> str:
        truncation = "" if self.truncation is None else f"T={self.truncation}"
        return ", ".join(filter(None, (truncation, super().extra_repr())))


class NoiseContrastivePrior(ResampledPrior):
    """p(z) = base(z) a(z) / Z,    Z = E_base [a(z)]: the base times a learned ratio of densities, a(z) / Z.

    `refit` learns the ratio by noise contrastive estimation: a(z) / (a(z) + Z) is the probability that z was drawn from
    the aggregate posterior rather than from the base. The base is the noise and does not change. `fit` maximizes the
    bound, as for a `ResampledPrior`.

    a(z) = sigmoid(network(z)) bounds the ratio by 1 / Z for any network, so rejection sampling is exact: it draws from
    this very density. (The paper's ratio has no bound; it samples by importance resampling.)

    Args:
        base: any prior; for `refit`, the model's own prior, or another one that was fitted to its aggregate posterior.
        network: from z (..., L) to the logit of a(z), (..., 1).

    Raises:
        TypeError: base is not a prior.

    Reference: Aneja, Schwing, Kautz & Vahdat 2021, arXiv:2010.02917; Gutmann & Hyvarinen 2010, AISTATS.

    >>> from priory import StandardNormal, mlp
    >>> NoiseContrastivePrior(StandardNormal(2), mlp(2, [8], 1)).eval()().sample((3,)).shape
    torch.Size([3, 2])
    """

    summary = "any prior times a ratio of densities that a classifier learns (by refit)"
    reference = "Aneja, Schwing, Kautz & Vahdat 2021, arXiv:2010.02917"

    def __init__(self, base: Prior, network: nn.Module) -> None:
        super().__init__(base, network, truncation=None)

    def log_prior(self, encoder: Encoder | None) -> None:
        """Return None: `refit` does not change the base."""

    def refit_loss(self, p_z: Resampled, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, ""]:  # type: ignore[override]
        """Cross-entropy of distinguishing z from draws of the base; it is smallest at a(z) / Z = q(z) / base(z).

        The same draws of the base estimate Z.
        """
        noise = p_z.base.sample(torch.Size((TRAINING_DRAWS,)))
        of_noise = self.log_acceptance(noise)
        log_normalizer = torch.logsumexp(of_noise, 0) - math.log(len(noise))
        of_data = self.log_acceptance(z)
        return F.softplus(log_normalizer - of_data).mean() + F.softplus(of_noise - log_normalizer).mean()
