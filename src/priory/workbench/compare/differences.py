"""The difference between two priors on the same seeds and the same rows, with its standard errors."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from priory.evaluation import Estimate


class Difference(NamedTuple):
    """A prior's score minus the baseline's, in nats per row, with two paired standard errors."""

    value: float  # mean over seeds of the mean over rows
    se_seeds: float  # variation between trainings; NaN for one seed
    se_rows: float  # variation between rows, given these trained models
    per_seed: tuple[float, ...]  # means over rows

    @property
    def se(self) -> float:
        """The standard error to report: over seeds if there are several, else over rows."""
        return self.se_seeds if self.over == "seeds" else self.se_rows

    @property
    def half_interval(self) -> float:
        """Half of the 95 % interval over seeds, t_{0.975, S - 1} se_seeds: NaN for one seed, 12.7 se_seeds for two."""
        return float(stdtrit(len(self.per_seed) - 1, 0.975)) * self.se_seeds

    @property
    def over(self) -> str:
        """The unit of `se`, "seeds" or "rows"."""
        return "seeds" if len(self.per_seed) > 1 else "rows"


def paired_difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Difference:
    """Return the paired difference of two priors' scores.

    With d_sn = ours - theirs for seed s = 1..S and row n = 1..N,

        value = 1/(S N) sum_sn d_sn
        se_seeds^2 = 1/S sum_s (d_s. - value)^2 / (S - 1),    d_s. = 1/N sum_n d_sn
        se_rows^2 = 1/N sum_n (d_.n - value)^2 / (N - 1),     d_.n = 1/S sum_s d_sn

    Scores differ by tens of nats between rows, for both priors alike; differences on the same row do not contain this
    variation. Neither standard error contains the other, because all seeds have the same rows.

    Args:
        ours: for each seed, the scores of the rows, (N,), in nats.
        theirs: the scores of the baseline for the same seeds and rows, in the same order.

    Raises:
        ValueError: the numbers of seeds or of rows differ.

    Reference: Student 1908, "The probable error of a mean" (the paired t test, with this standard error and the
    interval of `Difference.half_interval`).

    >>> paired_difference([np.array([1.0, 2.0]), np.array([3.0, 4.0])], [np.zeros(2), np.zeros(2)])
    Difference(value=2.5, se_seeds=1.0, se_rows=0.5, per_seed=(1.5, 3.5))
    """
    if not ours or len({len(rows) for rows in (*ours, *theirs)}) != 1 or len(ours) != len(theirs):
        shapes = [[len(rows) for rows in side] for side in (ours, theirs)]
        raise ValueError(
            f"scores: expected the same seeds and rows on both sides, got rows {shapes[0]} and {shapes[1]}"
        )
    differences = np.stack(ours).astype(float) - np.stack(theirs).astype(float)
    per_seed, per_row = differences.mean(axis=1).tolist(), differences.mean(axis=0).tolist()
    over_seeds = mean_of(per_seed)
    return Difference(over_seeds.value, over_seeds.se, mean_of(per_row).se, tuple(per_seed))


def mean_of(values: Sequence[float]) -> Estimate:
    """Return the mean and its standard error, which is NaN for a single value.

    >>> mean_of([1.0, 3.0])
    Estimate(value=2.0, se=1.0)
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, math.nan)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return Estimate(mean, math.sqrt(variance / len(values)))
