"""How good a map is: neighbors, classes, order of the grid; every number with a standard error."""

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priory.evaluation import Estimate
from priory.evaluation.estimates import mean
from priory.evaluation.neighbors import continuity, trustworthiness
from priory.maps.places import Places, grid_steps

NUM_NEIGHBORS = 10
MOST_COMPARED = 5000  # rows whose neighbors are looked up: their number of distances grows with its square
MOST_NUMBERS = 2**26  # of those rows' features, in float64
NEXT_DOOR = 1.5  # steps along each axis of the grid: a node's neighbors, the diagonal ones too

MAP_DESCRIPTIONS = {
    "trustworthiness": "map neighbors are data neighbors: 1",
    "continuity": "data neighbors are map neighbors: 1",
    "knn_accuracy": "of the label, by 10 neighbors on the map",
    "topographic_error": "rows whose two likeliest nodes lie apart",
    "used_nodes": "perplexity of their use",
}


class RowsWithFeatures(Protocol):
    """Places of rows, and some of the rows in the space where distances mean something."""

    places: Places

    def __len__(self) -> int: ...

    def features_of(self, chosen: np.ndarray) -> Tensor: ...


def neighborhoods(rows: RowsWithFeatures, width: int) -> dict[str, Estimate]:
    """Trustworthiness and continuity of a row's place with 10 neighbors; of many rows, of some, evenly spaced.

    Nothing where there are too few rows for that.
    """
    most = max(2 * NUM_NEIGHBORS + 1, min(MOST_COMPARED, MOST_NUMBERS // max(1, width)))
    chosen = evenly_spaced(len(rows), most)
    if len(chosen) <= 2 * NUM_NEIGHBORS:
        return {}
    x, places = rows.features_of(chosen), rows.places.place[torch.from_numpy(chosen)]
    return {
        "trustworthiness": mean(trustworthiness(x, places, NUM_NEIGHBORS)),
        "continuity": mean(continuity(x, places, NUM_NEIGHBORS)),
    }


def topographic_error(places: Places, nodes: Float[Tensor, "node grid"]) -> Estimate:
    """The share of rows whose likeliest two nodes are no neighbors on the grid, diagonal ones counted.

    Reference: Kiviluoto 1996, Topology preservation in self-organizing maps, ICNN, p. 294.
    """
    steps = (nodes[places.node] - nodes[places.next_node]).abs() / grid_steps(nodes)
    return mean(steps.amax(dim=1) > NEXT_DOOR)


def knn_accuracy(
    train: Float[Tensor, "datum grid"], kinds: np.ndarray, places: Float[Tensor, "row grid"], wanted: np.ndarray
) -> Estimate:
    """The share of rows that have the class of most of their 10 neighbors among the training rows on the map.

    Args:
        train: the training rows' places.
        kinds: their classes.
        places: of the rows that are asked for.
        wanted: their classes.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.neighbors import KNeighborsClassifier
    except ImportError as error:
        raise ImportError("the accuracy of neighbors needs scikit-learn: pip install 'priory[all]'") from error
    classifier = KNeighborsClassifier(NUM_NEIGHBORS).fit(train.numpy(), kinds)
    return mean(torch.from_numpy(classifier.predict(places.numpy()) == wanted))


def evenly_spaced(number: int, most: int) -> np.ndarray:
    """Of 0..number-1 at most so many, evenly spaced."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).astype(int))
