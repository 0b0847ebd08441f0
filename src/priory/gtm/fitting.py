"""EM to the end: in turns over all rows, or incrementally over batches of them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from priory.grids import RadialBasis
from priory.gtm.em import Sheet, Statistics, Topography
from priory.gtm.initial import column_means, principal_axes, principal_sheet, spread
from priory.gtm.rows import Block, Rows

FIRST_DECAY = 0.1  # the decay that annealing starts from, times scale, per row
LAST_BEFORE_NONE = 1e-4  # where an annealed decay ends that goes to zero
STEP_POWER = 0.6  # above a half and below one: the statistics converge, and forget the start
STEP_OFFSET = 2.0
LEAST_VARIANCE = {torch.float64: 1e-6, torch.float32: 1e-4}  # of the noise, in units of a column's mean variance


@dataclass(frozen=True)
class Decay:
    """The weight decay of each iteration: large at first, so that the sheet unfolds from its coarse features on.

        decay_t = first^(1 - t/T) last^(t/T) / scale up to iteration T, then last / scale

    It only ever falls, so that what EM gains in an iteration, the penalised likelihood keeps in the next.

    Attributes:
        last: the weight decay of the model, per unit of `scale`.
        scale: the mean variance of a column, which makes it a pure number.
        rows: how many rows there are: with many, the same start takes a larger decay.
        iterations: T.
    """

    last: float
    scale: float
    rows: float
    iterations: int

    def at(self, iteration: float) -> float:
        """decay_t, in units of one over squared weights."""
        first, last = FIRST_DECAY * self.rows, max(self.last, LAST_BEFORE_NONE)
        if iteration >= self.iterations or first <= last:
            return self.last / self.scale
        return last * (first / last) ** (1 - iteration / self.iterations) / self.scale


class Course:
    """EM under way: the sheet, and what it takes to go on.

        s_t = (1 - step_t) s_{t-1} + step_t s(batch_t),    step_t = (2 / (t + 2))^0.6

    is its step with a batch of rows: averaged statistics move by a step that decreases, and the sheet follows them.

    Args:
        topography: basis, mixing weights, bounds.
        centre: what has been subtracted from the rows.
        sheet: where it starts.
        decay: the weight decay.

    Attributes:
        statistics: averaged, per row; None before the first step.
        steps: taken.
        rows: the weights of all rows seen, added up.

    Reference: Cappe & Moulines 2009, arXiv:0712.4273 (the step); Neal & Hinton 1998.
    """

    def __init__(self, topography: Topography, centre: Tensor, sheet: Sheet, decay: Decay) -> None:
        self.topography, self.centre, self.sheet, self.decay = topography, centre, sheet, decay
        self.statistics: Statistics | None = None
        self.steps, self.rows = 0, 0.0

    def whole_step(self, rows: Rows, iteration: int) -> Statistics:
        """EM over all rows; returns their statistics under the sheet as it was."""
        found = self.topography.expectation(rows, self.sheet, rows.dtype)
        self.sheet = self.topography.maximisation(found, self.decay.at(iteration), self.sheet.variance)
        self.statistics, self.steps, self.rows = found.scaled(1 / found.rows), iteration + 1, found.rows
        return found

    def step(self, blocks: Sequence[Block], dtype: torch.dtype, iteration: float = math.inf) -> Statistics:
        """See these rows alone; returns their own statistics under the sheet as it was."""
        found = self.topography.expectation(blocks, self.sheet, dtype)
        if found.rows > 0:
            per_row = found.scaled(1 / found.rows)
            share = (STEP_OFFSET / (self.steps + STEP_OFFSET)) ** STEP_POWER
            self.statistics = per_row if self.statistics is None else self.statistics.towards(per_row, share)
            self.steps += 1
            self.rows += found.rows
            whole = self.statistics.scaled(self.decay.rows or self.rows)
            self.sheet = self.topography.maximisation(whole, self.decay.at(iteration), self.sheet.variance)
        return found


@dataclass
class Progress:
    """How far EM has come.

    Attributes:
        log_likelihoods: mean log-likelihood of a row in nats, of the parameters each iteration began with.
        penalised: the same minus the penalty at that iteration's decay.
        converged: whether the last iteration changed it by less than asked.
    """

    log_likelihoods: list[float] = field(default_factory=list)
    penalised: list[float] = field(default_factory=list)
    converged: bool = False

    def record(self, log_likelihood: float, penalty: float, rows: float) -> None:
        """The sums over the rows that an iteration saw."""
        self.log_likelihoods.append(log_likelihood / rows)
        self.penalised.append((log_likelihood - penalty) / rows)

    def settled(self, tol: float) -> bool:
        """Whether the last two penalised likelihoods are alike, relative to their size and to one nat."""
        if len(self.penalised) < 2:
            return False
        before, now = self.penalised[-2:]
        return abs(now - before) <= tol * max(1.0, abs(now))


def begin(rows: Rows, nodes: Tensor, basis: RadialBasis, weight_decay: float, annealing: int) -> tuple[Course, Rows]:
    """The sheet in the plane of the principal axes, and the rows about their mean.

    Raises:
        ValueError: a column has no value, or no row has a weight.
    """
    centre = column_means(rows)
    empty = centre.isnan().nonzero().squeeze(-1).tolist()
    if empty:
        raise ValueError(
            f"X: expected a value in every column, in rows with a weight, got none in column {empty[0]}"
            f"{f' and {len(empty) - 1} others' if len(empty) > 1 else ''} (counted from 0); leave them out"
        )
    rows = rows.centred(centre)
    scale, total = spread(rows)
    scale = scale if scale > 0 else 1.0
    least = LEAST_VARIANCE[rows.dtype] * scale
    nodes, features = nodes.to(rows.device), basis(nodes).to(rows.device)
    sheet = principal_sheet(principal_axes(rows, nodes.shape[1] + 1), nodes, features, least)
    decay = Decay(weight_decay, scale, total, annealing)
    return Course(Topography(features, least), centre, sheet, decay), rows


def fit_in_turns(course: Course, rows: Rows, max_iter: int, tol: float) -> Progress:
    """EM over all rows; no iteration makes the penalised likelihood less."""
    progress = Progress()
    for iteration in range(max_iter):
        penalty = course.topography.penalty(course.sheet, course.decay.at(iteration))
        found = course.whole_step(rows, iteration)
        progress.record(found.log_likelihood, penalty, found.rows)
        if iteration > course.decay.iterations and progress.settled(tol):
            progress.converged = True
            break
    return progress


def fit_in_batches(course: Course, epochs: Iterable[Iterable[Rows]], tol: float) -> Progress:
    """Incremental EM over epochs of batches; an epoch's likelihood is that of its rows as they were met."""
    progress = Progress()
    for epoch, batches in enumerate(epochs):
        log_likelihood = rows = 0.0
        for batch in batches:
            found = course.step(list(batch), batch.dtype, epoch)
            log_likelihood += found.log_likelihood
            rows += found.rows
        progress.record(log_likelihood, course.topography.penalty(course.sheet, course.decay.at(epoch)), rows)
        if epoch > course.decay.iterations and progress.settled(tol):
            progress.converged = True
            break
    return progress
