"""Trustworthiness and continuity against scikit-learn's, and with missing cells against its distances."""

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.metrics.pairwise import nan_euclidean_distances

from priory.evaluation import neighbors
from priory.evaluation.neighbors import continuity, sampled_neighborhoods, trustworthiness

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


@pytest.mark.parametrize("num_neighbors", [1, 5, 39])
@pytest.mark.parametrize("batch", [80, 27, 1])
def test_with_all_rows_as_queries_the_means_are_scikit_learns(num_neighbors, batch, monkeypatch):
    monkeypatch.setattr(neighbors, "DISTANCES_AT_ONCE", 80 * 10)
    x, other = torch.from_numpy(X), PLACES[::-1].copy()
    maps = [torch.from_numpy(places) for places in (PLACES, other)]
    found = sampled_neighborhoods(lambda: (x + 1e6).split(batch), maps, torch.arange(80), num_neighbors)
    expected = [sklearn_trustworthiness(X, places, n_neighbors=num_neighbors) for places in (PLACES, other)]
    assert [float(values.mean()) for values in found.trustworthiness] == pytest.approx(expected)
    expected = sklearn_trustworthiness(PLACES, X, n_neighbors=num_neighbors)
    assert float(found.continuity.mean()) == pytest.approx(expected)


@pytest.mark.parametrize("missing", [0.0, 0.1, 0.3])
def test_queries_have_the_numbers_that_they_have_among_all_rows(missing):
    x = torch.from_numpy(np.where(np.random.default_rng(1).random(X.shape) < missing, np.nan, X))
    places, queries = torch.from_numpy(PLACES), torch.tensor([3, 5, 40, 79])
    found = sampled_neighborhoods(lambda: x.split(27), [places], queries, 5)
    assert torch.allclose(found.trustworthiness[0], trustworthiness(x, places, 5)[queries])
    assert torch.allclose(found.continuity, continuity(x, places, 5)[queries])


def test_rows_at_one_place_have_the_same_rank():
    x = torch.from_numpy(np.repeat(1e3 * X[:20], 4, axis=0))
    found = sampled_neighborhoods(lambda: x.split(30), [x[:, :2].contiguous()], torch.arange(80), 3)
    assert (found.trustworthiness[0] == 1).all()
    assert (found.continuity == 1).all()
