"""Run EM until it ends: iterations over all rows, or incremental EM over batches of rows."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from priory.grid.nodes import RadialBasis
from priory.gtm.em import Sheet, Statistics, Topography, WeightPrior
from priory.gtm.initial import column_means, normal_plane, principal_axes, principal_plane, spread
from priory.gtm.reader import BlockReader

FIRST_TETHER = 10.0  # times rows over scale: the sheet hardly leaves the plane
LAST_TETHER = 1e-4  # times rows over scale, in the last iteration with a tether
ROUNDING = 1e-13  # relative to a penalized likelihood: a smaller gain is rounding
LEAST_SQUARE = {torch.float64: 1e-290, torch.float32: 1e-30}  # square of a cell: smaller squares lose their digits
ROUNDING_OF_VALUES = 1e-12  # relative to a column's mean: cells of a constant column differ by less
STEP_POWER = 0.6  # between 1/2 and 1, so that the statistics converge and forget the start
STEP_OFFSET = 2.0
LEAST_VARIANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # noise, in units of the mean variance of a column


@dataclass(frozen=True)
class Release:
    """The prior of W in each iteration: a tether holds the sheet near its initial plane and weakens step by step.

        tether_t = max(tether, rows first^(1 - t/T) last^(t/T)) / scale for t < T, then tether / scale

    Without a tether, EM ends in worse optima of likelihood and maps: if the plane is far from the data, the sheet folds
    at once. The tether never increases, so the penalized likelihood of the next iteration is at least as large as the
    current one.

    Attributes:
        decay: the weight decay, per unit of `scale`.
        scale: the mean variance of a column, which makes decay and tether dimensionless.
        rows: number of rows; 0 if rows are counted as they arrive, and then there is no tether.
        iterations: T.
        plane: W at the start.
        tether: the final tether, per unit of `scale`; 0 if there are many rows.
        least: the lower bound of the noise variance that was chosen with it; 0 if there are many rows.
    """

    decay: float
    scale: float
    rows: float
    iterations: int
    plane: Tensor
    tether: float = 0.0
    least: float = 0.0

    def at(self, iteration: float) -> WeightPrior:
        """Return the prior in an iteration, counted from 0."""
        done = min(1.0, iteration / self.iterations) if self.iterations else 1.0
        tether = FIRST_TETHER ** (1 - done) * LAST_TETHER**done * self.rows if done < 1 else 0.0
        return WeightPrior(self.decay / self.scale, max(tether, self.tether) / self.scale, self.plane)


class Course:
    """The state of EM: the sheet, and the statistics from which EM continues.

        s_t = (1 - step_t) s_{t-1} + step_t s(batch_t),    step_t = (2 / (t + 2))^0.6

    is the step with a batch of rows. The averaged statistics change by a decreasing step; the sheet is fitted to them.

    Args:
        nodes: nodes of the grid, on the CPU.
        basis: the radial functions, on the CPU.
        topography: basis at the nodes, mixing weights, bounds.
        center: subtracted from the rows.
        sheet: the initial sheet.
        release: the schedule of the prior of W, which releases the sheet from the plane.

    Attributes:
        statistics: averages per row; None before the first step.
        steps: number of steps taken.
        rows: sum of the weights of all rows so far.

    Reference: Cappe & Moulines 2009, arXiv:0712.4273 (the step); Neal & Hinton 1998.
    """

    def __init__(
        self, nodes: Tensor, basis: RadialBasis, topography: Topography, center: Tensor, sheet: Sheet, release: Release
    ) -> None:
        self.nodes, self.basis, self.topography = nodes, basis, topography
        self.center, self.sheet, self.release = center, sheet, release
        self.statistics: Statistics | None = None
        self.steps, self.rows = 0, 0.0

    def to(self, device: torch.device) -> "Course":
        if self.center.device == device:
            return self
        topography = Topography(self.topography.features.to(device), self.topography.least_variance)
        sheet = Sheet(self.sheet.weights.to(device), self.sheet.variance)
        release = replace(self.release, plane=self.release.plane.to(device))
        moved = Course(self.nodes, self.basis, topography, self.center.to(device), sheet, release)
        moved.statistics = None if self.statistics is None else self.statistics.to(device)
        moved.steps, moved.rows = self.steps, self.rows
        return moved

    def collapsed(self, dtype: torch.dtype) -> bool:
        """Return whether the noise is at the lower bound that holds for every table."""
        return self.sheet.variance <= self.release.scale * LEAST_VARIANCE[dtype]

    def step(self, rows: BlockReader, iteration: float = math.inf) -> Statistics:
        """Do one incremental step with these rows; return their statistics under the previous sheet."""
        statistics = self.topography.expectation(rows, self.sheet)
        if statistics.rows > 0:
            per_row = statistics.scaled(1 / statistics.rows)
            share = (STEP_OFFSET / (self.steps + STEP_OFFSET)) ** STEP_POWER
            self.statistics = per_row if self.statistics is None else self.statistics.towards(per_row, share)
            self.steps += 1
            self.rows += statistics.rows
            whole = self.statistics.scaled(self.release.rows or self.rows)
            self.sheet = self.topography.maximization(whole, self.release.at(iteration), self.sheet.variance)
        return statistics


@dataclass
class Progress:
    """The likelihoods of the iterations so far."""

    # mean log-likelihood of a row in nats, with the parameters before each iteration
    log_likelihoods: list[float] = field(default_factory=list)
    penalized: list[float] = field(default_factory=list)  # the same minus the penalty of that iteration
    held_out: list[float] = field(default_factory=list)  # the same for the rows held out, if there are any
    converged: bool = False  # whether the last iteration changed the penalized likelihood by less than `tol` allows

    def record(self, log_likelihood: float, penalty: float, rows: float) -> None:
        self.log_likelihoods.append(log_likelihood / rows)
        self.penalized.append((log_likelihood - penalty) / rows)

    def settled(self, tol: float) -> bool:
        """Return whether the last iteration changed little relative to the total gain, which needs no unit of the data.

        The gain is relative to the initial likelihood without its penalty, which is huge for wide radial functions.
        """
        if len(self.penalized) < 2:
            return False
        before, now = self.penalized[-2:]
        return abs(now - before) <= tol * abs(now - self.log_likelihoods[0]) + ROUNDING * max(1.0, abs(now))


def begin(
    rows: BlockReader,
    nodes: Tensor,
    basis: RadialBasis,
    weight_decay: float,
    annealing: int,
    tether: float = 0.0,
    least: float = 0.0,
) -> tuple[Course, BlockReader]:
    """Return the initial state, with the sheet in a plane, and the centered rows.

    The plane is that of the principal axes; with a final tether, it is the most likely one. The noise variance is at
    least `least`, and at least a millionth of the mean variance of a column.

    Raises:
        ValueError: a column has no value, or no row has a weight.
    """
    center = column_means(rows)
    empty = center.isnan().nonzero().squeeze(-1).tolist()
    if empty:
        raise ValueError(
            f"X: expected a value in every column, in rows with a weight, got none in column {empty[0]}"
            f"{f' and {len(empty) - 1} others' if len(empty) > 1 else ''} (counted from 0); leave these columns out"
        )
    rows = rows.centered(center)
    scale, total = spread(rows)
    if not math.isfinite(scale) or (scale < LEAST_SQUARE[rows.dtype] and _differ(rows)):
        raise ValueError(
            f"X: expected values whose squares {rows.dtype} can hold, got a mean square of {scale:.3g}; divide them by "
            "a common unit"
        )
    scale = scale if scale > 0 else 1.0
    lowest = max(least, LEAST_VARIANCE[rows.dtype] * scale)
    topography, places = Topography(basis(nodes).to(rows.device), lowest), nodes.to(rows.device)
    if tether:
        images, variance = normal_plane(rows, places, lowest)
    else:
        images, variance = principal_plane(principal_axes(rows, nodes.shape[1] + 1), places)
    sheet = Sheet(topography.weights_near(images), max(variance, lowest))
    release = Release(weight_decay, scale, total, annealing, sheet.weights, tether, least)
    return Course(nodes, basis, topography, center, sheet, release), rows


def _differ(rows: BlockReader) -> bool:
    """Return whether centered rows differ by more than rounding."""
    assert rows.center is not None
    least = ROUNDING_OF_VALUES * rows.center.abs()
    return any(bool((block.rows.x.abs() > least).any()) for block in rows)


def fit_in_turns(
    course: Course, rows: BlockReader, max_iter: int, tol: float, held_out: BlockReader | None = None
) -> Progress:
    """Run EM over all rows; the penalized likelihood never falls. Rows held out are only measured."""
    progress = Progress()
    for iteration in range(max_iter):
        topography, sheet, prior = course.topography, course.sheet, course.release.at(iteration)
        penalty = topography.penalty(sheet, prior)
        statistics = topography.expectation(rows, sheet)
        if held_out is not None:
            measured = topography.expectation(held_out, sheet)
            progress.held_out.append(measured.log_likelihood / measured.rows)
        course.sheet = topography.maximization(statistics, prior, sheet.variance)
        course.statistics, course.steps, course.rows = (
            statistics.scaled(1 / statistics.rows),
            iteration + 1,
            statistics.rows,
        )
        progress.record(statistics.log_likelihood, penalty, statistics.rows)
        progress.converged = iteration > course.release.iterations and progress.settled(tol)
        if progress.converged:
            break
    return progress


def fit_in_batches(course: Course, epochs: Iterable[Iterable[BlockReader]], tol: float) -> Progress:
    """Run incremental EM over epochs of batches; the likelihood of each batch is measured before its step."""
    progress = Progress()
    for epoch, batches in enumerate(epochs):
        log_likelihood = rows = 0.0
        for batch in batches:
            statistics = course.step(batch, epoch)
            log_likelihood += statistics.log_likelihood
            rows += statistics.rows
        progress.record(log_likelihood, course.topography.penalty(course.sheet, course.release.at(epoch)), rows)
        progress.converged = epoch > course.release.iterations and progress.settled(tol)
        if progress.converged:
            break
    return progress
