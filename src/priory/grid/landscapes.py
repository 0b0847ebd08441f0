"""What is known of the rows near each node: labels and numbers spread over a grid.

    answer_k = (sum_n r_nk t_n + smoothing near_k) / (usage_k + smoothing),

    near_k = (sum_j h_kj sum_n r_nj t_n + smoothing everywhere) / (sum_j h_kj usage_j + smoothing),

    usage_k = sum_n r_nk,    h_kj = exp(-d_kj^2 / 2), d_kj the distance of two nodes in steps of the grid

with t the rows' labels (one-hot) or numbers, r their responsibilities (times their weights, where they have some) and
`everywhere` the mean of t. Every node answers for the rows near it; smoothing adds to each node some rows that are as
those of its neighborhood, and to each neighborhood as many that are as all rows: many a node has hardly a row.

References: Gaspar, Marcou, Horvath, Arault, Lozano, Vayer & Varnek 2013, J. Chem. Inf. Model. 53(12), 3318 (classes);
Gaspar, Baskin, Marcou, Horvath & Varnek 2015, Molecular Informatics 34(6-7), 348 (numbers). The smoothing is ours.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

REACH = 8  # nodes: h is 1e-14 there
NO_ROWS = 1e-200  # of usage: below, a quotient of sums has lost its digits


class ClassLandscape(NamedTuple):
    """Classes over a map.

    Attributes:
        classes: their names, sorted; C of them.
        probabilities: p(c | k) at each node, (K, C).
        usage: rows with a label at each node, (K,).
    """

    classes: tuple[str, ...]
    probabilities: Float[Tensor, "node label"]
    usage: Float[Tensor, " node"]


class ValueLandscape(NamedTuple):
    """A number over a map.

    Attributes:
        mean: its expected value at each node, (K,).
        scale: its standard deviation there, (K,).
        usage: rows with a number at each node, (K,).
    """

    mean: Float[Tensor, " node"]
    scale: Float[Tensor, " node"]
    usage: Float[Tensor, " node"]


class ClassPrediction(NamedTuple):
    """p(c | x) = sum_k p(k | x) p(c | k).

    Attributes:
        label: the likeliest class, N texts.
        confidence: its probability, (N,).
        probabilities: (N, C).
    """

    label: tuple[str, ...]
    confidence: Float[Tensor, " datum"]
    probabilities: Float[Tensor, "datum label"]


class ValuePrediction(NamedTuple):
    """E[t | x] = sum_k p(k | x) m_k and the standard deviation of t given x.

    Attributes:
        mean: (N,).
        scale: (N,).
    """

    mean: Float[Tensor, " datum"]
    scale: Float[Tensor, " datum"]


def answers(
    sums: Float[Tensor, "node column"],
    usage: Float[Tensor, "node one"],
    everywhere: Float[Tensor, " column"],
    smoothing: float,
    grid_shape: tuple[int, ...],
) -> Float[Tensor, "node column"]:
    """answer_k of sum_n r_nk t_n; without smoothing too, a node without rows asks its neighbors."""
    near_sums, near_usage = nearby(sums, grid_shape), nearby(usage, grid_shape)
    near = ratio(near_sums + smoothing * everywhere, near_usage + smoothing, everywhere)
    return ratio(sums + smoothing * near, usage + smoothing, near)


def nearby(sums: Float[Tensor, "node column"], grid_shape: tuple[int, ...]) -> Float[Tensor, "node column"]:
    """sum_j h_kj sums_j: a filter along each axis of the grid."""
    filtered = sums.reshape(*grid_shape, -1)
    for axis, side in enumerate(grid_shape):
        steps = torch.arange(side, dtype=sums.dtype)
        distance = (steps.unsqueeze(-1) - steps).abs()
        kernel = torch.where(distance <= REACH, torch.exp(-0.5 * distance.square()), 0.0)
        filtered = torch.tensordot(kernel, filtered.movedim(axis, 0), 1).movedim(0, axis)
    return filtered.reshape(sums.shape)


def ratio(over: Tensor, under: Tensor, otherwise: Tensor) -> Tensor:
    """over / under, or `otherwise` where under is nothing."""
    there = under > NO_ROWS
    return torch.where(there, over / torch.where(there, under, 1.0), otherwise)


def scale_of(mean: Tensor, square: Tensor) -> Tensor:
    """The standard deviation of what has this mean and mean square."""
    return (square - mean.square()).clamp(min=0.0).sqrt()


def class_landscape(
    sums: Float[Tensor, "node label"], classes: tuple[str, ...], smoothing: float, grid_shape: tuple[int, ...]
) -> ClassLandscape:
    """Of sum_n r_nk [t_n = c]."""
    usage = sums.sum(-1, keepdim=True)
    frequencies = sums.sum(0) / sums.sum()
    return ClassLandscape(classes, answers(sums, usage, frequencies, smoothing, grid_shape), usage.squeeze(-1))


def value_landscape(
    sums: Float[Tensor, "node 3"], center: float, smoothing: float, grid_shape: tuple[int, ...]
) -> ValueLandscape:
    """Of sum_n r_nk (1, t_n, t_n^2), with t the number minus `center`, its mean over all rows."""
    everywhere = torch.stack([torch.zeros(()).double(), sums[:, 2].sum() / sums[:, 0].sum()])
    mean, square = answers(sums[:, 1:], sums[:, :1], everywhere, smoothing, grid_shape).unbind(-1)
    return ValueLandscape(center + mean, scale_of(mean, square), sums[:, 0])


def predicted_class(share: Float[Tensor, "datum node"], landscape: ClassLandscape) -> ClassPrediction:
    """The classes of rows with these responsibilities."""
    probabilities = share @ landscape.probabilities
    confidence, best = probabilities.max(-1)
    return ClassPrediction(tuple(landscape.classes[i] for i in best.tolist()), confidence, probabilities)


def predicted_value(share: Float[Tensor, "datum node"], landscape: ValueLandscape) -> ValuePrediction:
    """The numbers of rows with these responsibilities."""
    center = landscape.mean.mean()  # subtracted: the squares of what is left cancel less
    mean_k = landscape.mean - center
    mean, square = share @ mean_k, share @ (landscape.scale.square() + mean_k.square())
    return ValuePrediction(center + mean, scale_of(mean, square))


def check_smoothing(smoothing: float) -> None:
    """Raise a ValueError where it is no number of rows."""
    if not math.isfinite(smoothing) or smoothing < 0:
        raise ValueError(f"smoothing: expected a number of rows that is not negative, got {smoothing!r}")
