"""Metrics of rows in parts: merged sums of the parts, and for metrics that are no sums, a sample of the rows."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from priory._support.seeds import row_seed
from priory.evaluation import Estimate
from priory.evaluation.aggregate import ACTIVE_UNIT_VARIANCE
from priory.evaluation.estimates import median
from priory.evaluation.metrics import warn_of_few_effective_samples
from priory.maps.quality import OF_NEIGHBORHOODS
from priory.workbench.data import Dataset, DatasetRows
from priory.workbench.jobs.kinds import Opened
from priory.workbench.runs.folder import RunFolder

SAMPLED_ROWS = 5000  # the quality of a map samples as many rows
KEPT = 1.1  # times as many rows are stored on average, so that fewer than 5000 are seven standard deviations away
Arrays = dict[str, np.ndarray]


class Moments(NamedTuple):
    """Number of rows, mean, and sum of squared deviations from the mean, for each column.

    >>> sum_of = Moments.of(np.array([[1.0], [2.0]])).merged(Moments.of(np.array([[6.0]])))
    >>> sum_of.number, sum_of.mean, sum_of.squares
    (3, array([3.]), array([14.]))
    """

    number: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Return the moments of the columns of (rows, columns)."""
        mean = values.mean(0)
        return cls(len(values), mean, np.square(values - mean).sum(0))

    def merged(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of rows together (Chan, Golub & LeVeque 1979)."""
        number, step = self.number + other.number, other.mean - self.mean
        squares = self.squares + other.squares + step**2 * (self.number * other.number / number)
        return Moments(number, self.mean + step * (other.number / number), squares)

    @property
    def variance(self) -> np.ndarray:
        """The unbiased variance."""
        return self.squares / (self.number - 1)


def numbers_of_rows(
    opened: Opened, rows: DatasetRows, total: int, num_samples: int, seed: int
) -> tuple[Arrays, Arrays, Arrays]:
    """Return columns of numbers per row, an empty dict of arrays, and the sums and sample for merged metrics."""
    numbers = opened.jobs.row_numbers(opened.model, rows, num_samples, seed)
    codes = opened.jobs.embed(opened.model, rows).get("z_mean", np.empty((len(rows), 0)))
    lots = np.array([row_seed(0, f"sample {each}") for each in rows.ids])
    limit = 2**63 * min(1.0, KEPT * SAMPLED_ROWS / total)
    chosen = lots < limit
    sample = DatasetRows(rows.dataset, rows.indices[chosen])
    stored = {f"number {name}": values[chosen] for name, values in numbers.items()}
    stored |= {f"label {name}": values for name, values in sample.labels.items()}
    with np.errstate(invalid="ignore"):  # rows without a likelihood
        moments = {"rows": Moments.of(np.stack([*numbers.values()], 1)), "codes": Moments.of(codes.astype(np.float64))}
    for name, each in moments.items():
        stored |= {f"{name} {field}": np.asarray(value) for field, value in each._asdict().items()}
    stored |= {"x": sample.tensor().numpy(), "ids": sample.ids, "lots": lots[chosen]}
    return numbers, {}, stored | {"names": np.array([*numbers]), "limit": np.array(limit)}


class Merged(NamedTuple):
    """The metrics of all rows, the number of rows, and the size of the sample."""

    metrics: dict[str, Estimate]
    rows: int
    sampled_rows: int


def merged_metrics(opened: Opened, parts: Iterable[Arrays], num_samples: int, seed: int) -> Merged:
    """Return the metrics of all rows from the sums and samples of the parts.

    Means, their standard errors and active units are those of all rows. The median of the effective sample size is that
    of the sample; other metrics are those of `measure` on the sample. If the sample does not have all rows, metrics of
    neighborhoods are left out, because neighbors in a sample are farther away.

    Raises:
        ArithmeticError: some rows have no likelihood.

    Warns:
        LowEffectiveSampleSizeWarning: half of the rows have fewer than ten effective samples.
    """
    rows: Moments | None = None
    codes: Moments | None = None
    stored = []
    for part in parts:
        rows, codes = _add(rows, part, "rows"), _add(codes, part, "codes")
        stored.append({name: part[name] for name in part if not name.startswith(("rows ", "codes "))})
    assert rows is not None
    assert codes is not None
    names = stored[0]["names"].tolist()
    errors = np.sqrt(rows.variance / rows.number)
    means = {name: Estimate(*pair) for name, *pair in zip(names, rows.mean.tolist(), errors.tolist(), strict=True)}
    if not np.isfinite(rows.mean).all():
        raise ArithmeticError(
            "evaluation: expected finite numbers, got infinite ones for some rows, which have no likelihood under this "
            "model; see the column nll of the parts, and leave these rows out"
        )
    whole = _sample(stored)
    sample = _dataset(opened.run, whole)
    metrics = dict(opened.jobs.measure(opened.model, sample.all_rows(), 2, seed))
    if len(sample) < rows.number:
        metrics = {name: estimate for name, estimate in metrics.items() if name not in OF_NEIGHBORHOODS}
    if "effective_sample_size" in metrics:
        effective = means["effective_sample_size"] = median(torch.from_numpy(whole["number effective_sample_size"]))
        warn_of_few_effective_samples(effective.value, num_samples)
        nats = len(sample.columns) * math.log(2)
        means["bits_per_dimension"] = Estimate(means["nll"].value / nats, means["nll"].se / nats)
        active = float((codes.variance > ACTIVE_UNIT_VARIANCE).sum())
        means["active_units"] = Estimate(active, metrics["active_units"].se)
    return Merged(metrics | means, rows.number, len(sample))


def _add(total: Moments | None, part: Arrays, name: str) -> Moments:
    moments = Moments(int(part[f"{name} number"]), part[f"{name} mean"], part[f"{name} squares"])
    return moments if total is None else total.merged(moments)


def _sample(parts: list[Arrays]) -> Arrays:
    """Return the kept rows with the smallest random numbers (lots), at most SAMPLED_ROWS.

    A part that was computed when there were fewer rows kept a larger share of its rows.
    """
    whole = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name not in ("names", "limit")
    }
    limit = min(part["limit"] for part in parts)
    first = np.sort(np.argsort(whole["lots"], kind="stable")[:SAMPLED_ROWS])
    first = first[whole["lots"][first] < limit]
    return {name: values[first] for name, values in whole.items()}


def _dataset(run: RunFolder, whole: Arrays) -> Dataset:
    """Return the sampled rows as a data set."""
    labels = {name.removeprefix("label "): values for name, values in whole.items() if name.startswith("label ")}
    sample = Dataset(
        name="sample",
        x=whole["x"],
        splits={},
        ids=whole["ids"],
        labels=labels,
        columns=run.modeled,
        image_shape=None,
        source=None,
        precise=run.precise,
    )
    return run.with_encoding(sample)
