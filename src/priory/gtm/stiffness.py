"""Choose the stiffness of a small table's sheet and its least noise by cross-validation."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from priory.grid.nodes import RadialBasis
from priory.gtm.em import Sheet
from priory.gtm.fitting import Course, begin
from priory.gtm.reader import Batch, BlockReader

ROWS_PER_FUNCTION = 8  # with more rows, a free sheet is at most 0.1 nats a column worse than probabilistic PCA
LEAST_SHARE = 0.25  # least share of a row that counts, for tables of one or two columns
FOLDS = 5
ENOUGH_ROWS = 200  # rows that are left out in all folds together
TETHERS = (*np.geomspace(10.0, 0.0025, 7).tolist(), 0.0)  # times rows: from a nearly rigid plane to a free sheet
NOISES = 10  # noise variances that are tried with each tether,
WIDEST = 40.0  # from that of the fitted rows to this multiple, or to that of all rows if it is larger
STEPS = 8  # EM steps with each tether
PATIENCE = 2  # stop after so many tethers that are clearly worse than the best, because weaker ones are even worse
CLEARLY = 0.1  # nats a row


class Stiffness(NamedTuple):
    """The prior of the sheet and the least noise."""

    tether: float  # the precision of W about the plane, per unit of the mean variance of a column
    least_variance: float  # lower bound of the noise variance


FREE = Stiffness(0.0, 0.0)  # the paper's GTM


def choose_stiffness(rows: BlockReader, nodes: Tensor, basis: RadialBasis, weight_decay: float) -> Stiffness:
    """Choose tether and least noise of a small table by cross-validation; return FREE if the table is not small.

        score(tether, variance) = sum over folds of sum_n w_n log p(x_n | sheet of the other folds, variance)

    C of the D numbers of a row determine its position on the map, so a row counts as (D - C) / D. A table is small if
    it has fewer than eight such rows for each radial function. Tethers are tried from the strongest to the weakest;
    each sheet starts from the last. Equal rows are in one fold.
    """
    counted = ROWS_PER_FUNCTION * len(basis.centers)
    table = rows.table(lambda columns: counted / max(1 - nodes.shape[1] / columns, LEAST_SHARE))
    if table is None:
        return FREE
    distinct = _distinct(table)
    folds = list(_folds(rows, distinct, nodes, basis, weight_decay))
    total = float(distinct.weight.sum())
    best, chosen, worse = -math.inf, Stiffness(TETHERS[0] * total, 0.0), 0
    for tether in TETHERS if folds else ():
        for fold in folds:
            fold.fit(tether * total)
        fitted = math.exp(np.mean([math.log(fold.sheet.variance) for fold in folds]))
        variances = np.geomspace(fitted, max(WIDEST * fitted, folds[0].course.release.scale), NOISES)
        scores = [sum(fold.score(variance) for fold in folds) for variance in variances.tolist()]
        worse = worse + 1 if max(scores) < best - CLEARLY * total else 0
        if worse == PATIENCE:
            break
        if max(scores) > best:
            best, chosen = max(scores), Stiffness(tether * total, float(variances[np.argmax(scores)]))
    return chosen


@dataclass
class _Fold:
    """EM with the rows outside of a fold, and the rows of the fold."""

    course: Course
    train: BlockReader
    test: BlockReader

    @property
    def sheet(self) -> Sheet:
        return self.course.sheet

    def fit(self, tether: float) -> None:
        course = self.course
        prior = replace(course.release, tether=tether).at(0)
        for _ in range(STEPS):
            statistics = course.topography.expectation(self.train, course.sheet)
            course.sheet = course.topography.maximization(statistics, prior, course.sheet.variance)

    def score(self, variance: float) -> float:
        """The log-likelihood of the rows of the fold under this noise."""
        sheet = Sheet(self.sheet.weights, variance)
        return self.course.topography.expectation(self.test, sheet).log_likelihood


def _distinct(table: Batch) -> Batch:
    """Return the distinct rows, sorted, and the sums of their weights."""
    keys, which = np.unique(np.where(np.isnan(table.x), np.inf, table.x), axis=0, return_inverse=True)
    return Batch(np.where(np.isinf(keys), np.nan, keys), np.bincount(which.ravel(), table.weight, len(keys)))


def _folds(rows: BlockReader, table: Batch, nodes: Tensor, basis: RadialBasis, weight_decay: float) -> Iterator[_Fold]:
    x, weight = table
    fold = np.random.RandomState(0).permutation(len(x)) % FOLDS
    for number in range(min(FOLDS, -(-ENOUGH_ROWS * FOLDS // max(1, len(x))))):
        test, train = fold == number, fold != number
        if test.any() and train.any() and not np.isnan(x[train]).all(0).any():  # a column without values has no center
            course, others = begin(rows.of(Batch(x[train], weight[train])), nodes, basis, weight_decay, 0, TETHERS[0])
            yield _Fold(course, others, rows.of(Batch(x[test], weight[test])).centered(course.center))
