"""The randomized checks: mass, dependence between coordinates, and agreement of sampler and density."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from priory.testing.exchange import ALPHA, PointStatistics, coordinate_swap, excess, independence, limit, random_walk
from priory.testing.report import BrokenError, Outcome, SkippedError
from priory.testing.subject import Subject

MASS_DRAWS = 65_536
FAR_DRAWS = 2048
FAR_RADII = (10.0, 1e30)  # in standard deviations; a constant added to the density has a mass proportional to r^L
LARGEST_RATIO = 20.0  # of density to proposal in importance sampling; the mass above it is measured by the sampler
CHAIN_STEPS = 8


def integrates_to_one(subject: Subject) -> Outcome:
    """Estimate the integral of exp(log_prob) by importance sampling near the proposal, and elsewhere by the sampler.

        mass = E_q[w, w <= b] + P(w > b),    w(z) = exp(log_prob(z)) / q(z)

    The second term is the share of the sampler's draws with w > b. Each term is an average of bounded numbers, so the
    error bound needs no normality (empirical Bernstein; Maurer & Pontil 2009, theorem 4). If the proposal misses a part
    of the density, the check has less power but stays correct. If it misses half, only gross errors are detected: by
    Markov's inequality the average of w under q, or of 1/w under the sampler, exceeds 1/alpha with probability alpha.
    The same inequality detects a density that does not fall far away from its draws: its mass is infinite, although
    none of it is near the proposal.
    """
    z = subject.rounded(subject.proposal.draw(MASS_DRAWS))
    log_ratio = subject.log_prob(z) - subject.proposal.log_prob(z)
    at_draws = subject.log_prob(subject.draws.other) - subject.proposal.log_prob(subject.draws.other)
    gross = _gross_error(log_ratio, at_draws)
    if gross is not None:
        return gross
    far = _mass_far_out(subject)
    outside = (at_draws > math.log(LARGEST_RATIO)).double()
    if outside.mean() > 0.5:
        if far is not None:
            return far
        raise SkippedError(
            f"undecided: in {subject.latent_dim} dimensions no fitted mixture of normals is close to this density "
            f"({outside.mean():.0%} of the draws are at points where it is more than {LARGEST_RATIO:.0f} times the fit)"
        )
    weights = log_ratio.exp() * (log_ratio <= math.log(LARGEST_RATIO))
    mass = weights.mean().item() + outside.mean().item()
    error = _bernstein(weights, LARGEST_RATIO) + _bernstein(outside, 1.0)
    rest = "; the rest is missing, or the sampler never reaches it" if mass < 1 - error else ""
    near = Outcome(abs(mass - 1) <= error, f"mass {mass:.3f} near its draws, tolerance {error:.3f}{rest}")
    return far if near.passed and far is not None else near


def joint_not_per_dimension(subject: Subject) -> Outcome:
    """Exchange coordinates between pairs of draws if the density accepts it; the joint distribution must not change.

    A product of marginals accepts every exchange, and the draws lose their dependence. The marginals cannot change, so
    only dependence is tested.
    """
    if subject.latent_dim == 1:
        raise SkippedError("one dimension has no dependence between dimensions")
    start, other = subject.draws.start, subject.draws.other
    _check_support(subject, start)
    statistics = PointStatistics(subject.log_prob, subject.proposal, subject.draws.fit)
    ends = [subject.rounded(points) for points in coordinate_swap(subject.log_prob, start, other)]
    before, after = (statistics(first) + statistics(second) for first, second in ((start, other), ends))
    return _judged(excess(after - before), statistics.names)


def density_and_sampler_agree(subject: Subject) -> Outcome:
    """Start Markov chains that leave the density unchanged at the sampler's draws; the chains must not drift."""
    start, fit = subject.draws.start, subject.draws.fit
    _check_support(subject, start)
    statistics = PointStatistics(subject.log_prob, subject.proposal, fit)
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
    """Return a failure if the mass is so large or so small that any proposal detects it; else None."""
    largest = math.log(1 / ALPHA)
    too_much = torch.logsumexp(log_ratio, 0).item() - math.log(len(log_ratio))
    too_little = torch.logsumexp(-at_draws, 0).item() - math.log(len(at_draws))
    if too_much > largest:
        return Outcome(False, f"log mass about {too_much:.1f}")
    if too_little > largest:
        return Outcome(False, f"log mass about {-too_little:.1f} near its draws")
    return None


def _mass_far_out(subject: Subject) -> Outcome | None:
    """Return a failure if the density cannot have finite mass, such as log(p + 1e-10), which never falls below -23.

    Importance sampling with a random direction, and a radius r, in standard deviations s, with uniform log r:

        q(z) = 1 / (r^L log(R / R_0) A prod_i s_i),    A = 2 pi^(L/2) / Gamma(L/2), the area of the unit sphere.

    The average of p / q exceeds 1/alpha with probability at most alpha, for any p. No rate of decrease is assumed, and
    a wide component of small weight is not an error. Points at which numbers overflow are ignored.
    """
    mean, spread = subject.draws.fit.mean(0), subject.draws.fit.std(0)
    latent_dim = subject.latent_dim
    nearest, farthest = map(math.log, FAR_RADII)
    directions = torch.nn.functional.normalize(torch.randn(FAR_DRAWS, latent_dim).double(), dim=-1)
    log_radius = nearest + (farthest - nearest) * torch.rand(FAR_DRAWS).double()
    values = subject.log_prob_where_finite(mean + spread * log_radius.exp()[:, None] * directions)
    log_area = math.log(2) + latent_dim / 2 * math.log(math.pi) - math.lgamma(latent_dim / 2)
    log_volume = latent_dim * log_radius + math.log(farthest - nearest) + log_area + spread.log().sum()  # -log q
    log_mass = torch.logsumexp(values + log_volume, 0).item() - math.log(FAR_DRAWS)
    at_least = log_mass - math.log(1 / ALPHA)
    if not at_least > 0:  # also true for NaN: the variance of very wide draws overflows
        return None
    last = int(log_radius.masked_fill(values == -math.inf, -math.inf).argmax())
    return Outcome(
        False,
        f"log mass at least {at_least:.0f} far away from its draws, where log_prob does not fall as a density must: "
        f"{values[last].item():.4g} at {log_radius[last].exp().item():.0e} standard deviations",
    )


def _bernstein(values: Float[Tensor, " value"], bound: float) -> float:
    """Return the largest error of the mean of independent values in [0, bound], except with probability ALPHA."""
    logarithm, number = math.log(4 / ALPHA), len(values)
    return math.sqrt(2 * values.var().item() * logarithm / number) + 7 * bound * logarithm / (3 * (number - 1))
