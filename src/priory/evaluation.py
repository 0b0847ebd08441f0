"""How good a model is: likelihood, bound, and what its latent space does; every number with a standard error."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.density import working_dtype
from priory.distributions import Mixture, diagonal_normal, is_diagonal_normal
from priory.objectives import elbo
from priory.vae import VAE, evaluation_mode

ACTIVE_UNIT_VARIANCE = 0.01  # the threshold of Burda, Grosse & Salakhutdinov 2016, sec. 5.2
VALUES_AT_ONCE = 2**22  # numbers of x that are decoded at a time: at most some hundred MB for any likelihood here
RESPONSIBILITIES_AT_ONCE = 4096  # rows of the B x K matrix
PRIOR_SAMPLES = 10_000  # for what is a property of the prior alone; its standard error is reported


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    se: float


class RowSource(Protocol):
    """Rows that can be read in order in batches: `priory.datasets.Rows`, or what `TensorRows` makes of a tensor."""

    def __len__(self) -> int: ...

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]: ...


class TensorRows:
    """A tensor (N, D) as a source of rows."""

    def __init__(self, x: Float[Tensor, "datum input"]) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(rows, their indices), in order."""
        index = torch.arange(len(self.x))
        yield from zip(self.x.split(batch_size), index.split(batch_size), strict=True)


