"""The quality of a map: neighbors, classes, order of the grid; every number has a standard error."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priory._support.optional import require
from priory.evaluation import Estimate
from priory.evaluation.estimates import mean
from priory.evaluation.neighbors import continuity, rows_at, sampled_neighborhoods, trustworthiness_of_maps
from priory.maps.places import Places, grid_steps

NUM_NEIGHBORS = 10
MOST_COMPARED = 5000  # up to so many rows, each is compared with all others; beyond, only a sample of the rows is
MOST_QUERIES = 1000  # rows in this sample: the time is linear in it, the standard error falls with its root
SEED = 0  # seed of this sample
MOST_NUMBERS = 2**26  # numbers in the features of these rows, in float64
NEXT_DOOR = 1.5  # grid steps along each axis: includes a node's diagonal neighbors

MAP_DESCRIPTIONS = {
    "trustworthiness": "map neighbors are data neighbors: 1",
    "pca_trustworthiness": "the same for these rows on PCA's plane",
    "continuity": "data neighbors are map neighbors: 1",
    "knn_accuracy": "label accuracy of 10 neighbors on the map",
    "topographic_error": "rows whose two likeliest nodes are apart",
    "used_nodes": "perplexity of the use of nodes",
    "sampled_rows": "random rows, compared with all rows",
}

OF_NEIGHBORHOODS = ("trustworthiness", "pca_trustworthiness", "continuity", "sampled_rows")  # they need all rows


def neighborhoods(
    places: Float[Tensor, "datum grid"], features: Callable[[], Iterable[Tensor]], width: int
) -> dict[str, Estimate]:
    """Trustworthiness and continuity of positions with 10 neighbors; an empty dictionary for fewer than 21 rows.

    As a baseline, `pca_trustworthiness` is that of the same rows on the plane of their first two principal components,
    if no cell is missing. With more than 5000 rows, `sampled_rows` are drawn at random with a fixed seed. Their
    neighbors among all rows are compared, and 5000 rows determine the principal components. `features` returns the
    rows' features in batches, and `width` is the number of cells in a row.
    """
    most = max(2 * NUM_NEIGHBORS + 1, min(MOST_COMPARED, MOST_NUMBERS // max(1, width)))
    if len(places) <= 2 * NUM_NEIGHBORS:
        return {}
    if len(places) > most:
        return _sampled(places, features, most)
    x = torch.cat(list(features()))
    maps = {"trustworthiness": places} | ({} if x.isnan().any() else {"pca_trustworthiness": _pca_plane(x)})
    trusted = trustworthiness_of_maps(x, list(maps.values()), NUM_NEIGHBORS)
    measures = {name: mean(values) for name, values in zip(maps, trusted, strict=True)}
    return measures | {"continuity": mean(continuity(x, places, NUM_NEIGHBORS))}


def _sampled(
    places: Float[Tensor, "datum grid"], features: Callable[[], Iterable[Tensor]], most: int
) -> dict[str, Estimate]:
    """The measures of neighborhoods at a sample of the rows; at most `most` rows are in memory."""
    chosen = np.random.default_rng(SEED).choice(len(places), min(MOST_QUERIES, most), replace=False)
    plane = _plane_of_all(features, evenly_spaced(len(places), most))
    maps = {"trustworthiness": places} | ({} if plane is None else {"pca_trustworthiness": plane})
    queries = torch.from_numpy(np.sort(chosen))
    trusted, continuous = sampled_neighborhoods(features, list(maps.values()), queries, NUM_NEIGHBORS)
    measures = {name: mean(values) for name, values in zip(maps, trusted, strict=True)}
    return measures | {"continuity": mean(continuous), "sampled_rows": Estimate(float(len(queries)), math.nan)}


def _pca_plane(x: Float[Tensor, "datum feature"]) -> Float[Tensor, "datum axis"]:
    return torch.from_numpy(_pca(x.shape[1]).fit_transform(x.double().cpu().numpy()))


def _plane_of_all(features: Callable[[], Iterable[Tensor]], chosen: np.ndarray) -> Float[Tensor, "datum axis"] | None:
    """Return all rows on the plane of the principal components of the chosen rows; None if a cell is missing."""
    some = rows_at(features, torch.from_numpy(chosen))
    if some.isnan().any():
        return None
    pca, parts = _pca(some.shape[1]).fit(some.numpy()), []
    for x in features():
        if x.isnan().any():
            return None
        parts.append(torch.from_numpy(pca.transform(x.double().cpu().numpy())))
    return torch.cat(parts)


def _pca(columns: int) -> Any:
    decomposition = require("sklearn.decomposition", "all", "the baseline of the trustworthiness")
    return decomposition.PCA(min(2, columns), random_state=0)


def topographic_error(places: Places, nodes: Float[Tensor, "node grid"]) -> Estimate:
    """Return the share of rows whose two likeliest nodes are not neighbors on the grid, diagonal ones included.

    Reference: Kiviluoto 1996, Topology preservation in self-organizing maps, ICNN, p. 294.
    """
    steps = (nodes[places.node] - nodes[places.next_node]).abs() / grid_steps(nodes)
    return mean(steps.amax(dim=1) > NEXT_DOOR)


def knn_accuracy(
    train: Float[Tensor, "datum grid"],
    train_classes: np.ndarray,
    places: Float[Tensor, "row grid"],
    classes: np.ndarray,
) -> Estimate:
    """Return the share of rows that have the majority class of their 10 nearest training rows on the map."""
    neighbors = require("sklearn.neighbors", "tables", "the accuracy of neighbors")
    classifier = neighbors.KNeighborsClassifier(NUM_NEIGHBORS).fit(train.numpy(), train_classes)
    return mean(torch.from_numpy(classifier.predict(places.numpy()) == classes))


def evenly_spaced(number: int, most: int) -> np.ndarray:
    """Return at most `most` of the indices 0..number-1, evenly spaced."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).astype(int))
