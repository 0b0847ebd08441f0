"""Everything that is reported about a model, in one pass over the data and a look at its latent space."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from priory.distributions.mixture import Mixture
from priory.distributions.normal import is_diagonal_normal
from priory.evaluation.aggregate import AggregatePosterior, active_units
from priory.evaluation.components import component_use, effective_components
from priory.evaluation.estimates import Estimate, mean
from priory.evaluation.holes import coverage
from priory.evaluation.importance import ROWS_TOGETHER, ImportanceEstimate, importance_estimate
from priory.rows import Rows, as_rows
from priory.vae import VAE, cast_like, evaluation_mode

ENOUGH_EFFECTIVE_SAMPLES = 10.0
DRAWS_FOR_A_MEAN = 1000  # of a posterior whose mean has no closed form

DESCRIPTIONS = {
    "nll": "-log p(x), by importance sampling",
    "bits_per_dimension": "the same in bits a column",
    "effective_sample_size": "median; below 10 is too few",
    "elbo": "-(distortion + rate)",
    "distortion": "-E log p(x|z): what is missed",
    "rate": "KL(q(z|x) || p(z)): code length",
    "index_code_mutual_information": "part of the rate, at most log N",
    "mutual_information_upper_bound": "the same, were N infinite",
    "marginal_kl": "rest of the rate: KL(q(z) || p(z))",
    "active_units": "dimensions that z uses",
    "prior_in_aggregate": "0.95 where there are no holes",
    "aggregate_in_prior": "0.95 where all codes are covered",
    "effective_components": "that can be told apart, exp I(k; z)",
    "used_components": "perplexity of their use",
    "unused_weight": "of components hardly used",
}


class LowEffectiveSampleSizeWarning(UserWarning):
    """Few importance samples carry the estimate of the likelihood: more would raise it."""


@torch.no_grad()
def evaluate(
    vae: VAE,
    rows: Tensor | Rows,
    *,
    num_samples: int = 512,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    batch_size: int = 128,
    progress: Callable[[int], None] | None = None,
    per_row: Callable[[dict[str, Tensor]], None] | None = None,
) -> dict[str, Estimate]:
    """Evaluate a model on rows of data: likelihood, bound and latent space. The encoder reads each row once.

    Args:
        vae: the model; used in evaluation mode.
        rows: a tensor (N, D) or `priory.rows.Rows`.
        num_samples: importance samples per datum; those of them that come from q give the bound too.
        prior_share: see `log_likelihood`.
        chunk_size: see `log_likelihood`.
        batch_size: rows read at a time.
        progress: called with the number of rows done, after every batch.
        per_row: called at the end with `nll` and `elbo` of each row, (N,) in nats: for differences between models.

    Returns:
        By name, in nats per datum where `DESCRIPTIONS` says nothing else: `nll`, `bits_per_dimension`,
        `effective_sample_size` (the median, with the spread of the rows' over it), `elbo`, `distortion`, `rate`;
        `index_code_mutual_information`, `mutual_information_upper_bound`, `marginal_kl` (see
        `AggregatePosterior.surgery`); `active_units`; `prior_in_aggregate`, `aggregate_in_prior` (see `coverage`); and
        for a mixture prior `effective_components`, `used_components`, `unused_weight`. Standard errors are over data,
        or over draws where nothing depends on the data; zero stands for quadrature.

    Raises:
        ValueError: there are fewer than two rows (no standard error), or an argument of `log_likelihood`'s is wrong.

    Warns:
        LowEffectiveSampleSizeWarning: half of the rows have fewer than ten effective samples.
    """
    rows = as_rows(rows, "rows")
    if len(rows) < 2:
        raise ValueError(f"rows: expected at least two rows for a standard error, got {len(rows)}")
    collected = _Collected()
    together = ROWS_TOGETHER if chunk_size is None else max(1, min(ROWS_TOGETHER, chunk_size))
    with evaluation_mode(vae):
        p_z = vae.latent_prior()
        for x, _ in rows.batches(batch_size):
            for part in cast_like(x, vae).split(together):
                q = vae.encode(part)
                found = importance_estimate(
                    vae,
                    part,
                    num_samples=num_samples,
                    prior_share=prior_share,
                    chunk_size=chunk_size,
                    prior=p_z,
                    posterior=q,
                )
                collected.add(found, q, p_z)
            if progress is not None:
                progress(collected.num_rows)
        metrics = collected.likelihood_metrics(x[0].numel()) | collected.latent_metrics(p_z)
    if per_row is not None:
        per_row(collected.per_row())
    _warn_if_low(metrics["effective_sample_size"], num_samples)
    return metrics


class _Collected:
    """What one pass over the data leaves: numbers per datum, and the posteriors."""

    def __init__(self) -> None:
        self._estimates: list[ImportanceEstimate] = []
        self._rates: list[Tensor] = []
        self._means: list[Tensor] = []
        self._scales: list[Tensor] = []  # of diagonal normals
        self.num_rows = 0

    def add(self, found: ImportanceEstimate, q: Distribution, p_z: Distribution) -> None:
        """Some more rows."""
        try:
            rate = kl_divergence(q, p_z)
        except NotImplementedError:  # torch has no closed form for this pair
            rate = found.kl
        self._estimates.append(ImportanceEstimate(*(column.cpu() for column in found)))
        self._rates.append(rate.cpu())
        self._means.append(_mean_of(q))
        if is_diagonal_normal(q):
            self._scales.append(q.stddev)
        self.num_rows += len(rate)

    def _found(self) -> tuple[ImportanceEstimate, Tensor]:
        """What the importance samples tell of each row, and its rate."""
        found = ImportanceEstimate(*(torch.cat(column) for column in zip(*self._estimates, strict=True)))
        return found, torch.cat(self._rates)

    def per_row(self) -> dict[str, Tensor]:
        """The likelihood and the bound of each row."""
        found, rate = self._found()
        return {"nll": -found.log_likelihood, "elbo": found.reconstruction - rate}

    def likelihood_metrics(self, num_inputs: int) -> dict[str, Estimate]:
        """What the importance samples tell."""
        found, rate = self._found()
        nll = -found.log_likelihood
        return {
            "nll": mean(nll),
            "bits_per_dimension": mean(nll / (num_inputs * math.log(2))),
            "effective_sample_size": _median(found.effective_sample_size),
            "elbo": mean(found.reconstruction - rate),
            "distortion": mean(-found.reconstruction),
            "rate": mean(rate),
        }

    def latent_metrics(self, p_z: Distribution) -> dict[str, Estimate]:
        """What the posteriors tell; of those that are no diagonal normals, only the means."""
        loc = torch.cat(self._means)
        metrics = {"active_units": active_units(loc)}
        aggregate = AggregatePosterior(loc, torch.cat(self._scales)) if len(self._scales) == len(self._means) else None
        if aggregate is not None:
            metrics = aggregate.surgery(p_z) | metrics | coverage(p_z, aggregate)
        if isinstance(p_z, Mixture):
            metrics["effective_components"] = effective_components(p_z)
            if aggregate is not None:
                metrics |= component_use(p_z, aggregate)
        return metrics


def _mean_of(q: Distribution) -> Tensor:
    """E[z|x], by draws where there is no closed form."""
    try:
        return q.mean
    except NotImplementedError:
        return q.sample(torch.Size((DRAWS_FOR_A_MEAN,))).mean(0)


def _median(values: Tensor) -> Estimate:
    """The median, and its standard error from the quartiles as for a normal: 1.25 sd / sqrt(N)."""
    low, middle, high = torch.quantile(values.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return Estimate(middle, 1.2533 * (high - low) / 1.349 / math.sqrt(len(values)))


def _warn_if_low(effective: Estimate, num_samples: int) -> None:
    if effective.value < min(ENOUGH_EFFECTIVE_SAMPLES, num_samples / 2):
        warnings.warn(
            f"half of the rows have at most {effective.value:.1f} effective samples, at {num_samples} a row: "
            "the NLL is too high by an unknown amount; take more samples",
            LowEffectiveSampleSizeWarning,
            stacklevel=3,
        )
