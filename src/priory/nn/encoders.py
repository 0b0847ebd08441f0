"""Encoders: modules from features to the distribution q(z|x).

An encoder reads features, the output of a `Preprocessing`, and never the data themselves. So learned pseudo-inputs are
features too.
"""

import math
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from priory.distributions.normal import at_least_float32, diagonal_normal
from priory.model import cast_like
from priory.nn.networks import check_reads, output_width


@runtime_checkable
class Encoder(Protocol):
    """A function from features (..., D) to a reparameterized distribution with batch (...,) and event (L,).

    >>> isinstance(lambda features: diagonal_normal(features, torch.ones_like(features)), Encoder)
    True
    """

    def __call__(self, features: Float[Tensor, "*batch input"], /) -> Distribution: ...


class NormalEncoder(nn.Module):
    """Diagonal normal q(z|x) with mean and log-variance from a network.

        q(z|x) = N(z | loc(x), diag(exp(log_variance(x)))),    (loc, log_variance) = network(features)

    The default range keeps every scale between 9.1e-4 and 20. So scales are finite for any finite output of the
    network, and float32 is precise enough for the squares ((z - loc) / scale)^2. Usual values are far inside the range,
    and clipping does not change their gradient: a posterior scale of 9.1e-4 under a unit prior costs 7 nats per latent
    dimension. The published VampPrior uses (-6, 2): with little noise in the data, values reach the lower end and get
    no gradient.

    Args:
        network: maps features (..., D) to (..., 2 L): L means, then L log-variances.
        log_variance_range: log-variances are clipped to this (low, high); None does not clip.
        input_noise: standard deviation of normal noise on the features, in training mode only, so pseudo-inputs get
            none.

    Raises:
        ValueError: the range is not low < high; the network's output width is odd; the noise is negative.

    Source: Kingma & Welling 2014 (arXiv:1312.6114), eq. 9; the clipping: Tomczak & Welling 2018, published code; the
    noise: Im, Ahn, Memisevic & Bengio 2017 (arXiv:1511.06406), denoising criterion.

    >>> encoder = NormalEncoder(torch.nn.Linear(5, 4))
    >>> q_z = encoder(torch.zeros(3, 5))
    >>> q_z.batch_shape, q_z.event_shape, encoder.latent_dim
    (torch.Size([3]), torch.Size([2]), 2)
    """

    def __init__(
        self,
        network: nn.Module,
        log_variance_range: tuple[float, float] | None = (-14.0, 6.0),
        *,
        input_noise: float = 0.0,
    ) -> None:
        super().__init__()
        if not (input_noise >= 0 and math.isfinite(input_noise)):
            raise ValueError(f"input_noise: expected a standard deviation of at least 0, got {input_noise}")
        if log_variance_range is not None:
            low, high = log_variance_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(
                    f"log_variance_range: expected two finite numbers, low < high, got {log_variance_range}; "
                    "give for example (-14.0, 6.0), or None for no clipping"
                )
        width = output_width(network)
        if width is not None:
            _check_even(width)
        self.network = network
        self.log_variance_range, self.input_noise = log_variance_range, input_noise

    @property
    def latent_dim(self) -> int | None:
        """L, or None if the width of the network's output is unknown (no `out_features`)."""
        width = output_width(self.network)
        return None if width is None else width // 2

    def forward(self, features: Float[Tensor, "*batch input"]) -> Independent:
        """Return q(z|x) with batch (...,) and event (L,), in float32 or float64 for any precision of the network.

        Raises:
            ValueError: the features or the network's output have the wrong width.
        """
        check_reads(self, self.network, "features", features)
        features = with_noise(self, features)
        outputs = at_least_float32(self.network(cast_like(features, self.network)))
        _check_even(outputs.shape[-1])
        loc, log_variance = outputs.chunk(2, dim=-1)
        if self.log_variance_range is not None:
            log_variance = log_variance.clamp(*self.log_variance_range)
        return diagonal_normal(loc, torch.exp(0.5 * log_variance))

    def extra_repr(self) -> str:
        noise = f", input_noise={self.input_noise:.3g}" if self.input_noise else ""
        return f"log_variance_range={self.log_variance_range}{noise}"


def with_noise(encoder: Any, features: Tensor) -> Tensor:
    """Return the features; in training mode, add the encoder's `input_noise`.

    >>> with_noise(NormalEncoder(nn.Linear(5, 4), input_noise=0.1).eval(), torch.zeros(2))
    tensor([0., 0.])
    """
    noisy = encoder.training and encoder.input_noise
    return features + encoder.input_noise * torch.randn_like(features) if noisy else features


def _check_even(width: int) -> None:
    if width < 2 or width % 2:
        raise ValueError(
            "network: expected 2 * latent_dim outputs per row (means, then log-variances), "
            f"got {width}; build it with out_features = 2 * latent_dim"
        )
