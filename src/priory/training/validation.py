"""The validation bound; its noise is the same in every epoch and does not change the noise of training."""

import math
from typing import Any

import torch
from torch import Tensor

from priory._support.seeds import own_noise
from priory.model import cast_like, evaluation_mode, given, latent_prior_of
from priory.objectives import Elbo, Objective
from priory.objectives.batch_mean import batch_mean_by
from priory.rows import Rows, read_with_context
from priory.training.batches import Share, own_rows, rows_of_process
from priory.training.failures import failed_step, invalid_parameters


@torch.no_grad()
def validation_sums(
    model: Any,
    objective: Objective,
    rows: Rows,
    *,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int,
    seed: int,
    device: torch.device,
    epoch: int,
) -> Tensor:
    """Return sums over this process's rows, in nats: (5,), float64.

    The sums are the ELBO's reconstruction and KL, the objective's two parts at beta = 1, and the number of rows. The
    prior is evaluated once, or for each batch if the rows have a context. Each of several processes has every
    world_size-th row of each batch.
    """
    sums = torch.zeros(5, dtype=torch.float64)
    batches = torch.arange(len(rows)).split(batch_size)
    shares = [Share(own_rows(len(each), rank, world_size), len(each), world_size) for each in batches]
    own = [rows_of_process(each, rank, world_size) for each in batches]
    with evaluation_mode(model), own_noise(seed, device):
        prior = None
        for share, (x, numbers, context) in zip(shares, read_with_context(rows, own), strict=True):
            with invalid_parameters(model, numbers, epoch=epoch, batch=None), batch_mean_by(share.mean):
                conditioned = given(model, context)
                prior = latent_prior_of(conditioned) if prior is None or context is not None else prior
                bound, elbo = objective(conditioned, cast_like(x, model), prior=prior)
            assert elbo is not None
            bound, elbo = (Elbo(*(term[: share.own] for term in terms)) for terms in (bound, elbo))
            chunk_sums = torch.stack([term.sum() for term in (*elbo, *bound)]).cpu().double()
            if not math.isfinite(float(chunk_sums.sum())):
                raise failed_step(model, *bound, numbers[: share.own], epoch=epoch, batch=None)
            sums[:4] += chunk_sums
            sums[4] += share.own
    return sums
