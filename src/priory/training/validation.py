"""The validation ELBO; its noise is the same in every epoch and does not change the noise of training."""

import math

import torch
from torch import Tensor

from priory._support.seeds import own_noise
from priory.model import cast_like, evaluation_mode
from priory.objectives import elbo
from priory.rows import Rows
from priory.training.failures import failed_step, invalid_parameters
from priory.vae import VAE


@torch.no_grad()
def validation_sums(
    vae: VAE,
    rows: Rows,
    positions: Tensor,
    *,
    batch_size: int,
    num_samples: int,
    seed: int,
    device: torch.device,
    epoch: int,
) -> Tensor:
    """Return the sums of reconstruction and KL over the rows at `positions` in nats, and their number: (3,), float64.

    The prior is evaluated once.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    with evaluation_mode(vae), own_noise(seed, device):
        prior = None
        for chunk in positions.split(batch_size):
            x, numbers = rows.batch(chunk)
            with invalid_parameters(vae, numbers, epoch=epoch, batch=None):
                prior = vae.latent_prior() if prior is None else prior
                terms = elbo(vae, cast_like(x, vae), num_samples=num_samples, prior=prior)
            chunk_sums = torch.stack([terms.reconstruction.sum(), terms.kl.sum()]).cpu().double()
            if not math.isfinite(float(chunk_sums.sum())):
                raise failed_step(vae, terms.reconstruction, terms.kl, numbers, epoch=epoch, batch=None)
            sums += chunk_sums
    return torch.cat([sums, torch.tensor([len(positions)], dtype=torch.float64)])
