"""The validation bound; its noise is the same in every epoch and does not change the noise of training."""

import math
from typing import Any

import torch
from torch import Tensor

from priory._support.seeds import own_noise
from priory.model import cast_like, evaluation_mode, given, latent_prior_of
from priory.objectives import Objective
from priory.rows import Rows, read_with_context
from priory.training.failures import failed_step, invalid_parameters


@torch.no_grad()
def validation_sums(
    model: Any,
    objective: Objective,
    rows: Rows,
    positions: Tensor,
    *,
    batch_size: int,
    seed: int,
    device: torch.device,
    epoch: int,
) -> Tensor:
    """Return sums over the rows at `positions`, in nats: (5,), float64.

    They are those of the ELBO's reconstruction and KL, of the objective's two parts at beta = 1, and of the rows. The
    prior is evaluated once, or for each batch if the rows have a context.
    """
    sums = torch.zeros(4, dtype=torch.float64)
    with evaluation_mode(model), own_noise(seed, device):
        prior = None
        for x, numbers, context in read_with_context(rows, positions.split(batch_size)):
            with invalid_parameters(model, numbers, epoch=epoch, batch=None):
                known = given(model, context)
                prior = latent_prior_of(known) if prior is None or context is not None else prior
                bound, elbo = objective(known, cast_like(x, model), prior=prior)
            assert elbo is not None
            chunk_sums = torch.stack([term.sum() for term in (*elbo, *bound)]).cpu().double()
            if not math.isfinite(float(chunk_sums.sum())):
                raise failed_step(model, *bound, numbers, epoch=epoch, batch=None)
            sums += chunk_sums
    return torch.cat([sums, torch.tensor([len(positions)], dtype=torch.float64)])
