"""How good a map is: neighbors, classes, order of the grid; every number with a standard error."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priory._support.optional import require
from priory.evaluation import Estimate
from priory.evaluation.estimates import mean
from priory.evaluation.neighbors import continuity, trustworthiness_of_maps
from priory.maps.places import Places, grid_steps

NUM_NEIGHBORS = 10
MOST_COMPARED = 5000  # rows whose neighbors are looked up: their number of distances grows with its square
MOST_NUMBERS = 2**26  # of those rows' features, in float64
NEXT_DOOR = 1.5  # steps along each axis of the grid: a node's neighbors, the diagonal ones too

MAP_DESCRIPTIONS = {
    "trustworthiness": "map neighbors are data neighbors: 1",
    "pca_trustworthiness": "the same of these rows on PCA's plane",
    "continuity": "data neighbors are map neighbors: 1",
    "knn_accuracy": "of the label, by 10 neighbors on the map",
    "topographic_error": "rows whose two likeliest nodes lie apart",
    "used_nodes": "perplexity of their use",
}


def neighborhoods(
    places: Float[Tensor, "datum grid"], features_of: Callable[[np.ndarray], Tensor], width: int
) -> dict[str, Estimate]:
    """Trustworthiness and continuity of places with 10 neighbors; an empty dictionary for fewer than 21 rows.

    As a baseline, `pca_trustworthiness` is that of the same rows on the plane of their first two principal components,
    if no cell is missing. Of many rows, an evenly spaced part is compared. `features_of` gives the features of rows by
    their indices, and `width` is the number of cells in a row.
    """
    most = max(2 * NUM_NEIGHBORS + 1, min(MOST_COMPARED, MOST_NUMBERS // max(1, width)))
    chosen = evenly_spaced(len(places), most)
    if len(chosen) <= 2 * NUM_NEIGHBORS:
        return {}
    x, places = features_of(chosen), places[torch.from_numpy(chosen)]
    maps = {"trustworthiness": places} | ({} if x.isnan().any() else {"pca_trustworthiness": _pca_plane(x)})
    trusted = trustworthiness_of_maps(x, list(maps.values()), NUM_NEIGHBORS)
    found = {name: mean(values) for name, values in zip(maps, trusted, strict=True)}
    return found | {"continuity": mean(continuity(x, places, NUM_NEIGHBORS))}


def _pca_plane(x: Float[Tensor, "datum feature"]) -> Float[Tensor, "datum axis"]:
    decomposition = require("sklearn.decomposition", "all", "the baseline of the trustworthiness")
    pca = decomposition.PCA(min(2, x.shape[1]), random_state=0)
    return torch.from_numpy(pca.fit_transform(x.double().cpu().numpy()))


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
