"""How stiff the sheet of a small table is, and how wide its noise: what makes rows that were left out most likely."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.grid.nodes import RadialBasis
from priory.gtm.em import Sheet
from priory.gtm.fitting import Course, begin
from priory.gtm.reader import Batch, BlockReader

ROWS_PER_FUNCTION = 8  # from there on the sheet overfits by less than 0.1 nats a column
LEAST_SHARE = 0.25  # of a row's numbers that its place on the map leaves, for tables of one or two columns
FOLDS = 5
ENOUGH_ROWS = 200  # that are left out in all folds
TETHERS = (*np.geomspace(10.0, 0.0025, 7).tolist(), 0.0)  # times rows: from a nearly rigid plane to a free sheet
FACTORS = np.geomspace(1.0, 50.0, 12)
STEPS = 12  # of EM with each tether


class Stiffness(NamedTuple):
    """The prior of the sheet and the noise that it gets after EM."""

    tether: float  # the precision of W about the plane
    noise_factor: float  # times the variance of the rows that the sheet was fitted to


FREE = Stiffness(0.0, 1.0)  # the paper's GTM


def choose_stiffness(rows: BlockReader, nodes: Tensor, basis: RadialBasis, weight_decay: float) -> Stiffness:
    """The tether and the noise factor of a small table, by cross-validation; FREE if the table is not small.

        score(tether, factor) = sum over folds of sum_n w_n log p(x_n | sheet of the other folds, factor variance)

    A row of D numbers spends C of them on its place on the map. A table is small if it has fewer than eight rows for
    each radial function, and a row counts (D - C) / D. Tethers are tried from the strongest to the weakest; each sheet
    goes on from the last. Equal rows are in one fold.
    """
    table = _small_table(rows, len(basis.centers), nodes.shape[1])
    if table is None:
        return FREE
    x, weight = _distinct(table)
    total = weight.sum()
    scores = sum(_scores(*fold, total) for fold in _folds(rows, Batch(x, weight), nodes, basis, weight_decay))
    tether, factor = np.unravel_index(np.argmax(scores), (len(TETHERS), len(FACTORS)))
    return Stiffness(TETHERS[tether] * total, float(FACTORS[factor]))


def _small_table(rows: BlockReader, functions: int, num_axes: int) -> Batch | None:
    first = next(rows.sources(), None)
    if first is None:
        return None
    columns = first.x.shape[1]
    share = max(1 - num_axes / columns, LEAST_SHARE)
    return rows.table(int(ROWS_PER_FUNCTION * functions / share))


def _distinct(table: Batch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The different rows, sorted, and the sums of their weights; rows without a cell or a weight are no rows."""
    x, weight = table
    real = (weight > 0) & ~np.isnan(x).all(1)
    keys, which = np.unique(np.where(np.isnan(x[real]), np.inf, x[real]), axis=0, return_inverse=True)
    return np.where(np.isinf(keys), np.nan, keys), np.bincount(which.ravel(), weight[real], len(keys))


def _folds(
    rows: BlockReader, table: Batch, nodes: Tensor, basis: RadialBasis, weight_decay: float
) -> Iterator[tuple[Course, BlockReader, BlockReader]]:
    """Of each fold the start of EM with the other rows, these rows, and the rows of the fold."""
    x, weight = table
    fold = np.random.RandomState(0).permutation(len(x)) % FOLDS
    for number in range(min(FOLDS, -(-ENOUGH_ROWS * FOLDS // max(1, len(x))))):
        test, train = fold == number, fold != number
        if test.any() and train.any() and not np.isnan(x[train]).all(0).any():  # an empty column has no center
            course, others = begin(rows.of(Batch(x[train], weight[train])), nodes, basis, weight_decay, 0, TETHERS[0])
            yield course, others, rows.of(Batch(x[test], weight[test])).centered(course.center)


def _scores(course: Course, train: BlockReader, test: BlockReader, rows: float) -> NDArray[np.float64]:
    """The log-likelihood of the rows left out, for each tether and factor."""
    topography, sheet, scores = course.topography, course.sheet, []
    for tether in TETHERS:
        prior = replace(course.release, tether=tether * rows).at(0)
        for _ in range(STEPS):
            found = topography.expectation(train, sheet, train.dtype)
            sheet = topography.maximization(found, prior, sheet.variance)
        wider = (Sheet(sheet.weights, factor * sheet.variance) for factor in FACTORS.tolist())
        scores.append([topography.expectation(test, wide, test.dtype).log_likelihood for wide in wider])
    return np.array(scores)
