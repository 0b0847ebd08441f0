"""The start of EM: the nodes in the plane of the first principal components.

    y(u) = center + sum_c u_c / |u_c| sqrt(lambda_c) v_c,    |u_c|^2 the mean over nodes of u_c^2,

    variance = max(lambda_{C+1}, (half of the nodes' spacing in data space)^2),

with lambda_c, v_c the eigenvalues, largest first, and eigenvectors of the rows' covariance (1/N). Missing cells count
as the column's mean. Reference: Bishop, Svensen & Williams 1998, Neural Computation 10(1), sec. 2.2.

The sheet of a small table starts in another plane, see `normal_plane`.
"""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from priory.gtm.em import Sheet, Topography, WeightPrior
from priory.gtm.reader import BlockReader

OVERSAMPLING = 10  # additional directions of subspace iteration
MOST_WALKS = 12  # passes over the rows; one is exact if there are at least as many directions as columns
ENOUGH = 1e-4  # iteration ends if the variances change by less, relative to the largest
PLANE_STEPS = 25  # iterations of EM that fit the plane
SEED = 0  # seed of the initial directions: the same data always give the same start


class Axes(NamedTuple):
    variances: Float[Tensor, " axis"]  # largest first
    directions: Float[Tensor, "input axis"]


def column_means(rows: BlockReader) -> Float[Tensor, " input"]:
    """The weighted mean of each column over its observed cells; NaN if there are none."""
    total, count = rows.total(_column_sums)
    return total / count


def _column_sums(rows: BlockReader) -> tuple[Tensor, Tensor]:
    """Return for each column the weighted sum, and the sum of the weights of its observed cells."""
    total = count = torch.zeros(1, dtype=torch.float64, device=rows.device)
    for block in rows:
        x, present = block.rows
        weight = block.weight.double()
        total = total + weight @ x.double()
        count = count + (weight.sum() if present is None else weight @ present.double())
    return total, count


def spread(rows: BlockReader) -> tuple[float, float]:
    """Return the mean square of the observed cells, and the sum of the rows' weights."""
    squares, cells, weights = rows.total(_square_sums)
    return squares / cells if cells else 0.0, weights


def _square_sums(rows: BlockReader) -> tuple[float, float, float]:
    """Return weighted sums over rows: of squares, of observed cells, and of one."""
    squares = cells = weights = 0.0
    for block in rows:
        squares += float((block.weight * block.squares).sum())
        cells += float((block.weight * block.cells).sum())
        weights += float(block.weight.sum())
    return squares, cells, weights


def principal_axes(rows: BlockReader, count: int) -> Axes:
    """Return the first axes of centered rows by subspace iteration, at most one for each column.

    Reference: Halko, Martinsson & Tropp 2011, arXiv:0909.4061, alg. 4.4.
    """
    assert rows.center is not None
    num_inputs = len(rows.center)
    size = min(num_inputs, count + OVERSAMPLING)
    generator = torch.Generator("cpu").manual_seed(SEED)
    start = torch.randn(num_inputs, size, generator=generator, dtype=torch.float64, device="cpu")
    basis = torch.linalg.qr(start.to(rows.device)).Q
    variances = torch.zeros(size, dtype=basis.dtype, device=basis.device)
    for _ in range(MOST_WALKS):
        before, image = variances, _covariance_times(rows, basis)
        small = basis.mT @ image
        variances, vectors = torch.linalg.eigh(0.5 * (small + small.mT))
        directions = (basis @ vectors).flip(-1)[:, :count]
        change = (variances - before)[-count:].abs().amax()
        if size == num_inputs or bool(change <= ENOUGH * variances[-1]):
            break
        basis = torch.linalg.qr(image).Q
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    return Axes(variances.flip(-1)[:count].clamp(min=0.0), directions * signs)


def _covariance_times(rows: BlockReader, directions: Float[Tensor, "input axis"]) -> Float[Tensor, "input axis"]:
    total, weights = rows.total(partial(_covariance_sums, directions=directions))
    return total / weights


def _covariance_sums(rows: BlockReader, directions: Float[Tensor, "input axis"]) -> tuple[Tensor, float]:
    """Return X' W X V for the rows X, their weights W and the directions V; and the sum of the weights."""
    total, weights = torch.zeros_like(directions), 0.0
    for block in rows:
        x = block.rows.x
        projected = x @ directions.to(x.dtype)
        total += (x.mT @ (projected * block.weight.unsqueeze(-1))).to(total.dtype)
        weights += float(block.weight.sum())
    return total, weights


def principal_plane(axes: Axes, nodes: Float[Tensor, "node grid"]) -> tuple[Float[Tensor, "node input"], float]:
    """Return the initial images of the nodes, relative to the mean of the rows, and the initial noise variance.

    There are C + 1 axes, or fewer if the data have fewer; along missing axes the images are constant.
    """
    grid_dim, num_axes = nodes.shape[1], len(axes.variances)
    used = min(grid_dim, num_axes)
    sizes = nodes.square().mean(0).sqrt()
    scales = torch.where(sizes > 0, sizes.reciprocal(), 0.0)[:used] * axes.variances[:used].sqrt()
    images = (nodes[:, :used] * scales) @ axes.directions[:, :used].mT
    beyond = float(axes.variances[grid_dim]) if num_axes > grid_dim else 0.0
    sides = [nodes[:, axis].unique() for axis in range(used)]
    gaps = [float(side[1] - side[0]) * float(scale) for side, scale in zip(sides, scales, strict=True) if len(side) > 1]
    spacing = min((gap for gap in gaps if gap > 0), default=0.0)
    return images, max(beyond, (spacing / 2) ** 2)


def normal_plane(
    rows: BlockReader, nodes: Float[Tensor, "node grid"], least_variance: float
) -> tuple[Float[Tensor, "node input"], float]:
    """Return the most likely plane with nodes at quantiles of a normal distribution, and its noise variance, by EM.

            y(u) = A v(u) + b,    v_c(u) = the normal quantile of the rank of u_c among the nodes

    With many nodes, this is the density of probabilistic PCA with C axes.

    Reference: Tipping & Bishop 1999, J. Royal Statistical Society B 61(3).
    """
    side = len(nodes[:, 0].unique())
    quantiles = torch.special.ndtri((nodes * (side - 1) / side + 1) / 2)
    images, variance = principal_plane(principal_axes(rows, nodes.shape[1] + 1), quantiles)
    linear = Topography(torch.cat([quantiles, torch.ones_like(quantiles[:, :1])], -1), least_variance)
    sheet = Sheet(linear.weights_near(images), max(variance, least_variance))
    prior = WeightPrior(0.0, 0.0, sheet.weights)
    for _ in range(PLANE_STEPS):
        sheet = linear.maximization(linear.expectation(rows, sheet), prior, sheet.variance)
    return linear.images(sheet), sheet.variance
