"""Fill missing cells with a model: draws from p(x_missing | x_observed), or their mean."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from priory._support.optional import require
from priory.model import (
    AnyModel,
    LatentVariableModel,
    cast_like,
    evaluation_mode,
    given,
    latent_prior_of,
    likelihood_of,
    log_prob_of_rows,
    posterior_of,
    require_model,
)
from priory.rows import Frame, RowsLike, as_rows, batches_with_context


@torch.no_grad()
def impute(
    model: AnyModel,
    rows: RowsLike,
    *,
    num_steps: int = 1000,
    draw: bool = False,
    batch_size: int = 1024,
    progress: Callable[[int], None] | None = None,
) -> Any:
    """Replace cells that are NaN by E[x_missing | x_observed], or by a draw; the other cells do not change.

    Metropolis within Gibbs draws z and the missing cells alternately:

        z' ~ q(z | x),    accepted with probability min(1, r(z') / r(z)),    r(z) = p(x | z) p(z) / q(z | x)
        x_missing ~ p(x_missing | z)

    The start is a draw from the model. After many steps the distribution is p(z, x_missing | x_observed), even if q is
    a poor approximation. The mean is the average of E[x_missing | z] over the second half of the steps. If the
    likelihood of counts uses the row's total, it uses the total of the current cells.

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has; used in evaluation mode.
        rows: (N, D) or (N, *input) in any form that `priory.rows.as_rows` reads, with NaN in missing cells; for a
            conditional model with a context (`with_context`).
        num_steps: number of alternating steps. With more missing cells, more steps are needed to forget the start.
        draw: return the last draw instead of the mean. Draws have the spread of the missing cells, the mean does not:
            to get the error of a statistic, compute it from several draws (multiple imputation).
        batch_size: rows read at a time.
        progress: called with the number of finished rows, after every batch.

    Returns:
        The rows without missing cells, (N, D); for a pandas data frame, a data frame with its index and columns.

    Raises:
        TypeError: the rows are of another kind, or the model lacks a method or a method returns no distribution.
        ValueError: num_steps is not positive; an observed cell is infinite; the shape of a row does not fit the model.

    Reference: Mattei & Frellsen 2018, arXiv:1802.04826, algorithm 1; Rezende et al. 2014, arXiv:1401.4082, appendix F.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(3, [8], 4)), BernoulliDecoder(mlp(2, [8], 3)), StandardNormal(2))
    >>> x = impute(vae, torch.tensor([[1.0, torch.nan, 0.0]]), num_steps=20)
    >>> x[0, [0, 2]], bool(0 < x[0, 1] < 1)
    (tensor([1., 0.]), True)
    """
    require_model(model, conditional=True)
    if num_steps < 1:
        raise ValueError(f"num_steps: expected a positive number of steps, got {num_steps}")
    source = as_rows(rows, "rows")
    parts, done = [], 0
    for batch, context in batches_with_context(source, batch_size):
        missing = batch.isnan()
        if bool(batch.isinf().any()):
            raise ValueError("rows: expected finite numbers in observed cells, got infinity; give NaN instead")
        some = missing.flatten(1).any(1)
        filled = batch.clone()
        if bool(some.any()):
            known = given(model, None if context is None else context[some])
            with evaluation_mode(model):
                imputed = _imputed(known, cast_like(batch[some], model), missing[some], num_steps, draw)
            filled[some] = torch.where(missing[some], imputed.to(batch), batch[some])
        parts.append(filled)
        done += len(batch)
        if progress is not None:
            progress(done)
    result = torch.cat(parts)
    if not isinstance(rows, Frame):
        return result
    frames: Any = rows
    return require("pandas", "tables", "a data frame").DataFrame(result.numpy(), frames.index, frames.columns)


def _imputed(
    model: LatentVariableModel,
    x: Float[Tensor, "datum *input"],
    missing: Bool[Tensor, "datum *input"],
    num_steps: int,
    draw: bool,
) -> Float[Tensor, "datum *input"]:
    """Return the last draw of all cells, or the mean of p(x | z) over the second half of the steps."""
    p_z = latent_prior_of(model)
    start = likelihood_of(model, p_z.sample() if p_z.batch_shape else p_z.sample(x.shape[:1])).sample()
    if start.shape != x.shape:
        raise ValueError(
            f"rows: expected rows of shape {tuple(start.shape[1:])}, as the model generates them, got "
            f"{tuple(x.shape[1:])}; give the columns that it was trained on"
        )
    x = torch.where(missing, start.to(x), x)
    z = posterior_of(model, x).sample()
    total, averaged = torch.zeros_like(x), num_steps - num_steps // 2
    for step in range(num_steps):
        q_z = posterior_of(model, x)
        proposal = q_z.sample()
        now, then = (
            log_prob_of_rows(likelihood_of(model, each, x), x) + p_z.log_prob(each) - q_z.log_prob(each)
            for each in (z, proposal)
        )
        accepted = torch.rand_like(now).log() < (then - now).nan_to_num(-torch.inf, posinf=torch.inf)
        z = torch.where(accepted.unsqueeze(-1), proposal, z)
        p_x = likelihood_of(model, z, x)
        if step >= num_steps - averaged:
            total += p_x.mean
        x = torch.where(missing, p_x.sample().to(x), x)
    return x if draw else total / averaged
