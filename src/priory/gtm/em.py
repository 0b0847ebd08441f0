"""One step of EM for the generative topographic mapping: responsibilities of the rows (E), then a new sheet (M).

    p(x) = 1/K sum_k N(x | y(u_k), variance I),    y(u) = phi(u) W

    penalized log-likelihood = sum_n w_n log p(x_n) - decay/2 |W|^2 - tether/2 |W - W_plane|^2

The decay does not apply to the bias. In a large table only the first iterations use the tether. Missing cells are
integrated out exactly.

References: Bishop, Svensen & Williams 1998, Neural Computation 10(1), eq. 2.8-2.15; Dempster, Laird & Rubin 1977 (EM);
Meng & Rubin 1993 (W first, then the variance).
"""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from priory.density.isotropic import IsotropicNormals
from priory.gtm.reader import BlockReader, added

SYSTEMS_AT_ONCE = 2**22  # numbers in the normal equations of columns with missing cells that are built at a time
DISTINCT = 1e-9  # of the largest singular value of phi: a direction of W below it changes no image of a node
NEGLIGIBLE = 1e-13  # of the largest eigenvalue: the rows do not determine directions of W below it
TINY = 1e-300


class Sheet(NamedTuple):
    """The parameters: the weights W, whose last row is the bias, and the noise variance."""

    weights: Float[Tensor, "feature input"]
    variance: float


class WeightPrior(NamedTuple):
    """The Gaussian prior of W."""

    decay: float  # precision of each weight about zero, as in the paper; zero for the bias
    tether: float  # precision of each weight about its value in the plane
    plane: Float[Tensor, "feature input"]  # W of the initial plane of the sheet


class Statistics(NamedTuple):
    """Sums over rows that the M-step needs; each row counts with its weight w_n."""

    rows: float  # sum_n w_n
    cells: float  # sum_n w_n D_n, where D_n is the number of observed cells of a row
    squares: float  # sum_n w_n |x_n|^2
    log_likelihood: float  # sum_n w_n log p(x_n), in nats, for the sheet that gave the responsibilities r
    usage: Float[Tensor, " node"]  # sum_n w_n r_nk, (K,)
    sums: Float[Tensor, "node input"]  # sum_n w_n r_nk x_nd, (K, D); missing cells add nothing
    whole: Float[Tensor, " node"]  # usage by the rows without missing cells, (K,)
    # sum_n w_n r_nk over the other rows whose cell d is observed, (K, D); None without such rows
    observed: Float[Tensor, "node input"] | None
    holes: Bool[Tensor, " input"]  # which columns have missing cells, (D,)

    @property
    def column_usage(self) -> Float[Tensor, "node input"]:
        """sum_n w_n r_nk over all rows in which cell d is observed, (K, D), or (K, 1) if no cell is missing."""
        whole = self.whole.unsqueeze(-1)
        return whole if self.observed is None else whole + self.observed  # a difference would lose digits

    def to(self, device: torch.device) -> "Statistics":
        return Statistics._make(part.to(device) if isinstance(part, Tensor) else part for part in self)

    def scaled(self, factor: float) -> "Statistics":
        sums: tuple[Any, ...] = self[:-1]
        return Statistics._make([*(None if part is None else factor * part for part in sums), self.holes])

    def towards(self, other: "Statistics", step: float) -> "Statistics":
        """(1 - step) times these sums plus step times the others."""
        mine, theirs = self.scaled(1 - step), other.scaled(step)
        return Statistics._make(added(mine, theirs))


