"""Trustworthiness and continuity, compared with scikit-learn; with missing cells, by its distances."""

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
def test_the_mean_over_rows_equals_scikit_learns(num_neighbors, numbers, monkeypatch):
    monkeypatch.setattr(neighbors, "DISTANCES_AT_ONCE", numbers)
    x, places = torch.from_numpy(X), torch.from_numpy(PLACES)
    expected = sklearn_trustworthiness(X, PLACES, n_neighbors=num_neighbors)
    assert float(trustworthiness(x, places, num_neighbors).mean()) == pytest.approx(expected)
    expected = sklearn_trustworthiness(PLACES, X, n_neighbors=num_neighbors)
    assert float(continuity(x, places, num_neighbors).mean()) == pytest.approx(expected)


def test_distances_over_the_cells_that_both_rows_have():
    x = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
    distances = nan_euclidean_distances(x)
    assert np.isfinite(distances).all()  # ties between rows without common cells would have an arbitrary order
    expected = sklearn_trustworthiness(distances, PLACES, n_neighbors=5, metric="precomputed")
    assert float(trustworthiness(torch.from_numpy(x), torch.from_numpy(PLACES), 5).mean()) == pytest.approx(expected)


def test_rows_without_a_cell_in_common_are_furthest():
    x = torch.from_numpy(np.where(GENERATOR.random(X.shape) < 0.9, np.nan, X))
    values = trustworthiness(x, torch.from_numpy(PLACES), 5)
    assert values.isfinite().all()
    assert values.mean() < 0.7


@pytest.mark.parametrize(("rows", "num_neighbors"), [(79, 5), (80, 0), (80, 40)])
def test_invalid_arguments_raise_clear_errors(rows, num_neighbors):
    with pytest.raises(ValueError, match="x, places, num_neighbors: expected as many rows in both"):
        trustworthiness(torch.from_numpy(X), torch.from_numpy(PLACES[:rows]), num_neighbors)


def test_neighbors_do_not_depend_on_the_origin():
    x, places = torch.from_numpy(X), torch.from_numpy(PLACES)
    assert torch.allclose(trustworthiness(x + 1e8, places - 1e8, 5), trustworthiness(x, places, 5))


def test_repeated_rows_have_distances_that_are_not_negative():
    x = torch.from_numpy(np.repeat(1e3 * X[:40], 2, axis=0))
    assert (neighbors._squared_distances(x, torch.arange(80)) >= 0).all()


@pytest.mark.parametrize("num_neighbors", [1, 5, 39])
@pytest.mark.parametrize("batch", [80, 27, 1])
def test_means_over_all_rows_as_queries_equal_scikit_learns(num_neighbors, batch, monkeypatch):
    monkeypatch.setattr(neighbors, "DISTANCES_AT_ONCE", 80 * 10)
    x, other = torch.from_numpy(X), PLACES[::-1].copy()
    maps = [torch.from_numpy(places) for places in (PLACES, other)]
    measures = sampled_neighborhoods(lambda: (x + 1e6).split(batch), maps, torch.arange(80), num_neighbors)
    expected = [sklearn_trustworthiness(X, places, n_neighbors=num_neighbors) for places in (PLACES, other)]
    assert [float(values.mean()) for values in measures.trustworthiness] == pytest.approx(expected)
    expected = sklearn_trustworthiness(PLACES, X, n_neighbors=num_neighbors)
    assert float(measures.continuity.mean()) == pytest.approx(expected)


@pytest.mark.parametrize("missing", [0.0, 0.1, 0.3])
def test_queries_have_the_same_measures_as_among_all_rows(missing):
    x = torch.from_numpy(np.where(np.random.default_rng(1).random(X.shape) < missing, np.nan, X))
    places, queries = torch.from_numpy(PLACES), torch.tensor([3, 5, 40, 79])
    measures = sampled_neighborhoods(lambda: x.split(27), [places], queries, 5)
    assert torch.allclose(measures.trustworthiness[0], trustworthiness(x, places, 5)[queries])
    assert torch.allclose(measures.continuity, continuity(x, places, 5)[queries])


def test_rows_at_one_position_have_the_same_rank():
    x = torch.from_numpy(np.repeat(1e3 * X[:20], 4, axis=0))
    measures = sampled_neighborhoods(lambda: x.split(30), [x[:, :2].contiguous()], torch.arange(80), 3)
    assert (measures.trustworthiness[0] == 1).all()
    assert (measures.continuity == 1).all()
