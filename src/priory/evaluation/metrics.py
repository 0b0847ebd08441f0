"""`evaluate`: all metrics of a model, of its likelihood and its latent space, in one pass over the data."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from priory._support.files import json_text
from priory._support.optional import require
from priory._support.tables import html_table, text_table
from priory._support.tensors import Columns
from priory.distributions.chain import Chain, center_of, top_level
from priory.distributions.mixture import Mixture
from priory.distributions.normal import is_diagonal_normal
from priory.evaluation.aggregate import AggregatePosterior, active_units
from priory.evaluation.components import component_use, effective_components
from priory.evaluation.contexts import marginal_prior
from priory.evaluation.estimates import Estimate, mean, median
from priory.evaluation.holes import coverage
from priory.evaluation.importance import ImportanceEstimate, RowNoise, groups, importance_estimate, overflows
from priory.model import (
    AnyModel,
    ConditionalModel,
    cast_like,
    evaluation_mode,
    given,
    latent_prior_of,
    posterior_of,
    require_model,
)
from priory.rows import Rows, RowsLike, as_rows, batches_with_context

if TYPE_CHECKING:
    import pandas

ENOUGH_EFFECTIVE_SAMPLES = 10.0
MOST_LEVELS = 5  # levels that have a description

METRIC_DESCRIPTIONS = {
    "nll": "-log p(x), by importance sampling",
    "bits_per_dimension": "nll in bits per column",
    "effective_sample_size": "median; below 10 is too few",
    "elbo": "-(distortion + rate)",
    "distortion": "-E log p(x|z): reconstruction error",
    "rate": "KL(q(z|x) || p(z)): code length",
    "index_code_mutual_information": "information part of the rate, at most log N",
    "mutual_information_upper_bound": "upper bound of the same for infinite N",
    "marginal_kl": "rest of the rate: KL(q(z) || p(z))",
    "aggregate_rows": "evenly spaced rows in q(z), if not all",
    "active_units": "latent dimensions in use",
    "prior_in_aggregate": "0.95: no holes",
    "aggregate_in_prior": "0.95: all codes are covered",
    "effective_components": "distinguishable components, exp I(k; z)",
    "used_components": "perplexity of the use of components",
    "unused_weight": "weight of components that are hardly used",
    "log_normalizer": "log Z; its error shifts all NLLs equally",
    "clusters": "components that are the likeliest of some row",
    "nmi": "clusters and label: 1 if they agree",
    "ari": "adjusted Rand index of clusters and label",
}
for _level in range(1, MOST_LEVELS + 1):  # levels of a chain; 1 is the top
    METRIC_DESCRIPTIONS |= {
        f"rate_level_{_level}": f"part of the rate in level {_level}",
        f"active_units_level_{_level}": f"active units in level {_level}",
    }
_INFORMATION = ("index_code_mutual_information", "mutual_information_upper_bound", "marginal_kl")
_RATES = [name for name in METRIC_DESCRIPTIONS if name.startswith("rate")]
METRIC_UNITS = dict.fromkeys(("nll", "elbo", "distortion", *_RATES, *_INFORMATION, "log_normalizer"), "nats") | {
    "bits_per_dimension": "bits"
}


class LowEffectiveSampleSizeWarning(UserWarning):
    """A few importance samples dominate the likelihood estimate, so it is too low; more samples would raise it."""


class Evaluation(dict[str, Estimate]):
    """Metrics of a model by name, each with its standard error, and the values of each row.

    Attributes:
        per_row: `nll`, `elbo`, `distortion` and `rate` of each row in nats, and `effective_sample_size`, (N,) each. To
            compare two models, average the differences row by row: the result has a small standard error.
        index: names of the rows, such as the index of a data frame; None without names.

    >>> evaluation = Evaluation({"nll": Estimate(1.5, 0.5)}, {"nll": torch.tensor([1.0, 2.0])})
    >>> evaluation["nll"].value, evaluation.per_row["nll"]
    (1.5, tensor([1., 2.]))
    >>> evaluation
    nll  1.50 ± 0.50 nats  -log p(x), by importance sampling
    """

    def __init__(self, metrics: Mapping[str, Estimate], per_row: Mapping[str, Tensor], *, index: Any = None) -> None:
        super().__init__(metrics)
        self.per_row, self.index = dict(per_row), index

    def rows_to_frame(self) -> "pandas.DataFrame":
        """Return the values of each row as a data frame indexed by the names of the rows.

        >>> evaluation = Evaluation({}, {"nll": torch.tensor([1.0, 2.0])}, index=["a", "b"])
        >>> evaluation.rows_to_frame().loc["b", "nll"]
        np.float32(2.0)
        """
        columns = {name: values.numpy() for name, values in self.per_row.items()}
        return require("pandas", "tables", "rows_to_frame()").DataFrame(columns, index=self.index)

    def __repr__(self) -> str:
        return text_table(self._table())

    def _repr_html_(self) -> str:
        return html_table(("metric", "estimate", "description"), self._table())

    def _table(self) -> list[tuple[str, str, str]]:
        return [
            (name, f"{estimate} {METRIC_UNITS.get(name, '')}".rstrip(), METRIC_DESCRIPTIONS.get(name, ""))
            for name, estimate in self.items()
        ]

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return value and standard error of each metric as plain numbers.

        >>> Evaluation({"nll": Estimate(1.5, 0.5)}, {}).to_dict()
        {'nll': {'value': 1.5, 'se': 0.5}}
        """
        return {name: estimate._asdict() for name, estimate in self.items()}

    def to_json(self) -> str:
        """Return `to_dict()` as JSON; null stands for NaN and infinity.

        >>> Evaluation({"nll": Estimate(1.5, math.nan)}, {}).to_json().split()
        ['{', '"nll":', '{', '"value":', '1.5,', '"se":', 'null', '}', '}']
        """
        return json_text(self.to_dict())

    def to_frame(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame of the metrics: a row for each, with value, se, unit and description.

        Raises:
            ImportError: pandas is not installed.

        >>> Evaluation({"nll": Estimate(1.5, 0.5)}, {}).to_frame()["se"].to_dict()
        {'nll': 0.5}
        """
        pandas = require("pandas", "tables", "Evaluation.to_frame")
        rows = [(*self[name], METRIC_UNITS.get(name, ""), METRIC_DESCRIPTIONS.get(name, "")) for name in self]
        index = pandas.Index(list(self), name="metric")
        return pandas.DataFrame(rows, index, columns=["value", "se", "unit", "description"])


@torch.no_grad()
def evaluate(
    model: AnyModel,
    rows: RowsLike,
    *,
    num_samples: int = 512,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    batch_size: int = 128,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a model on rows of data: likelihood, bound and latent space. Each row is encoded once.

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has; used in evaluation mode.
        rows: (N, D) or (N, *input) in any form that `priory.rows.as_rows` reads; for a conditional model with a context
            (`with_context`). Its likelihood metrics are of p(x | c); its latent-space metrics are of p(z), averaged
            over the contexts of the rows.
        num_samples: importance samples per datum; the samples from q also give the bound.
        prior_share: see `log_likelihood`.
        chunk_size: see `log_likelihood`.
        batch_size: rows read at a time.
        progress: called with the number of finished rows, after every batch.

    Returns:
        Metrics by name, in nats per datum unless `METRIC_UNITS` has another unit: `nll`, `bits_per_dimension`,
        `effective_sample_size` (the median over rows; its error is the spread over rows), `elbo`, `distortion`, `rate`;
        `index_code_mutual_information`, `mutual_information_upper_bound`, `marginal_kl` (see
        `AggregatePosterior.surgery`); `active_units`; `prior_in_aggregate`, `aggregate_in_prior` (see `coverage`); and
        for a mixture prior `effective_components`, `used_components`, `unused_weight`. Standard errors are over data,
        or over draws if nothing depends on the data; zero means quadrature. A row whose code or density overflows has
        an infinite `nll` and is left out of the latent-space metrics. A prior with an estimated normalizer Z, a
        distribution with the attributes `log_normalizer` and `relative_error`, adds `log_normalizer`. An error of log Z
        shifts `nll`, `elbo`, `rate` and `marginal_kl` of all rows by the same amount, at most this error; their
        standard errors do not include it.

        If q(z|x) and p(z) are chains of the same levels, the result also has `rate_level_1`, `rate_level_2`, ..., whose
        sum is the rate, and `active_units_level_1`, ...; level 1 is the top. Holes and components are then those of the
        top level. The parts of the surgery are left out, because they need the density of all codes.

    Raises:
        TypeError: the model lacks a method, or a method returns no distribution.
        ValueError: there are fewer than two rows (no standard error), or an argument of `log_likelihood` is wrong.

    Warns:
        LowEffectiveSampleSizeWarning: half of the rows have fewer than ten effective samples.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> x = torch.rand(9, 6).round()
    >>> metrics = evaluate(vae, x, num_samples=64)
    >>> metrics["nll"].value > 0, metrics.per_row["nll"].shape
    (True, torch.Size([9]))
    """
    require_model(model, conditional=True)
    source = as_rows(rows, "rows")
    if len(source) < 2:
        raise ValueError(f"rows: expected at least two rows for a standard error, got {len(source)}")
    options: dict[str, Any] = {"num_samples": num_samples, "prior_share": prior_share, "chunk_size": chunk_size}
    posteriors, estimates = _Posteriors(len(source)), Columns(len(source))
    with evaluation_mode(model):
        for x, q, p_z, estimate in _sampled(model, source, options, batch_size, None, progress):  # noqa: B007
            posteriors.add(q)
            estimates.add(estimate)
        sampled = ImportanceEstimate(*(column.cpu() for column in estimates.all))
        per_row = _per_row(sampled)
        metrics = {
            "nll": mean(per_row["nll"]),
            "bits_per_dimension": mean(per_row["nll"] / (x[0].numel() * math.log(2))),
            "effective_sample_size": median(per_row["effective_sample_size"]),
            **{name: mean(per_row[name]) for name in ("elbo", "distortion", "rate")},
            **{name: mean(column) for name, column in _levels(sampled.kl_by_level).items()},
            **posteriors.metrics(marginal_prior(model, source) if isinstance(model, ConditionalModel) else p_z),
            **_normalizer(p_z),
        }
    warn_of_few_effective_samples(metrics["effective_sample_size"].value, num_samples, stacklevel=4)
    return Evaluation(metrics, per_row, index=getattr(source, "ids", None))


def warn_of_few_effective_samples(median: float, num_samples: int, *, stacklevel: int = 2) -> None:
    """Warn if half of the rows have too few effective samples for their likelihood."""
    if median < min(ENOUGH_EFFECTIVE_SAMPLES, num_samples / 2):
        warnings.warn(
            f"half of the rows have at most {median:.1f} effective samples, at {num_samples} samples a row: "
            "the NLL is too high by an unknown amount; take more samples",
            LowEffectiveSampleSizeWarning,
            stacklevel=stacklevel,  # level 3 is torch.no_grad in `evaluate`
        )


@torch.no_grad()
def evaluate_rows(
    model: AnyModel,
    rows: RowsLike,
    *,
    num_samples: int = 512,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    batch_size: int = 128,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Float[Tensor, " datum"]]:
    """Return the values of each row whose means `evaluate` returns, for rows that are evaluated in parts.

    Args:
        model, rows, num_samples, prior_share, chunk_size, batch_size, progress: see `evaluate`.
        seed: seed of noise that depends on the ids of the rows, see `log_likelihood`: rows have the same values in a
            part as among all rows.

    Returns:
        `nll`, `effective_sample_size`, `elbo`, `distortion` and `rate`, (N,) each, and for chains of several levels
        `rate_level_1`, ...; in nats, and in float64.

    Raises:
        TypeError: the model lacks a method, or a method returns no distribution.
        ValueError: an argument of `log_likelihood` is wrong.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> list(evaluate_rows(vae, torch.rand(9, 6).round(), num_samples=8))
    ['nll', 'effective_sample_size', 'elbo', 'distortion', 'rate']
    """
    require_model(model, conditional=True)
    options: dict[str, Any] = {"num_samples": num_samples, "prior_share": prior_share, "chunk_size": chunk_size}
    source = as_rows(rows, "rows")
    estimates = Columns(len(source))
    with evaluation_mode(model):
        for _, _, _, estimate in _sampled(model, source, options, batch_size, seed, progress):
            estimates.add(estimate)
    sampled = ImportanceEstimate(*(column.cpu() for column in estimates.all))
    return _per_row(sampled) | _levels(sampled.kl_by_level)


def _sampled(
    model: AnyModel,
    source: Rows,
    options: dict[str, Any],
    batch_size: int,
    seed: int | None,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[Tensor, Distribution, Any, ImportanceEstimate]]:
    """Yield rows that are sampled together: x, q(z|x), p(z) and the estimates, with the KL in closed form."""
    ids, done, p_z = getattr(source, "ids", None), 0, None
    one_by_one = seed is not None and isinstance(model, ConditionalModel)
    for batch, context in batches_with_context(source, 1 if one_by_one else batch_size):
        known, x = given(model, context), cast_like(batch, model)
        p_z = latent_prior_of(known) if p_z is None or context is not None else p_z
        for part, own, places in groups(known, x, p_z, options["chunk_size"], RowNoise.of(seed, ids, done, len(x))):
            q = posterior_of(known, part)
            estimate = importance_estimate(known, part, **options, prior=p_z, posterior=q, noise=own)
            yield part, q, p_z, estimate._replace(kl=_kl(q, p_z, estimate.kl)).at(places)
        done += len(x)
        if progress is not None:
            progress(done)


def _per_row(estimate: ImportanceEstimate) -> dict[str, Tensor]:
    return {
        "nll": -estimate.log_likelihood,
        "effective_sample_size": estimate.effective_sample_size,
        "elbo": estimate.reconstruction - estimate.kl,
        "distortion": -estimate.reconstruction,
        "rate": estimate.kl,
    }


def _levels(kl: Float[Tensor, "datum level"]) -> dict[str, Tensor]:
    levels = kl.unbind(-1) if kl.shape[-1] > 1 else ()
    return {f"rate_level_{number}": column for number, column in enumerate(levels, 1)}


class _Posteriors:
    """Centers and scales of q(z|x) of all rows, except rows whose code overflows."""

    def __init__(self, num_rows: int) -> None:
        self._rows = Columns(num_rows)  # center, scale, whether both are finite
        self._levels: tuple[int, ...] = ()

    def add(self, q: Distribution) -> None:
        center, top = center_of(q), top_level(q)
        # Diagonal normals only; for a chain, if its top level is one.
        scale = top.stddev if is_diagonal_normal(top) else center[:, :0]
        self._rows.add([center, scale, ~(overflows(center) | overflows(scale))])
        self._levels = getattr(q, "levels", ())

    def metrics(self, p_z: Distribution) -> dict[str, Estimate]:
        """Metrics of the latent space; most of them need posteriors that are diagonal normals."""
        center, scale, inside = self._rows.all
        loc, scale = center[inside], scale[inside]
        if len(loc) < 2:
            return {}  # no standard error
        metrics = {"active_units": active_units(loc)}
        if isinstance(p_z, Chain) and p_z.levels == self._levels:
            parts = enumerate(loc.split(self._levels, -1), 1)
            metrics |= {f"active_units_level_{number}": active_units(part) for number, part in parts}
        top = top_level(p_z)
        top_dim = top.event_shape[0]
        aggregate = AggregatePosterior(loc[:, :top_dim], scale[:, :top_dim]) if scale.shape[-1] >= top_dim else None
        if aggregate is not None:
            metrics = ({} if top is not p_z else aggregate.surgery(p_z)) | metrics | coverage(top, aggregate)
        if aggregate is not None and len(aggregate) < len(loc):
            metrics["aggregate_rows"] = Estimate(float(len(aggregate)), math.nan)
        if isinstance(top, Mixture):
            metrics["effective_components"] = effective_components(top)
            if aggregate is not None:
                metrics |= component_use(top, aggregate)
        return metrics


def _normalizer(p_z: Any) -> dict[str, Estimate]:
    """Return log Z of a prior that estimates it; the relative error of Z is the error of log Z."""
    if not hasattr(p_z, "relative_error"):
        return {}
    return {"log_normalizer": Estimate(p_z.log_normalizer.item(), p_z.relative_error.item())}


def _kl(q: Distribution, p_z: Distribution, sampled: Tensor) -> Tensor:
    """Return KL(q(z|x) || p(z)) in closed form if torch has one, else estimated from draws; infinite if q overflows."""
    try:
        kl = kl_divergence(q, p_z)
    except NotImplementedError:
        return sampled
    return kl.masked_fill(kl.isnan(), math.inf)
