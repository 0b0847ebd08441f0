"""The likelihood of each datum by importance sampling, computed in blocks of rows and samples."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from priory._support.optional import require
from priory._support.seeds import own_noise, row_seed
from priory.density import working_dtype
from priory.distributions.chain import Chain
from priory.distributions.normal import is_diagonal_normal
from priory.evaluation.pairs import by_matrix_product, log_prob_of_pairs
from priory.model import (
    AnyModel,
    ConditionalModel,
    LatentVariableModel,
    cast_like,
    context_of,
    covariates_of,
    evaluation_mode,
    given,
    latent_prior_of,
    likelihood_of,
    log_prob_of_rows,
    posterior_of,
    require_model,
)
from priory.rows import AnnotatedData, Frame, RowsLike, as_rows, batches_with_context

if TYPE_CHECKING:
    import pandas

# Outputs of the decoder at a time. On a CPU, as many as fit into its cache, because larger blocks take three times as
# long; on a GPU, as many as keep it busy.
VALUES_AT_ONCE = 2**19
VALUES_AT_ONCE_ELSEWHERE = 2**25
LATENTS_AT_ONCE = 2**20  # numbers in the z whose densities are evaluated at a time
ROWS_TOGETHER = 16  # data that share the draws from the prior
ENOUGH_HITS = 0.05  # expected draws of the prior near the posterior, above which pooling is worth its decoding


class RowNoise(NamedTuple):
    """Noise that depends only on a seed and the ids of the rows, and not on the other rows of the batch."""

    seed: int
    ids: Sequence[object]

    @classmethod
    def of(cls, seed: int | None, ids: Any, start: int, count: int) -> "RowNoise | None":
        """Return the noise of the rows from `start` on; without ids, row numbers are the ids. None without a seed."""
        numbers = range(start, start + count)
        return None if seed is None else cls(seed, numbers if ids is None else [ids[number] for number in numbers])

    def draws(
        self, q: Distribution, count: int, step: int, device: torch.device
    ) -> Float[Tensor, "sample datum latent"]:
        """Draws of q(z|x) for each row; `step` distinguishes several draws of one row."""
        seeds = [row_seed(self.seed, f"{step} {each}") for each in self.ids]
        if not is_diagonal_normal(q):
            with own_noise(seeds[0], device):  # one row, see `groups`
                return _draws(q, count)
        normals = [torch.randn(count, *q.event_shape, generator=torch.Generator().manual_seed(each)) for each in seeds]
        return q.mean + q.stddev * torch.stack(normals, 1).to(q.mean)

    def shared(self, device: torch.device, step: int = 0) -> AbstractContextManager[None]:
        """Noise that all rows share."""
        return own_noise(row_seed(self.seed, f"prior {step}"), device)


class ImportanceEstimate(NamedTuple):
    """Results of importance sampling for each datum, in float64.

    Attributes:
        log_likelihood: log p(x), nats.
        effective_sample_size: (sum w)^2 / sum w^2 of the weights, between 1 and the number of draws: S, or more if
            data pool their draws from the prior.
        reconstruction: E_q [log p(x|z)], nats, from the draws of q.
        kl: E_q [log q(z|x) - log p(z)], nats, from the draws of q.
        kl_by_level: the terms of `kl` by level, if q and p are chains of the same levels; else `kl` as one level.
    """

    log_likelihood: Float[Tensor, " datum"]
    effective_sample_size: Float[Tensor, " datum"]
    reconstruction: Float[Tensor, " datum"]
    kl: Float[Tensor, " datum"]
    kl_by_level: Float[Tensor, "datum level"]

    def at(self, places: slice) -> "ImportanceEstimate":
        """The estimates of some rows."""
        return ImportanceEstimate(*(values[places] for values in self))


@overload
def log_likelihood(
    model: AnyModel,
    rows: Frame | AnnotatedData,
    *,
    num_samples: int,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    batch_size: int = 128,
    prior: Distribution | None = None,
    seed: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> "pandas.Series": ...


@overload
def log_likelihood(
    model: AnyModel,
    rows: RowsLike,
    *,
    num_samples: int,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    batch_size: int = 128,
    prior: Distribution | None = None,
    seed: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, " datum"]: ...


@torch.no_grad()
def log_likelihood(
    model: AnyModel,
    rows: RowsLike,
    *,
    num_samples: int,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    batch_size: int = 128,
    prior: Distribution | None = None,
    seed: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Any:
    """Importance-weighted estimate of log p(x) per datum, in nats, computed in blocks of rows and samples.

        log p(x) ~ log 1/S sum_s p(z_s) p(x|z_s) / r(z_s),    r = (1 - a) q(z|x) + a p(z)

    A share `a` of the samples is drawn from the prior and the rest from q. Each sample is weighted by the mixture of
    the two densities (deterministic-mixture weights). The usual estimate has a = 0. If the posterior is wider than q, a
    few weights are huge but rare; a finite sample misses them, and the likelihood is too low, most of all in few latent
    dimensions. The defensive mixture bounds every weight by p(x|z)/a. In many dimensions no draw from the prior comes
    near the posterior, and a = 0 wastes no draws. But wasting half of the draws costs little, because the estimate
    grows with the logarithm of their number.

    For a conditional model, the result is log p(x | c), with draws from p(z | c) for each datum.

    Groups of sixteen data share their draws from the prior. If log p(x|z) of all pairs is a matrix product (binary,
    categorical or Gaussian columns) and some draws are expected near a posterior, each datum uses the draws of all
    sixteen, and `a` in r(z) grows accordingly. Otherwise all use the same a S draws, which are decoded once, or once
    for each datum if the decoder has covariates. Sharing makes no estimate less precise, but the sixteen estimates are
    slightly dependent.

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has; used in evaluation mode.
        rows: (N, D) or (N, *input) in any form that `priory.rows.as_rows` reads; for a conditional model with a context
            (`with_context`).
        num_samples: S, draws per datum.
        prior_share: a, in [0, 1); at least one sample is drawn from q.
        chunk_size: number of (datum, sample) pairs that are decoded at once, which bounds the memory. The default gives
            2^19 outputs of the decoder on a CPU, and 2^25 on other devices.
        batch_size: rows read at a time; a tensor is one batch.
        prior: p(z), if it has been evaluated already.
        seed: if given, the noise of a row depends only on this seed and the row's id (its number, without ids). So any
            subset of the rows, in any order, gets the same numbers as among all rows, up to rounding of matrix
            products. All rows then share the same draws from the prior, without pooling, and torch's generator is not
            used.
        progress: called with the number of finished rows, after every batch.

    Returns:
        (N,), accumulated in float64; -inf for a row whose code or density overflows. For a pandas data frame or AnnData
        it is a pandas Series indexed by the names of the rows, else a tensor.

    Raises:
        TypeError: the rows are of another kind, or the model lacks a method or a method returns no distribution.
        ValueError: num_samples or chunk_size is not positive, or prior_share is outside [0, 1).

    Reference: Burda et al. 2016, arXiv:1509.00519, eq. 8; Hesterberg 1995, Technometrics 37(2), on the mixture.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> x = torch.rand(9, 6).round()
    >>> log_likelihood(vae, x, num_samples=16).shape
    torch.Size([9])
    """
    require_model(model, conditional=True)
    options: Any = {"num_samples": num_samples, "prior_share": prior_share, "chunk_size": chunk_size}
    batches: Iterator[tuple[Tensor, Tensor | None]]
    if isinstance(rows, Tensor):
        ids, batches = None, iter([(rows, None)])
    else:
        source = as_rows(rows, "rows")
        one_by_one = seed is not None and isinstance(model, ConditionalModel)
        ids, batches = getattr(source, "ids", None), batches_with_context(source, 1 if one_by_one else batch_size)
    parts, done = [], 0
    for batch, context in batches:
        x, known = cast_like(batch, model), given(model, context)
        if prior is None or context is not None:
            with evaluation_mode(model):
                prior = latent_prior_of(known)
        noise = RowNoise.of(seed, ids, done, len(x))
        estimate = importance_estimate(known, x, **options, prior=prior, noise=noise)
        parts.append(estimate.log_likelihood)
        done += len(x)
        if progress is not None:
            progress(done)
    estimates = torch.cat(parts)
    if not isinstance(rows, Frame | AnnotatedData):
        return estimates
    series = require("pandas", "tables", "a data frame").Series
    return series(estimates.cpu().numpy(), index=ids, name="log_likelihood")


@torch.no_grad()
def importance_estimate(
    model: LatentVariableModel,
    x: Float[Tensor, "datum input"],
    *,
    num_samples: int,
    prior_share: float = 0.5,
    chunk_size: int | None = None,
    prior: Distribution | None = None,
    posterior: Distribution | None = None,
    noise: RowNoise | None = None,
) -> ImportanceEstimate:
    """Estimate the likelihood, its effective sample size and the two parts of the bound; see `log_likelihood`.

    Args:
        model, num_samples, prior_share, chunk_size, prior: see `log_likelihood`.
        x: data, (N, D), on the model's device.
        posterior: q(z|x), if the rows have been encoded already. All rows then share their draws from the prior, so
            give about sixteen rows at a time; at least one draw of each row is decoded at once.
        noise: the noise of these rows, see `seed` in `log_likelihood`; None uses torch's generator.

    Raises:
        ValueError: as `log_likelihood`.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples: expected a positive number of draws, got {num_samples}")
    if not 0 <= prior_share < 1:
        raise ValueError(f"prior_share: expected a share in [0, 1), got {prior_share}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size: expected a positive number of (datum, sample) pairs, got {chunk_size}")
    if len(x) == 0:
        empty = x.new_zeros(0, 1, dtype=working_dtype(x.device))
        return ImportanceEstimate(empty[:, 0], empty[:, 0], empty[:, 0], empty[:, 0], empty)
    if chunk_size is None:
        values = VALUES_AT_ONCE if x.device.type == "cpu" else VALUES_AT_ONCE_ELSEWHERE
        chunk_size = max(1, values // (x[0].numel() * getattr(getattr(model, "decoder", None), "num_outputs", 1)))
    from_prior = min(round(prior_share * num_samples), num_samples - 1)
    counts = {"from_q": num_samples - from_prior, "from_prior": from_prior, "pairs": chunk_size}
    with evaluation_mode(model):
        p_z = latent_prior_of(model) if prior is None else prior
        if posterior is not None:
            return _Sampling(model, x, posterior, p_z, **counts, noise=noise).run()
        parts = []
        for rows, own, places in groups(model, x, p_z, chunk_size, noise):
            estimate = _Sampling(model, rows, posterior_of(model, rows), p_z, **counts, noise=own).run()
            parts.append(estimate.at(places))
    return ImportanceEstimate(*(torch.cat(column) for column in zip(*parts, strict=True)))


def groups(
    model: LatentVariableModel, x: Tensor, p_z: Distribution, chunk_size: int | None, noise: RowNoise | None
) -> Iterator[tuple[Tensor, RowNoise | None, slice]]:
    """Yield groups of rows that are sampled together, their noise, and the slice of the group that is not padding.

    With `noise`, every group is padded with copies to the same size, because matrix products of other shapes round
    differently. The position of a row in its group also affects the last bits, so it is the row's number modulo the
    group size, if ids are numbers.
    """
    size = max(1, min(ROWS_TOGETHER, chunk_size or ROWS_TOGETHER)) if context_of(model) is None else len(x)
    if noise is None:
        yield from ((rows, None, slice(None)) for rows in x.split(size))
        return
    alone = bool(p_z.batch_shape) or not is_diagonal_normal(posterior_of(model, x[:1]))
    size, first = 1 if alone else ROWS_TOGETHER, str(noise.ids[0])
    for start in range(-(int(first) % size) if first.isdecimal() else 0, len(x), size):
        index = [min(max(place, 0), len(x) - 1) for place in range(start, start + size)]
        own = RowNoise(noise.seed, [noise.ids[place] for place in index])
        yield x[index], own, slice(max(0, -start), len(x) - start)


class _Sampling:
    """Importance sampling for data that share their draws from the prior.

    `from_q` and `from_prior` are the numbers of draws for each datum; `pairs` (datum, sample) are decoded at a time.
    """

    def __init__(
        self,
        model: LatentVariableModel,
        x: Tensor,
        q: Distribution,
        p_z: Distribution,
        *,
        from_q: int,
        from_prior: int,
        pairs: int,
        noise: RowNoise | None = None,
    ) -> None:
        self._model, self._x, self._q, self._p_z, self._noise = model, x, q, p_z, noise
        self._from_q, self._from_prior, self._pairs = from_q, from_prior, pairs
        # A decoder that conditions on the datum must decode each draw for each datum.
        self._decodes_for_all = not covariates_of(model, x) and context_of(model) is None
        once = from_prior > 0 and self._decodes_for_all
        with self._shared_noise(0):
            self._by_product = once and by_matrix_product(likelihood_of(model, p_z.sample(torch.Size((1,)))))
        pooled = from_prior * min(len(x), ROWS_TOGETHER)
        if noise is None and self._by_product and self._expected_hits(pooled) > ENOUGH_HITS:
            self._from_prior = pooled
        zero = x.new_zeros(len(x), dtype=working_dtype(x.device))
        self._log_sum = self._log_sum_of_squares = zero - math.inf
        self._reconstruction = zero
        self._by_level = isinstance(q, Chain) and isinstance(p_z, Chain) and q.levels == p_z.levels
        self._kl_by_level = zero.unsqueeze(-1)

    def run(self) -> ImportanceEstimate:
        at_once = max(1, self._pairs // len(self._x), LATENTS_AT_ONCE // (len(self._x) * self._p_z.event_shape[-1]))
        for start in range(0, self._from_q, at_once):
            self._add_from_posterior(min(at_once, self._from_q - start), start)
        for start in range(0, self._from_prior, at_once):
            with self._shared_noise(start):
                self._add_from_prior(min(at_once, self._from_prior - start))
        return ImportanceEstimate(
            self._log_sum - math.log(self._from_q + self._from_prior),
            torch.exp(2 * self._log_sum - self._log_sum_of_squares).nan_to_num(0.0),  # if all weights are zero
            self._reconstruction / self._from_q,
            self._kl_by_level.sum(-1) / self._from_q,
            self._kl_by_level / self._from_q,
        )

    def _shared_noise(self, step: int) -> AbstractContextManager[None]:
        return nullcontext() if self._noise is None else self._noise.shared(self._x.device, step)

    def _expected_hits(self, count: int) -> float:
        """Estimate how many of `count` draws of the prior fall near the median posterior: count p(m) / q(m|x)."""
        try:
            mean = self._q.completed(self._q.first.mean) if isinstance(self._q, Chain) else self._q.mean
        except NotImplementedError:  # torch has no closed form for the mean
            return 0.0
        far = overflows(mean)
        mean = mean.masked_fill(far.unsqueeze(-1), 0.0)
        log_share = (self._p_z.log_prob(mean) - self._q.log_prob(mean))[~far]
        return count * float(log_share.median().exp()) if len(log_share) else 0.0

    def _add_from_posterior(self, count: int, start: int) -> None:
        # torch raises an error for the whole batch if a value or parameter of a distribution is NaN.
        z = _draws(self._q, count) if self._noise is None else self._noise.draws(self._q, count, start, self._x.device)
        far = overflows(z)
        z = z.masked_fill(far.unsqueeze(-1), 0.0)
        by_level = [self._log_prob_by_level(p, z) for p in (self._p_z, self._q)]
        log_p, log_q = (terms.sum(-1) for terms in by_level)
        log_p_x = _nan_to(-math.inf, self._log_likelihood(z)).masked_fill(far, -math.inf)
        self._add(log_p, log_q, log_p_x)
        self._reconstruction = self._reconstruction + log_p_x.to(self._log_sum.dtype).sum(0)
        kl = _nan_to(math.inf, by_level[1] - by_level[0]).masked_fill(far.unsqueeze(-1), math.inf)
        self._kl_by_level = self._kl_by_level + kl.to(self._log_sum.dtype).sum(0)

    def _add_from_prior(self, count: int) -> None:
        z = self._p_z.sample(torch.Size((count,)))
        if self._p_z.batch_shape:  # p(z|c): each datum has its own draws
            self._add(self._p_z.log_prob(z), self._q.log_prob(z), self._log_likelihood(z))
            return
        log_p, log_q = self._p_z.log_prob(z).unsqueeze(-1), log_prob_of_pairs(self._q, z).mT
        if self._decodes_for_all:
            log_p_x = self._log_likelihood_of_pairs(z)
        else:
            log_p_x = self._log_likelihood(z.unsqueeze(1).expand(-1, len(self._x), -1))
        self._add(log_p, log_q, log_p_x)

    def _log_prob_by_level(self, p: Any, z: Float[Tensor, "sample datum latent"]) -> Float[Tensor, "*batch level"]:
        return p.log_prob_by_level(z) if self._by_level else p.log_prob(z).unsqueeze(-1)

    def _log_likelihood(self, z: Float[Tensor, "sample datum latent"]) -> Float[Tensor, "sample datum"]:
        """log p(x_b|z_sb)."""
        parts = z.split(max(1, self._pairs // len(self._x)))
        return torch.cat([log_prob_of_rows(likelihood_of(self._model, part, self._x), self._x) for part in parts])

    def _log_likelihood_of_pairs(self, z: Float[Tensor, "sample latent"]) -> Float[Tensor, "sample datum"]:
        """log p(x_b|z_s); each draw is decoded once for all data."""
        parts = z.split(self._pairs if self._by_product else max(1, self._pairs // len(self._x)))
        return torch.cat([log_prob_of_pairs(likelihood_of(self._model, part), self._x) for part in parts])

    def _add(self, log_p: Tensor, log_q: Tensor, log_p_x: Tensor) -> None:
        """Add the weights p(z) p(x|z) / r(z) of draws (s, B); `log_p` may be (s, 1)."""
        proposal = log_q
        if self._from_prior:
            share = self._from_prior / (self._from_q + self._from_prior)
            proposal = torch.logaddexp(log_q + math.log1p(-share), log_p + math.log(share))
        log_weights = _nan_to(-math.inf, (log_p + log_p_x - proposal).to(self._log_sum.dtype))
        self._log_sum = torch.logaddexp(self._log_sum, torch.logsumexp(log_weights, 0))
        self._log_sum_of_squares = torch.logaddexp(self._log_sum_of_squares, torch.logsumexp(2 * log_weights, 0))


def _draws(q: Distribution, count: int) -> Tensor:
    draw = q.rsample if q.has_rsample else q.sample  # a normal's `sample` raises an error for NaN
    return draw(torch.Size((count,)))


def overflows(z: Float[Tensor, "*batch latent"]) -> Bool[Tensor, "*batch"]:
    """Return whether the square of a coordinate overflows, so that z has no density; true for NaN too.

    >>> overflows(torch.tensor([[1.0, 2.0], [1.0, 1e20], [1.0, torch.nan]]))
    tensor([False,  True,  True])
    """
    return ~z.square().sum(-1).isfinite()


def _nan_to(value: float, numbers: Tensor) -> Tensor:
    """Replace NaN, which is the difference of two numbers that overflow, by a value."""
    return numbers.masked_fill(numbers.isnan(), value)
