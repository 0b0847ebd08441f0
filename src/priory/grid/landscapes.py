"""Landscapes: labels and numbers of rows, spread over the nodes of a grid.

    answer_k = (sum_n r_nk t_n + smoothing near_k) / (usage_k + smoothing),

    near_k = (sum_j h_kj sum_n r_nj t_n + smoothing everywhere) / (sum_j h_kj usage_j + smoothing),

        usage_k = sum_n r_nk,    h_kj = exp(-d_kj^2 / 2), d_kj the distance between two nodes in grid steps

with t the rows' labels (one-hot) or numbers, r their responsibilities (times their weights, if there are any) and
`everywhere` the mean of t. Many nodes have hardly any rows. So smoothing adds to each node a number of rows with the
mean of its neighborhood, and to each neighborhood as many rows with the mean of all rows.

References: Gaspar, Marcou, Horvath, Arault, Lozano, Vayer & Varnek 2013, J. Chem. Inf. Model. 53(12), 3318 (classes);
Gaspar, Baskin, Marcou, Horvath & Varnek 2015, Molecular Informatics 34(6-7), 348 (numbers). The smoothing is ours.
"""

import math
from numbers import Real
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

REACH = 8  # grid steps, at which h is 1e-14
NO_ROWS = 1e-200  # usage below which a quotient of sums has lost its digits


class ClassLandscape(NamedTuple):
    """Classes over the K nodes of a map."""

    classes: tuple[str, ...]  # sorted names
    probabilities: Float[Tensor, "node label"]  # p(c | k) at each node
    usage: Float[Tensor, " node"]  # number of rows with a label at each node


class ValueLandscape(NamedTuple):
    """A number over the K nodes of a map, or several with one column each."""

    mean: Float[Tensor, " node"]  # expected value at each node
    scale: Float[Tensor, " node"]  # standard deviation at each node
    usage: Float[Tensor, " node"]  # number of rows with a value at each node


class ClassPrediction(NamedTuple):
    """p(c | x) = sum_k p(k | x) p(c | k)."""

    label: tuple[str, ...]  # the likeliest class of each row
    confidence: Float[Tensor, " datum"]  # its probability
    probabilities: Float[Tensor, "datum label"]


class ValuePrediction(NamedTuple):
    """E[t | x] = sum_k p(k | x) m_k and the standard deviation of t given x."""

    mean: Float[Tensor, " datum"]
    scale: Float[Tensor, " datum"]


def answers(
    sums: Float[Tensor, "node column"],
    usage: Float[Tensor, "node one"],
    everywhere: Float[Tensor, " column"],
    smoothing: float,
    grid_shape: tuple[int, ...],
) -> Float[Tensor, "node column"]:
    """Return answer_k from sum_n r_nk t_n; even without smoothing, a node without rows gets its neighbors' answer."""
    near_sums, near_usage = nearby(sums, grid_shape), nearby(usage, grid_shape)
    near = ratio(near_sums + smoothing * everywhere, near_usage + smoothing, everywhere)
    return ratio(sums + smoothing * near, usage + smoothing, near)


def nearby(sums: Float[Tensor, "node column"], grid_shape: tuple[int, ...]) -> Float[Tensor, "node column"]:
    """Return sum_j h_kj sums_j: a filter along each axis of the grid."""
    filtered = sums.reshape(*grid_shape, -1)
    for axis, side in enumerate(grid_shape):
        steps = torch.arange(side, dtype=sums.dtype)
        distance = (steps.unsqueeze(-1) - steps).abs()
        kernel = torch.where(distance <= REACH, torch.exp(-0.5 * distance.square()), 0.0)
        filtered = torch.tensordot(kernel, filtered.movedim(axis, 0), 1).movedim(0, axis)
    return filtered.reshape(sums.shape)


def ratio(over: Tensor, under: Tensor, otherwise: Tensor) -> Tensor:
    """Return over / under, or `otherwise` if under is zero up to rounding."""
    some = under > NO_ROWS
    return torch.where(some, over / torch.where(some, under, 1.0), otherwise)


def class_probabilities(
    sums: Float[Tensor, "node label"],
    smoothing: float,
    grid_shape: tuple[int, ...],
    prior: Float[Tensor, " label"] | None = None,
) -> Float[Tensor, "node label"]:
    """Return p(c | k) from sum_n r_nk [t_n = c]; the default prior of the classes is their frequencies in the rows."""
    frequencies = sums.sum(0) / sums.sum()
    if prior is not None:
        sums = sums * ratio(prior, frequencies, torch.zeros(1, dtype=sums.dtype))
    return answers(sums, sums.sum(-1, keepdim=True), frequencies if prior is None else prior, smoothing, grid_shape)


def weighted_powers(t: Float[Tensor, "row *value"], weight: Float[Tensor, " row"]) -> Float[Tensor, "row column"]:
    """Return w_n (1, t_n, t_n^2), one row each, for `value_landscape`."""
    t = t.reshape(len(t), -1)
    return torch.cat([torch.ones_like(t[:, :1]), t, t.square()], 1) * weight.unsqueeze(-1)


def value_landscape(
    sums: Float[Tensor, "node column"], center: Float[Tensor, "*value"], smoothing: float, grid_shape: tuple[int, ...]
) -> ValueLandscape:
    """Return the mean and spread of numbers at each node, from sum_n r_nk w_n (1, t_n, t_n^2).

    t are the numbers minus `center`, their mean over all rows, because small squares lose fewer digits.
    """
    usage, first, second = sums.split([1, center.numel(), center.numel()], -1)
    everywhere = torch.cat([torch.zeros_like(first[0]), second.sum(0) / usage.sum()])
    mean, square = answers(sums[:, 1:], usage, everywhere, smoothing, grid_shape).chunk(2, -1)
    shape = (len(sums), *center.shape)
    return ValueLandscape(center + mean.reshape(shape), _scale(mean, square).reshape(shape), usage.squeeze(-1))


def predicted_value(
    share: Float[Tensor, "datum node"], mean: Float[Tensor, "node *value"], scale: Float[Tensor, "node *value"]
) -> ValuePrediction:
    """Predict values for rows with these responsibilities, from the landscape's mean and scale."""
    center = mean.mean(0)  # small squares lose fewer digits
    mean = mean - center
    expected, square = share @ mean, share @ (scale.square() + mean.square())
    return ValuePrediction(center + expected, _scale(expected, square))


def _scale(mean: Tensor, square: Tensor) -> Tensor:
    """Return the standard deviation of a variable with this mean and mean square."""
    return (square - mean.square()).clamp(min=0.0).sqrt()


def check_smoothing(smoothing: Any) -> None:
    """Raise a ValueError if it is not a finite number of at least 0."""
    if not isinstance(smoothing, Real) or isinstance(smoothing, bool) or not 0 <= float(smoothing) < math.inf:
        raise ValueError(f"smoothing: expected a number of rows of at least 0, got {smoothing!r}")
