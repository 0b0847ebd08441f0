"""The standard normal, the usual prior of a VAE; here it is the baseline."""

import torch
from torch import Tensor
from torch.distributions import Independent

from priory.distributions.normal import diagonal_normal
from priory.priors.base import Encoder, Prior


class StandardNormal(Prior):
    """p(z) = N(z | 0, I).

    Args:
        latent_dim: L.

    Raises:
        ValueError: latent_dim is not positive.

    Reference: Kingma & Welling 2014, arXiv:1312.6114, sec. 3.

    >>> StandardNormal(2)().log_prob(torch.zeros(2))  # -log(2 pi)
    tensor(-1.8379)
    """

    summary = "one normal with mean 0 and variance 1, without learned parameters"
    reference = "Kingma & Welling 2014, arXiv:1312.6114, sec. 3"
    loc: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        if latent_dim < 1:
            raise ValueError(f"latent_dim: expected a positive number of latent dimensions, got {latent_dim}")
        self.latent_dim = latent_dim
        # Buffers, so that these constants follow `.to`; they are not saved, because they never change.
        self.register_buffer("loc", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("scale", torch.ones(latent_dim), persistent=False)

    def forward(self, encoder: Encoder | None = None) -> Independent:
        """Return N(0, I), with batch shape () and event shape (L,); the encoder is not used."""
        return diagonal_normal(self.loc, self.scale)
