"""How good a map is: neighbors, classes, order of the grid; every number with a standard error."""

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
MOST_COMPARED = 5000  # rows that are all compared with each other; of more, some are compared with all
MOST_QUERIES = 1000  # of those: the time grows with their number, and the standard error falls with its root
SEED = 0  # of the lot that chooses them
MOST_NUMBERS = 2**26  # of those rows' features, in float64
NEXT_DOOR = 1.5  # steps along each axis of the grid: a node's neighbors, the diagonal ones too

MAP_DESCRIPTIONS = {
    "trustworthiness": "map neighbors are data neighbors: 1",
    "pca_trustworthiness": "the same of these rows on PCA's plane",
    "continuity": "data neighbors are map neighbors: 1",
    "knn_accuracy": "of the label, by 10 neighbors on the map",
    "topographic_error": "rows whose two likeliest nodes lie apart",
    "used_nodes": "perplexity of their use",
    "sampled_rows": "rows, by lot, whose neighbors among all were compared",
}

OF_NEIGHBORHOODS = ("trustworthiness", "pca_trustworthiness", "continuity", "sampled_rows")  # they need all rows


def neighborhoods(
    places: Float[Tensor, "datum grid"], features: Callable[[], Iterable[Tensor]], width: int
) -> dict[str, Estimate]:
    """Trustworthiness and continuity of places with 10 neighbors; an empty dictionary for fewer than 21 rows.

    As a baseline, `pca_trustworthiness` is that of the same rows on the plane of their first two principal components,
    if no cell is missing. Of more than 5000 rows, `sampled_rows` are drawn by lot with a fixed seed: their neighbors
    among all rows are compared, and the principal components are those of 5000 rows. `features` starts a reading of
    the rows' features in batches, and `width` is the number of cells in a row.
    """
    most = max(2 * NUM_NEIGHBORS + 1, min(MOST_COMPARED, MOST_NUMBERS // max(1, width)))
    if len(places) <= 2 * NUM_NEIGHBORS:
        return {}
    if len(places) > most:
        return _sampled(places, features, most)
    x = torch.cat(list(features()))
    maps = {"trustworthiness": places} | ({} if x.isnan().any() else {"pca_trustworthiness": _pca_plane(x)})
    trusted = trustworthiness_of_maps(x, list(maps.values()), NUM_NEIGHBORS)
    found = {name: mean(values) for name, values in zip(maps, trusted, strict=True)}
    return found | {"continuity": mean(continuity(x, places, NUM_NEIGHBORS))}


def _sampled(
    places: Float[Tensor, "datum grid"], features: Callable[[], Iterable[Tensor]], most: int
) -> dict[str, Estimate]:
    """The measures of neighborhoods at some rows among all; no more than `most` rows are in memory."""
    chosen = np.random.default_rng(SEED).choice(len(places), min(MOST_QUERIES, most), replace=False)
    plane = _plane_of_all(features, evenly_spaced(len(places), most))
    maps = {"trustworthiness": places} | ({} if plane is None else {"pca_trustworthiness": plane})
    queries = torch.from_numpy(np.sort(chosen))
    trusted, continuous = sampled_neighborhoods(features, list(maps.values()), queries, NUM_NEIGHBORS)
    found = {name: mean(values) for name, values in zip(maps, trusted, strict=True)}
    return found | {"continuity": mean(continuous), "sampled_rows": Estimate(float(len(queries)), math.nan)}


def _pca_plane(x: Float[Tensor, "datum feature"]) -> Float[Tensor, "datum axis"]:
    return torch.from_numpy(_pca(x.shape[1]).fit_transform(x.double().cpu().numpy()))


def _plane_of_all(features: Callable[[], Iterable[Tensor]], chosen: np.ndarray) -> Float[Tensor, "datum axis"] | None:
    """All rows on the plane of the principal components of the chosen ones; None if a cell is missing."""
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
    """The share of rows whose two likeliest nodes are not neighbors on the grid; diagonal neighbors count.

    Reference: Kiviluoto 1996, Topology preservation in self-organizing maps, ICNN, p. 294.
    """
    steps = (nodes[places.node] - nodes[places.next_node]).abs() / grid_steps(nodes)
    return mean(steps.amax(dim=1) > NEXT_DOOR)


def knn_accuracy(
    train: Float[Tensor, "datum grid"], kinds: np.ndarray, places: Float[Tensor, "row grid"], wanted: np.ndarray
) -> Estimate:
    """The share of rows that have the class of most of their 10 neighbors among the training rows on the map."""
    neighbors = require("sklearn.neighbors", "tables", "the accuracy of neighbors")
    classifier = neighbors.KNeighborsClassifier(NUM_NEIGHBORS).fit(train.numpy(), kinds)
    return mean(torch.from_numpy(classifier.predict(places.numpy()) == wanted))


def evenly_spaced(number: int, most: int) -> np.ndarray:
    """At most `most` of the indices 0..number-1, evenly spaced."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).astype(int))
