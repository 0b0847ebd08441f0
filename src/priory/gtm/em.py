"""One step of EM for the generative topographic mapping: what the rows say (E), and the sheet that fits it (M).

    p(x) = 1/K sum_k N(x | y(u_k), variance I),    y(u) = phi(u) W

    penalized log-likelihood = sum_n w_n log p(x_n) - decay/2 |W|^2 - tether/2 |W - W_plane|^2

The decay spares the bias; the tether is there for the first iterations only.

Cells that are missing are integrated out exactly.

References: Bishop, Svensen & Williams 1998, Neural Computation
10(1), eq. 2.8-2.15; Dempster, Laird & Rubin 1977 (EM); Meng & Rubin 1993 (W first, then the variance).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from priory.density.isotropic import IsotropicNormals
from priory.gtm.rows import Block

SYSTEMS_AT_ONCE = 2**22  # numbers of the normal equations of columns with missing cells that are made at a time
DISTINCT = 1e-9  # of the largest singular value of phi: below, the nodes do not tell a direction of W from none
NEGLIGIBLE = 1e-13  # of the largest eigenvalue: directions of W about which the rows say nothing
TINY = 1e-300


class Sheet(NamedTuple):
    """The parameters: W, its last row the bias, and the noise variance."""

    weights: Float[Tensor, "feature input"]
    variance: float


class WeightPrior(NamedTuple):
    """The Gaussian prior of W."""

    decay: float  # the precision of each weight about zero, the paper's; the bias has none
    tether: float  # the precision of each weight about that of the plane
    plane: Float[Tensor, "feature input"]  # W of the plane that the sheet starts as


@dataclass(frozen=True)
class Statistics:
    """All that the M-step needs of the rows; sums over rows, each with its weight.

    Attributes:
        rows: sum_n w_n.
        cells: sum_n w_n D_n, the cells that are there.
        squares: sum_n w_n |x_n|^2.
        log_likelihood: sum_n w_n log p(x_n), in nats, of the sheet that the responsibilities r are those of.
        usage: sum_n w_n r_nk, (K,).
        sums: sum_n w_n r_nk x_nd, (K, D); missing cells add nothing.
        whole: the same as usage, over the rows without a missing cell, (K,).
        there: sum_n w_n r_nk over the other rows, those whose cell d is there, (K, D); None where there are no others.
        holes: which columns have missing cells, (D,).
    """

    rows: float
    cells: float
    squares: float
    log_likelihood: float
    usage: Float[Tensor, " node"]
    sums: Float[Tensor, "node input"]
    whole: Float[Tensor, " node"]
    there: Float[Tensor, "node input"] | None
    holes: Bool[Tensor, " input"]

    @property
    def seen(self) -> Float[Tensor, "node input"]:
        """sum_n w_n r_nk over the rows whose cell d is there, (K, D) or (K, 1): sums, for differences cancel."""
        whole = self.whole.unsqueeze(-1)
        return whole if self.there is None else whole + self.there

    def to(self, device: torch.device) -> "Statistics":
        """The same on another device."""
        there = None if self.there is None else self.there.to(device)
        usage, sums, whole, holes = (part.to(device) for part in (self.usage, self.sums, self.whole, self.holes))
        return replace(self, usage=usage, sums=sums, whole=whole, there=there, holes=holes)

    def scaled(self, factor: float) -> "Statistics":
        """All of them times a factor."""
        return Statistics(
            factor * self.rows,
            factor * self.cells,
            factor * self.squares,
            factor * self.log_likelihood,
            factor * self.usage,
            factor * self.sums,
            factor * self.whole,
            None if self.there is None else factor * self.there,
            self.holes,
        )

    def towards(self, other: "Statistics", step: float) -> "Statistics":
        """(1 - step) these + step others."""
        ours, theirs = self.scaled(1 - step), other.scaled(step)
        there = [part for part in (ours.there, theirs.there) if part is not None]
        return Statistics(
            ours.rows + theirs.rows,
            ours.cells + theirs.cells,
            ours.squares + theirs.squares,
            ours.log_likelihood + theirs.log_likelihood,
            ours.usage + theirs.usage,
            ours.sums + theirs.sums,
            ours.whole + theirs.whole,
            sum(there[1:], there[0]) if there else None,
            ours.holes | theirs.holes,
        )


class Topography:
    """What stays as it is from step to step: the basis at the nodes, the mixing weights, the least noise.

    Args:
        features: phi(u_k), (K, M + 1), the bias last.
        least_variance: the noise variance goes no lower.
    """

    def __init__(self, features: Float[Tensor, "node feature"], least_variance: float) -> None:
        self.features, self.least_variance = features, least_variance
        self.log_weights = features.new_full((len(features),), -math.log(len(features)))
        self._decaying = features.new_ones(features.shape[1])
        self._decaying[-1] = 0.0
        self._span, self._back = _coordinates(features, self._decaying)

    def images(self, sheet: Sheet) -> Float[Tensor, "node input"]:
        """y(u_k) = phi(u_k) W."""
        return self.features @ sheet.weights

    def weights_near(self, images: Float[Tensor, "node input"]) -> Float[Tensor, "feature input"]:
        """W whose images at the nodes are nearest to these."""
        return self._back @ (self._span.mT @ images)

    def normals(self, sheet: Sheet, dtype: torch.dtype = torch.float64) -> IsotropicNormals:
        """The mixture that the sheet stands for, to compute in that dtype."""
        return IsotropicNormals(self.log_weights.to(dtype), self.images(sheet).to(dtype), sheet.variance)

    def penalty(self, sheet: Sheet, prior: WeightPrior) -> float:
        """decay/2 |W|^2 + tether/2 |W - W_plane|^2 in nats."""
        decaying = float(self._decaying @ sheet.weights.square().sum(-1))
        away = float((sheet.weights - prior.plane).square().sum()) if prior.tether else 0.0
        return 0.5 * (prior.decay * decaying + prior.tether * away)

    def expectation(self, blocks: Iterable[Block], sheet: Sheet, dtype: torch.dtype = torch.float64) -> Statistics:
        """The E-step: the responsibilities of all rows, summed up; `dtype` is that of the blocks."""
        normals = self.normals(sheet, dtype)
        usage, sums = torch.zeros_like(self.log_weights), torch.zeros_like(self.images(sheet))
        whole, there = torch.zeros_like(usage), None
        holes = torch.zeros_like(sums[0], dtype=torch.bool)
        totals = usage.new_zeros(4)
        for block in blocks:
            found = normals.exponentials(block.rows)
            log_density = found.log_sum + normals.shift(block.squares, block.cells)
            cells = block.weight * block.cells
            of_rows = torch.stack([block.weight, cells, block.weight * block.squares, block.weight * log_density])
            totals += of_rows.sum(-1, dtype=totals.dtype)
            share = block.weight * found.reciprocal
            of_block = found.terms.mT @ share
            usage += of_block
            x, present = block.rows
            _add_shares(sums, found.terms, x, share)
            if present is None:
                whole += of_block
            else:
                there = torch.zeros_like(sums) if there is None else there
                _add_shares(there, found.terms, present, share)
                holes |= (present == 0).any(0)
        rows, row_cells, squares, log_likelihood = totals.tolist()
        return Statistics(rows, row_cells, squares, log_likelihood, usage, sums, whole, there, holes)

    def maximization(self, statistics: Statistics, prior: WeightPrior, variance: float) -> Sheet:
        """The M-step: W given the last noise variance, then the noise variance given W.

            (Phi' G Phi + variance (decay + tether) I) W = Phi' S + variance tether W_plane

            variance = sum_nk r_nk |x_n - phi_k W|^2 / cells

        Args:
            statistics: of the E-step.
            prior: of W.
            variance: of the noise, so far.
        """
        weights = self._weights(statistics, prior, variance)
        return Sheet(weights, max(self.least_variance, self._noise_variance(statistics, weights)))

    def _weights(self, statistics: Statistics, prior: WeightPrior, variance: float) -> Float[Tensor, "feature input"]:
        span, back = self._span, self._back
        precision = variance * (prior.decay * self._decaying + prior.tether)
        ridge = back.mT @ (precision.unsqueeze(-1) * back)
        targets = span.mT @ statistics.sums + variance * prior.tether * (back.mT @ prior.plane)
        found = _solve(span.mT @ (statistics.usage.unsqueeze(-1) * span) + ridge, targets)
        seen = statistics.seen
        size = max(1, SYSTEMS_AT_ONCE // self.features.numel())
        for part in statistics.holes.nonzero().squeeze(-1).split(size):  # columns with normal equations of their own
            systems = (span.mT * seen[:, part].mT.unsqueeze(1)) @ span + ridge
            found[:, part] = _solve(systems, targets[:, part].mT.unsqueeze(-1)).squeeze(-1).mT
        return back @ found

    def _noise_variance(self, statistics: Statistics, weights: Float[Tensor, "feature input"]) -> float:
        images = self.features @ weights
        squares = images.square()
        total = (statistics.seen * squares).sum() - 2 * (statistics.sums * images).sum()
        return (statistics.squares + float(total)) / max(statistics.cells, TINY)


def _add_shares(total: Tensor, terms: Tensor, values: Tensor, share: Tensor) -> None:
    """total_kd += sum_n share_n terms_nk values_nd, in place; a total of float64 adds up blocks of float32."""
    if terms.shape[1] < values.shape[1]:
        terms = terms * share.unsqueeze(-1)
    else:
        values = values * share.unsqueeze(-1)
    if total.dtype == terms.dtype:
        total.addmm_(terms.mT, values)
    else:
        total += terms.mT @ values


def _solve(systems: Float[Tensor, "*batch m m"], targets: Float[Tensor, "*batch m column"]) -> Tensor:
    """Symmetric, positive semi-definite systems; of many solutions that without what the rows say nothing about."""
    scales = systems.diagonal(dim1=-2, dim2=-1).clamp(min=TINY).rsqrt().unsqueeze(-1)
    systems, targets = systems * scales * scales.mT, targets * scales
    factor, failed = torch.linalg.cholesky_ex(systems)
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    if not bool(failed.any()) and bool((diagonal.amin(-1) > NEGLIGIBLE**0.5 * diagonal.amax(-1)).all()):
        return scales * torch.cholesky_solve(targets, factor)
    values, vectors = torch.linalg.eigh(systems)
    inverse = torch.where(values > NEGLIGIBLE * values.amax(-1, keepdim=True), values.reciprocal(), 0.0)
    return scales * (vectors @ (inverse.unsqueeze(-1) * (vectors.mT @ targets)))


def _coordinates(
    features: Float[Tensor, "node feature"], decaying: Float[Tensor, " feature"]
) -> tuple[Float[Tensor, "node rank"], Float[Tensor, "feature rank"]]:
    """Orthonormal columns U and B with phi B = U: with W = B C, the condition of phi stays out of the equations of C.

    Wide radial functions are all but linearly dependent; normal equations in W square that, and what is cut off as
    noise then differs from step to step. What W has besides, which shows at no node, is what decays least.
    """
    left, sizes, right = torch.linalg.svd(features)
    rank = int((sizes > DISTINCT * sizes[0]).sum())
    back, beside = right[:rank].mT / sizes[:rank], right[rank:].mT
    if beside.shape[1]:
        pull = beside.mT * decaying
        back = back - beside @ (torch.linalg.pinv(pull @ beside, hermitian=True) @ (pull @ back))
    return left[:, :rank].contiguous(), back
