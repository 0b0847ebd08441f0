"""Trustworthiness and continuity against scikit-learn's, and with missing cells against its distances."""

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.metrics.pairwise import nan_euclidean_distances

from priory.evaluation import neighbors
from priory.evaluation.neighbors import continuity, trustworthiness

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(80, 6))
PLACES = X[:, :2] + 0.3 * GENERATOR.normal(size=(80, 2))


@pytest.mark.parametrize("num_neighbors", [1, 5, 39])
@pytest.mark.parametrize("numbers", [2**23, 7 * 80])
def test_the_mean_over_rows_is_scikit_learns(num_neighbors, numbers, monkeypatch):
    monkeypatch.setattr(neighbors, "DISTANCES_AT_ONCE", numbers)
    x, places = torch.from_numpy(X), torch.from_numpy(PLACES)
    expected = sklearn_trustworthiness(X, PLACES, n_neighbors=num_neighbors)
    assert float(trustworthiness(x, places, num_neighbors).mean()) == pytest.approx(expected)
    expected = sklearn_trustworthiness(PLACES, X, n_neighbors=num_neighbors)
    assert float(continuity(x, places, num_neighbors).mean()) == pytest.approx(expected)


def test_distances_over_the_cells_that_both_rows_have():
    x = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
    distances = nan_euclidean_distances(x)
    assert np.isfinite(distances).all()  # rows without a cell in common would tie, in any order
    expected = sklearn_trustworthiness(distances, PLACES, n_neighbors=5, metric="precomputed")
    assert float(trustworthiness(torch.from_numpy(x), torch.from_numpy(PLACES), 5).mean()) == pytest.approx(expected)


def test_rows_without_a_cell_in_common_are_furthest():
    x = torch.from_numpy(np.where(GENERATOR.random(X.shape) < 0.9, np.nan, X))
    found = trustworthiness(x, torch.from_numpy(PLACES), 5)
    assert found.isfinite().all()
    assert found.mean() < 0.7


@pytest.mark.parametrize(("rows", "num_neighbors"), [(79, 5), (80, 0), (80, 40)])
def test_what_cannot_be_compared(rows, num_neighbors):
    with pytest.raises(ValueError, match="x, places, num_neighbors: expected as many rows in both"):
        trustworthiness(torch.from_numpy(X), torch.from_numpy(PLACES[:rows]), num_neighbors)


def test_far_from_the_origin_neighbors_are_the_same():
    x, places = torch.from_numpy(X), torch.from_numpy(PLACES)
    assert torch.allclose(trustworthiness(x + 1e8, places - 1e8, 5), trustworthiness(x, places, 5))


def test_repeated_rows_have_distances_that_are_not_negative():
    x = torch.from_numpy(np.repeat(1e3 * X[:40], 2, axis=0))
    assert (neighbors._squared_distances(x, torch.arange(80)) >= 0).all()
