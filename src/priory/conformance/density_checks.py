"""The randomised checks: mass, dependence between coordinates, and whether the sampler draws from the density."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from priory.conformance.exchange import ALPHA, Statistics, coordinate_swap, excess, independence, limit, random_walk
from priory.conformance.report import BrokenError, Outcome, SkippedError
from priory.conformance.subject import Subject

MASS_DRAWS = 65_536
LARGEST_RATIO = 20.0  # of density to proposal in what importance sampling counts; the sampler's draws count the rest
CHAIN_STEPS = 8


def integrates_to_one(subject: Subject) -> Outcome:
    """The integral of exp(log_prob), by importance sampling where the proposal is close, else by the sampler's draws.

        mass = E_q[w, w <= b] + P(w > b),    w(z) = exp(log_prob(z)) / q(z)

    The second term is the share of the sampler's own draws. Each term is an average of bounded numbers, so the error
    bound holds without any appeal to normality (empirical Bernstein; Maurer & Pontil 2009, theorem 4), and a proposal
    that misses a part of the density costs power, not correctness. Where it misses half of it, only gross errors can be
    told: by Markov's inequality the average of w under q, or of 1/w under the sampler, exceeds 1/alpha with
    probability alpha.
    """
    z = subject.rounded(subject.proposal.draw(MASS_DRAWS))
    log_ratio = subject.log_prob(z) - subject.proposal.log_prob(z)
    at_draws = subject.log_prob(subject.draws.other) - subject.proposal.log_prob(subject.draws.other)
    gross = _gross_error(log_ratio, at_draws)
    if gross is not None:
        return gross
    outside = (at_draws > math.log(LARGEST_RATIO)).double()
    if outside.mean() > 0.5:
        raise SkippedError(
            f"cannot tell: in {subject.latent_dim} dimensions no fitted mixture of normals comes near this density "
            f"({outside.mean():.0%} of the draws lie where it is more than {LARGEST_RATIO:.0f} times the fit)"
        )
    weights = log_ratio.exp() * (log_ratio <= math.log(LARGEST_RATIO))
    mass = weights.mean().item() + outside.mean().item()
    error = _bernstein(weights, LARGEST_RATIO) + _bernstein(outside, 1.0)
    rest = "; the rest is missing, or lies where the sampler never goes" if mass < 1 - error else ""
    return Outcome(abs(mass - 1) <= error, f"mass {mass:.3f} where its draws lie, tolerance {error:.3f}{rest}")


def joint(subject: Subject) -> Outcome:
    """Pairs of draws exchange coordinates as the density accepts it; that must leave the pairs' joint structure alone.

    A product of marginals accepts every exchange, and the draws lose their dependence. The marginals cannot change, so
    nothing but dependence is tested.
    """
    if subject.latent_dim == 1:
        raise SkippedError("one dimension has no dependence between dimensions")
    start, other = subject.draws.start, subject.draws.other
    _check_support(subject, start)
    statistics = Statistics(subject.log_prob, subject.proposal, subject.draws.fit)
    ends = [subject.rounded(points) for points in coordinate_swap(subject.log_prob, start, other)]
    before, after = (statistics(first) + statistics(second) for first, second in ((start, other), ends))
    return _judged(excess(after - before), statistics.names)


def agree(subject: Subject) -> Outcome:
    """Markov chains that leave the density unchanged start at the sampler's draws; they must not drift."""
    start, fit = subject.draws.start, subject.draws.fit
    _check_support(subject, start)
    statistics = Statistics(subject.log_prob, subject.proposal, fit)
    walkers, jumpers = start.chunk(2)
    ends = (
        random_walk(subject.log_prob, walkers, fit.std(0), CHAIN_STEPS),
        independence(subject.log_prob, jumpers, subject.proposal, CHAIN_STEPS),
    )
    drifts = [
        excess(statistics(subject.rounded(end)) - statistics(begin))
        for begin, end in zip((walkers, jumpers), ends, strict=True)
    ]
    kinds = ("local moves", "jumps")
    return _judged(torch.cat(drifts), [f"{name} under {kind}" for kind in kinds for name in statistics.names])


def _judged(values: Float[Tensor, " statistic"], names: list[str]) -> Outcome:
    worst = int(values.abs().argmax())
    largest, allowed = values[worst].abs().item(), limit(len(values))
    return Outcome(largest <= allowed, f"largest drift {largest:.1f} ({names[worst]}), limit {allowed:.1f}")


def _check_support(subject: Subject, draws: Float[Tensor, "draw latent"]) -> None:
    empty = (subject.log_prob(draws) == -math.inf).sum().item()
    if empty:
        raise BrokenError(f"log_prob is -inf at {empty} of {len(draws)} of its own draws")


def _gross_error(log_ratio: Float[Tensor, " point"], at_draws: Float[Tensor, " draw"]) -> Outcome | None:
    """A failure where the mass is so large or so small that any proposal shows it."""
    largest = math.log(1 / ALPHA)
    too_much = torch.logsumexp(log_ratio, 0).item() - math.log(len(log_ratio))
    too_little = torch.logsumexp(-at_draws, 0).item() - math.log(len(at_draws))
    if too_much > largest:
        return Outcome(False, f"log mass about {too_much:.1f}")
    if too_little > largest:
        return Outcome(False, f"log mass about {-too_little:.1f} where its draws lie")
    return None


def _bernstein(values: Float[Tensor, " value"], bound: float) -> float:
    """How far the mean of independent values in [0, bound] lies from its expectation, but with probability ALPHA."""
    logarithm, number = math.log(4 / ALPHA), len(values)
    return math.sqrt(2 * values.var().item() * logarithm / number) + 7 * bound * logarithm / (3 * (number - 1))
