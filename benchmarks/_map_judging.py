"""Measures of maps in the benchmarks. They are computed here, not by the measured packages."""

import math

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from _map_data import Array, Split

ROWS_AT_ONCE = 1000
NEIGHBORS = 10


def true_log_likelihood(
    x: Array, means: Array, noise_variance: float, shift: Array | float = 0.0, scale: Array | float = 1.0
) -> float:
    """Return the mean of log p(x_n) in nats per row, from an explicit float64 mixture of the standardized rows z:

        log p(x) = log sum_k exp(-|z - means_k|^2 / (2 s2)) - log K - D/2 log(2 pi s2) - sum_d log scale_d,
        z = (x - shift) / scale.

    Args:
        x: (N, D) data.
        means: (K, D) images of the nodes, of `z`.
        noise_variance: s2.
        shift, scale: one number for all columns, or one for each.

    >>> round(float(true_log_likelihood(np.zeros((1, 2)), np.zeros((3, 2)), 1.0)), 6)  # -log(2 pi)
    -1.837877
    """
    if not (np.isfinite(means).all() and noise_variance > 0):
        return math.nan
    z = (np.asarray(x, float) - shift) / scale
    num_columns = z.shape[1]
    constant = math.log(len(means)) + num_columns / 2 * math.log(2 * math.pi * noise_variance)
    constant += float(np.log(np.broadcast_to(scale, num_columns)).sum())
    total = 0.0
    for start in range(0, len(z), ROWS_AT_ONCE):
        squares = cdist(z[start : start + ROWS_AT_ONCE], means, "sqeuclidean")
        total += float(logsumexp(-squares / (2 * noise_variance), axis=1).sum())
    return total / len(z) - constant


def trustworthiness(x: Array, coordinates: Array, neighbors: int = NEIGHBORS) -> float:
    """Return how far the map's neighbors are neighbors in the data: scikit-learn's trustworthiness in less memory.

        T = 1 - 2 / (n k (2 n - 3 k - 1)) sum_i sum_{j among i's k nearest on the map} max(0, rank(i, j) - k)

    with ranks from 1 by distance between rows of `x` (Venna & Kaski 2001). Continuity is T with the two exchanged.

    >>> rows = np.arange(40.0)[:, None]
    >>> trustworthiness(rows, -rows)
    1.0
    """
    nearest = NearestNeighbors(n_neighbors=neighbors).fit(coordinates).kneighbors(return_distance=False)
    excess = 0
    for start in range(0, len(x), ROWS_AT_ONCE):
        block = np.arange(start, min(start + ROWS_AT_ONCE, len(x)))
        distances = pairwise_distances(x[block], x)
        distances[np.arange(len(block)), block] = np.inf
        ranks = np.empty(distances.shape, np.int32)
        np.put_along_axis(ranks, np.argsort(distances, axis=1), np.arange(1, len(x) + 1, dtype=np.int32)[None], 1)
        excess += int(np.maximum(np.take_along_axis(ranks, nearest[block], 1) - neighbors, 0).sum())
    return 1 - 2 * excess / (len(x) * neighbors * (2 * len(x) - 3 * neighbors - 1))


def continuity(x: Array, coordinates: Array) -> float:
    """Return the continuity of a map: how far neighbors in the data stay neighbors on the map."""
    return trustworthiness(coordinates, x)


def accuracy(train: Array, train_labels: Array, test: Array, test_labels: Array) -> float:
    """Return the accuracy of classification by 10 nearest neighbors on the map."""
    return float(KNeighborsClassifier(NEIGHBORS).fit(train, train_labels).score(test, test_labels))


def judged(split: Split, train: Array, test: Array) -> dict[str, float]:
    """Return the measures of a map, from the coordinates of the fitted training rows and of all test rows."""
    x, labels = split.test
    return {
        "trustworthiness": trustworthiness(x, test),
        "continuity": continuity(x, test),
        "10-NN accuracy": accuracy(train, split.train[1][: len(train)], test, labels),
    }


def exponent(sizes: list[float], seconds: list[float]) -> float:
    """Return b of seconds = a size^b, by least squares of logarithms.

    >>> round(exponent([1.0, 10.0, 100.0], [2.0, 20.0, 200.0]), 6)
    1.0
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
