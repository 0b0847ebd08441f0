"""The metrics of rows in parts: sums of each part, merged; and those of a sample of the rows where no sums do."""

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

SAMPLED_ROWS = 5000  # as many as a map's neighbors are looked up among
KEPT = 1.1  # times as many rows are kept on average: fewer than 5000 are seven standard deviations away
Arrays = dict[str, np.ndarray]


class Moments(NamedTuple):
    """Sums over rows for each of some numbers: how many rows, their mean, and the sum of squares about it.

    >>> sum_of = Moments.of(np.array([[1.0], [2.0]])).merged(Moments.of(np.array([[6.0]])))
    >>> sum_of.number, sum_of.mean, sum_of.squares
    (3, array([3.]), array([14.]))
    """

    number: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Moments":
        """Those of the columns of (rows, columns)."""
        mean = values.mean(0)
        return cls(len(values), mean, np.square(values - mean).sum(0))

    def merged(self, other: "Moments") -> "Moments":
        """Those of all rows (Chan, Golub & LeVeque 1979)."""
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
    """Columns of the numbers of each row, no arrays, and what the metrics of all parts are made of."""
    numbers = opened.jobs.row_numbers(opened.model, rows, num_samples, seed)
    codes = opened.jobs.embed(opened.model, rows).get("z_mean", np.empty((len(rows), 0)))
    lots = np.array([row_seed(0, f"sample {each}") for each in rows.ids])
    limit = 2**63 * min(1.0, KEPT * SAMPLED_ROWS / total)
    chosen = lots < limit
    sample = DatasetRows(rows.dataset, rows.indices[chosen])
    kept = {f"number {name}": values[chosen] for name, values in numbers.items()}
    kept |= {f"label {name}": values for name, values in sample.labels.items()}
    with np.errstate(invalid="ignore"):  # of rows without a likelihood
        moments = {"rows": Moments.of(np.stack([*numbers.values()], 1)), "codes": Moments.of(codes.astype(np.float64))}
    for name, each in moments.items():
        kept |= {f"{name} {field}": np.asarray(value) for field, value in each._asdict().items()}
    kept |= {"x": sample.tensor().numpy(), "ids": sample.ids, "lots": lots[chosen]}
    return numbers, {}, kept | {"names": np.array([*numbers]), "limit": np.array(limit)}


class Merged(NamedTuple):
    """The metrics of all rows, the number of rows, and how many of them the sample has."""

    metrics: dict[str, Estimate]
    rows: int
    sampled_rows: int


def merged_metrics(opened: Opened, parts: Iterable[Arrays], num_samples: int, seed: int) -> Merged:
    """The metrics of all rows from what each part kept.

    Means and their standard errors are those of all rows, and active units are counted by the variances of all rows.
    Other metrics are those of `measure` on the sample, and the median of the effective sample size too. If the sample
    has not all rows, there are none of neighborhoods: neighbors in a sample are further away than among all rows.

    Raises:
        ArithmeticError: some rows have no likelihood.

    Warns:
        LowEffectiveSampleSizeWarning: half of the rows have fewer than ten effective samples.
    """
    rows: Moments | None = None
    codes: Moments | None = None
    kept = []
    for part in parts:
        rows, codes = _add(rows, part, "rows"), _add(codes, part, "codes")
        kept.append({name: part[name] for name in part if not name.startswith(("rows ", "codes "))})
    assert rows is not None
    assert codes is not None
    names = kept[0]["names"].tolist()
    errors = np.sqrt(rows.variance / rows.number)
    means = {name: Estimate(*pair) for name, *pair in zip(names, rows.mean.tolist(), errors.tolist(), strict=True)}
    if not np.isfinite(rows.mean).all():
        raise ArithmeticError(
            "evaluation: expected finite numbers, got infinite ones for some rows, which have no likelihood under this "
            "model; see the column nll of the parts, and leave these rows out"
        )
    whole = _sample(kept)
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
    found = Moments(int(part[f"{name} number"]), part[f"{name} mean"], part[f"{name} squares"])
    return found if total is None else total.merged(found)


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
    """The sampled rows as a data set."""
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