class Topography:
    """The constants of all steps: phi(u_k) with the bias last, the mixing weights, a lower bound of the variance."""

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
        """Return the W whose images at the nodes are nearest to the given ones, by least squares."""
        return self._back @ (self._span.mT @ images)

    def penalty(self, sheet: Sheet, prior: WeightPrior) -> float:
        """decay/2 |W|^2 + tether/2 |W - W_plane|^2 in nats."""
        decaying = float(self._decaying @ sheet.weights.square().sum(-1))
        away = float((sheet.weights - prior.plane).square().sum()) if prior.tether else 0.0
        return 0.5 * (prior.decay * decaying + prior.tether * away)

    def expectation(self, rows: BlockReader, sheet: Sheet) -> Statistics:
        """The E-step: sums of the responsibilities over all rows."""
        of = partial(statistics, log_weights=self.log_weights, images=self.images(sheet), variance=sheet.variance)
        return Statistics._make(rows.total(of))

    def maximization(self, statistics: Statistics, prior: WeightPrior, variance: float) -> Sheet:
        """The M-step: W given the last noise variance, then the noise variance given W.

        (Phi' G Phi + variance (decay + tether) I) W = Phi' S + variance tether W_plane

        variance = sum_nk r_nk |x_n - phi_k W|^2 / cells
        """
        weights = self._weights(statistics, prior, variance)
        images = self.features @ weights
        squares = (statistics.column_usage * images.square()).sum() - 2 * (statistics.sums * images).sum()
        noise_variance = (statistics.squares + float(squares)) / max(statistics.cells, TINY)
        return Sheet(weights, max(self.least_variance, noise_variance))

    def _weights(self, statistics: Statistics, prior: WeightPrior, variance: float) -> Float[Tensor, "feature input"]:
        span, back = self._span, self._back
        precision = variance * (prior.decay * self._decaying + prior.tether)
        ridge = back.mT @ (precision.unsqueeze(-1) * back)
        targets = span.mT @ statistics.sums + variance * prior.tether * (back.mT @ prior.plane)
        solution = _solve(span.mT @ (statistics.usage.unsqueeze(-1) * span) + ridge, targets)
        column_usage = statistics.column_usage
        size = max(1, SYSTEMS_AT_ONCE // self.features.numel())
        for part in statistics.holes.nonzero().squeeze(-1).split(size):  # columns with separate normal equations
            systems = (span.mT * column_usage[:, part].mT.unsqueeze(1)) @ span + ridge
            solution[:, part] = _solve(systems, targets[:, part].mT.unsqueeze(-1)).squeeze(-1).mT
        return back @ solution


def statistics(
    rows: BlockReader, log_weights: Float[Tensor, " node"], images: Float[Tensor, "node input"], variance: float
) -> Statistics:
    """Sums for the M-step over some rows, under normals around these images; in float64."""
    normals = IsotropicNormals(log_weights.to(rows.dtype), images.to(rows.dtype), variance)
    usage, sums = torch.zeros_like(log_weights), torch.zeros_like(images)
    whole, observed = torch.zeros_like(usage), None
    holes = torch.zeros_like(sums[0], dtype=torch.bool)
    totals = usage.new_zeros(4)
    for block in rows:
        exponentials = normals.exponentials(block.rows)
        log_density = exponentials.log_sum + normals.shift(block.squares, block.cells)
        cells = block.weight * block.cells
        of_rows = torch.stack([block.weight, cells, block.weight * block.squares, block.weight * log_density])
        totals += of_rows.sum(-1, dtype=totals.dtype)
        share = block.weight * exponentials.reciprocal
        of_block = exponentials.terms.mT @ share
        usage += of_block
        x, present = block.rows
        _add_shares(sums, exponentials.terms, x, share)
        if present is None:
            whole += of_block
        else:
            observed = torch.zeros_like(sums) if observed is None else observed
            _add_shares(observed, exponentials.terms, present, share)
            holes |= (present == 0).any(0)
    return Statistics._make([*totals.tolist(), usage, sums, whole, observed, holes])


def _add_shares(total: Tensor, terms: Tensor, values: Tensor, share: Tensor) -> None:
    """total_kd += sum_n share_n terms_nk values_nd, in place; a float64 total may sum float32 blocks."""
    if terms.shape[1] < values.shape[1]:
        terms = terms * share.unsqueeze(-1)
    else:
        values = values * share.unsqueeze(-1)
    if total.dtype == terms.dtype:
        total.addmm_(terms.mT, values)
    else:
        total += terms.mT @ values


def _solve(systems: Float[Tensor, "*batch m m"], targets: Float[Tensor, "*batch m column"]) -> Tensor:
    """Solve symmetric positive semidefinite systems; if one is singular, return its minimum-norm solution.

    The norm is computed after the systems are scaled to a unit diagonal.
    """
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
    """Orthonormal columns U and a matrix B with phi B = U, so that W = B C has well-conditioned equations for C.

    Wide radial functions are almost linearly dependent. Normal equations in W would square the condition number of phi,
    and the cutoff of small eigenvalues would then differ from step to step. W may also contain directions that change
    no image of a node; B chooses the component along them that has the smallest decay penalty.
    """
    left, sizes, right = torch.linalg.svd(features)
    rank = int((sizes > DISTINCT * sizes[0]).sum())
    back, beside = right[:rank].mT / sizes[:rank], right[rank:].mT
    if beside.shape[1]:
        pull = beside.mT * decaying
        back = back - beside @ (torch.linalg.pinv(pull @ beside, hermitian=True) @ (pull @ back))
    return left[:, :rank].contiguous(), back
