"""Maps without a likelihood of a VAE: principal components, the classical GTM, t-SNE, UMAP.

Each function takes training rows, test rows and a seed, and returns the coordinates of both.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from _map_data import Array

SIDE = 20
Coordinates = tuple[Array, Array]


class Baseline(NamedTuple):
    """A row of the table.

    Attributes:
        places: the function that makes the map.
        how: which rows it is fitted to, and how test rows are placed.
        package: the package that has it.
        stochastic: whether the seed changes the result.
        largest: it is left out if there are more training rows than this; None: never.
    """

    places: Callable[[Array, Array, int], Coordinates]
    how: str
    package: str
    stochastic: bool = False
    largest: int | None = None

    @property
    def remark(self) -> str:
        return f"{self.package} {version(self.package)}; {self.how}"


def pca(train: Array, test: Array, seed: int) -> Coordinates:
    """Project onto two principal components."""
    from sklearn.decomposition import PCA

    fitted = PCA(2, random_state=seed).fit(train)
    return fitted.transform(train), fitted.transform(test)


def gtm(train: Array, test: Array, seed: int) -> Coordinates:
    """Fit a classical GTM with its defaults, except for the number of nodes."""
    from priory import GTM

    fitted = GTM(points_per_side=SIDE, random_state=seed).fit(train)
    return fitted.transform(train), fitted.transform(test)


def gtm_near_mode(train: Array, test: Array, seed: int) -> Coordinates:
    """Fit the same GTM; place rows as `TopographicMap` does."""
    from priory import GTM, TopographicMap

    fitted = GTM(points_per_side=SIDE, random_state=seed).fit(train)
    before, after = (TopographicMap(fitted, rows).places.place.numpy() for rows in (train, test))
    return before, after


def tsne(train: Array, test: Array, seed: int) -> Coordinates:
    """Run t-SNE with its defaults on the training rows, and `transform` the test rows."""
    from openTSNE import TSNE

    fitted = TSNE(n_jobs=1, random_state=seed).fit(train)
    return np.asarray(fitted), np.asarray(fitted.transform(test))


def tsne_of_all(train: Array, test: Array, seed: int) -> Coordinates:
    """Run t-SNE with its defaults on training and test rows together."""
    from openTSNE import TSNE

    places = np.asarray(TSNE(n_jobs=1, random_state=seed).fit(np.concatenate([train, test])))
    return places[: len(train)], places[len(train) :]


def umap(train: Array, test: Array, seed: int) -> Coordinates:
    """Run UMAP with its defaults on the training rows, and `transform` the test rows."""
    from umap import UMAP

    fitted = UMAP(n_jobs=1, random_state=seed).fit(train)
    return fitted.embedding_, fitted.transform(test)


BASELINES = {
    "PCA": Baseline(pca, "fitted to training rows", "scikit-learn"),
    "GTM": Baseline(gtm, "the classical one, fitted to training rows", "priory"),
    "GTM, near mode": Baseline(gtm_near_mode, "the same, by the nodes near the likeliest one", "priory"),
    "UMAP": Baseline(umap, "fitted to training rows, test rows by its transform", "umap-learn", True),
    "t-SNE": Baseline(tsne, "fitted to training rows, test rows by its transform", "openTSNE", True),
    "t-SNE of all": Baseline(tsne_of_all, "fitted to training and test rows together", "openTSNE", True, 10_000),
}