@torch.no_grad()
def log_likelihood(
    vae: VAE,
    x: Float[Tensor, "datum input"],
    num_samples: int,
    *,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    prior: Distribution | None = None,
) -> Float[Tensor, " datum"]:
    """Importance-weighted estimate of log p(x) per datum, in nats, streamed over samples.

        log p(x) ~ log 1/S sum_s p(z_s) p(x|z_s) / r(z_s),    r = (1 - a) q(z|x) + a p(z)

    A share `a` of the samples is drawn from the prior and the rest from q, each weighted by the mixture of the two
    (deterministic-mixture weights). With q alone (a = 0), the usual estimate, a posterior wider than q makes rare,
    huge weights that a finite sample misses: the likelihood comes out too low, most so in few latent dimensions. The
    defensive mixture bounds every weight by p(x|z)/a. In many dimensions draws from the prior hit nothing, and
    a = 0 wastes none.

    Args:
        vae: the model; used in evaluation mode.
        x: data, (N, D).
        num_samples: S, per datum.
        prior_share: a, in [0, 1); at least one sample is drawn from q.
        chunk_size: how many (datum, sample) pairs are decoded at once, which bounds the memory; by default as many as
            make 2^22 numbers of x.
        prior: p(z), where it has been evaluated already.

    Returns:
        (N,), accumulated in float64.

    Raises:
        ValueError: num_samples or chunk_size is not positive, or prior_share is outside [0, 1).

    Reference: Burda et al. 2016, arXiv:1509.00519, eq. 8; Hesterberg 1995, Technometrics 37(2), on the mixture.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples: expected a positive number of draws, got {num_samples}")
    if not 0 <= prior_share < 1:
        raise ValueError(f"prior_share: expected a share in [0, 1), got {prior_share}")
    pairs = max(1, VALUES_AT_ONCE // x.shape[-1]) if chunk_size is None else chunk_size
    if pairs < 1:
        raise ValueError(f"chunk_size: expected a positive number of (datum, sample) pairs, got {chunk_size}")
    if len(x) == 0:
        return x.new_zeros(0, dtype=working_dtype(x.device))
    with evaluation_mode(vae):
        p_z = vae.latent_prior() if prior is None else prior
        estimates = [_log_likelihood_rows(vae, part, num_samples, prior_share, pairs, p_z) for part in x.split(pairs)]
    return torch.cat(estimates)


def _log_likelihood_rows(
    vae: VAE, x: Tensor, num_samples: int, prior_share: float, chunk_size: int, p_z: Distribution
) -> Tensor:
    q = vae.encode(x)
    from_prior = min(round(prior_share * num_samples), num_samples - 1)
    share = from_prior / num_samples
    per_chunk = max(1, chunk_size // len(x))
    total = torch.full((len(x),), -math.inf, dtype=working_dtype(x.device), device=x.device)
    draws: list[tuple[int, Callable[[int], Tensor]]] = [
        (num_samples - from_prior, lambda n: q.sample(torch.Size((n,)))),
        (from_prior, lambda n: p_z.sample(torch.Size((n, len(x))))),
    ]
    for count, draw in draws:
        for start in range(0, count, per_chunk):
            z = draw(min(per_chunk, count - start))
            log_weights = _log_weights(vae, x, z, q, p_z, share)
            total = torch.logaddexp(total, torch.logsumexp(log_weights.to(total.dtype), 0))
    return total - math.log(num_samples)


def _log_weights(vae: VAE, x: Tensor, z: Tensor, q: Distribution, p_z: Distribution, share: float) -> Tensor:
    log_p, log_q = p_z.log_prob(z), q.log_prob(z)
    proposal = log_q
    if share > 0:
        proposal = torch.logaddexp(log_q + math.log1p(-share), log_p + math.log(share))
    return log_p + vae.decode(z, x).log_prob(x) - proposal


@torch.no_grad()
def evaluate(
    vae: VAE,
    data: Tensor | RowSource,
    num_samples: int = 512,
    *,
    elbo_samples: int = 16,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    batch_size: int = 128,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Estimate]:
    """Everything that `priory evaluate` reports, on the data given.

    Args:
        vae: the model; used in evaluation mode.
        data: (N, D), or a source of rows.
        num_samples: importance samples per datum for the likelihood.
        elbo_samples: draws from q per datum for the bound and its parts.
        prior_share: see `log_likelihood`.
        chunk_size: see `log_likelihood`.
        batch_size: rows at a time.
        progress: called with the number of rows done, after every batch.

    Returns:
        By name: `elbo`, `reconstruction`, `kl`, `nll` (nats per datum), `bits_per_dimension`,
        `index_code_mutual_information` and `marginal_kl` (their sum is `kl`; Hoffman & Johnson 2016), both of the
        aggregate posterior of these N rows: the information never exceeds log N, and where it comes near, `marginal_kl`
        is little more than `kl` - log N; `active_units` (Burda et al. 2016); and for a mixture prior
        `effective_components` = exp(I(k; z)), and `used_components` = exp(H(k)) of the aggregate posterior's
        responsibilities. The standard errors are over data, or over draws from the prior.

    Raises:
        ValueError: there are fewer than two rows (no standard error).
    """
    source = TensorRows(data) if isinstance(data, Tensor) else data
    if len(source) < 2:
        raise ValueError(f"data: expected at least two rows for a standard error, got {len(source)}")
    with evaluation_mode(vae):
        p_z = vae.latent_prior()
        columns: dict[str, list[Tensor]] = {"reconstruction": [], "kl": [], "log_likelihood": []}
        done = 0
        for x, _ in source.batches(batch_size):
            x = x.to(device_of(vae))
            for part in x.split(max(1, VALUES_AT_ONCE // (elbo_samples * x.shape[-1]))):
                bound = elbo(vae, part, num_samples=elbo_samples, prior=p_z)
                columns["reconstruction"].append(bound.reconstruction)
                columns["kl"].append(bound.kl)
            columns["log_likelihood"].append(
                log_likelihood(vae, x, num_samples, prior_share=prior_share, chunk_size=chunk_size, prior=p_z)
            )
            done += len(x)
            if progress is not None:
                progress(done)
        values = {name: torch.cat(parts) for name, parts in columns.items()}
        metrics = _likelihood_metrics(values, x.shape[-1])
        metrics |= latent_metrics(vae, source, p_z, batch_size=batch_size)
    return metrics


def _likelihood_metrics(values: dict[str, Tensor], num_inputs: int) -> dict[str, Estimate]:
    nll = -values["log_likelihood"]
    return {
        "elbo": _mean(values["reconstruction"] - values["kl"]),
        "reconstruction": _mean(values["reconstruction"]),
        "kl": _mean(values["kl"]),
        "nll": _mean(nll),
        "bits_per_dimension": _mean(nll / (num_inputs * math.log(2))),
    }


@torch.no_grad()
def latent_metrics(vae: VAE, source: RowSource, p_z: Distribution, *, batch_size: int = 128) -> dict[str, Estimate]:
    """ELBO surgery, active units and the use of components; see `evaluate`.

    The aggregate posterior q(z) = 1/N sum_n q(z|x_n) is itself a mixture, so one `Mixture` evaluates it. It holds the
    posterior of the datum itself, so the mutual information is at most log N.

    Reference: Hoffman & Johnson 2016, "ELBO surgery", NIPS workshop; Burda et al. 2016, sec. 5.2.
    """
    posteriors = [vae.encode(x.to(device_of(vae))) for x, _ in source.batches(batch_size)]
    loc = torch.cat([q.mean for q in posteriors])
    draws = [q.sample() for q in posteriors]
    aggregate = _aggregate_posterior(posteriors, loc)
    metrics = {"active_units": _active_units(loc.cpu())}
    if aggregate is not None:
        log_aggregate = torch.cat([aggregate.log_prob(z) for z in draws])
        log_q = torch.cat([q.log_prob(z) for q, z in zip(posteriors, draws, strict=True)])
        log_p = torch.cat([p_z.log_prob(z) for z in draws])
        metrics["index_code_mutual_information"] = _mean(log_q - log_aggregate)
        metrics["marginal_kl"] = _mean(log_aggregate - log_p)
    if isinstance(p_z, Mixture):
        metrics["effective_components"] = effective_components(p_z)
        metrics["used_components"] = _used_components(p_z, torch.cat(draws))
    return metrics


@torch.no_grad()
def effective_components(p_z: Mixture, num_samples: int = PRIOR_SAMPLES) -> Estimate:
    """exp(I(k; z)): how many components of the prior can be told apart, between 1 and K.

        I(k; z) = E_p(z) [KL(p(k|z) || pi)] = E_p(k, z) [log p(z|k) - log p(z)]

    Estimated from draws of the prior; the standard error is carried through the exponential to first order.
    """
    log_joint = p_z.component_log_prob(p_z.sample(torch.Size((num_samples,))))
    log_posterior = torch.log_softmax(log_joint, -1)
    responsibilities = log_posterior.exp()
    divergence = (torch.special.xlogy(responsibilities, responsibilities)).sum(-1)
    divergence = divergence - (responsibilities * p_z.log_weights.clamp_min(torch.finfo(torch.float32).min)).sum(-1)
    information = _mean(divergence)
    value = math.exp(max(information.value, 0.0))
    return Estimate(value, value * information.se)


@torch.no_grad()
def _used_components(p_z: Mixture, z: Tensor) -> Estimate:
    """exp(H) of the mean responsibilities of draws from the aggregate posterior; s.e. by the delta method."""
    responsibilities = torch.cat(
        [p_z.responsibilities(part).cpu() for part in z.split(RESPONSIBILITIES_AT_ONCE)]
    ).double()
    share = responsibilities.mean(0)
    surprise = -torch.special.xlogy(responsibilities, share.clamp_min(torch.finfo(share.dtype).tiny)).sum(-1)
    entropy = _mean(surprise)
    return Estimate(math.exp(entropy.value), math.exp(entropy.value) * entropy.se)


def _aggregate_posterior(posteriors: list[Distribution], loc: Tensor) -> Mixture | None:
    if not all(is_diagonal_normal(q) for q in posteriors):
        return None
    scale = torch.cat([q.stddev for q in posteriors])
    return Mixture(torch.zeros(len(loc), device=loc.device), diagonal_normal(loc, scale))


def _active_units(loc: Float[Tensor, "datum latent"]) -> Estimate:
    """How many latent dimensions have Var_x(E[z|x]) above 0.01; its error by the jackknife over ten blocks."""
    count = float((loc.double().var(0) > ACTIVE_UNIT_VARIANCE).sum())
    blocks = min(10, len(loc) // 2)
    if blocks < 2:
        return Estimate(count, 0.0)
    member = torch.arange(len(loc), device=loc.device) % blocks
    counts = torch.stack(
        [(loc[member != b].double().var(0) > ACTIVE_UNIT_VARIANCE).sum().double() for b in range(blocks)]
    )
    return Estimate(count, math.sqrt((blocks - 1) * float(counts.var(correction=0))))


def device_of(module: torch.nn.Module) -> torch.device:
    """Where the module's first parameter lies."""
    return next(module.parameters()).device


def _mean(values: Float[Tensor, " datum"]) -> Estimate:
    values = values.cpu().double()
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))
