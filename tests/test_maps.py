"""Maps: positions, nodes, landscapes, quality; compared with loops, finite differences and other libraries."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import grid_oracle
from priory import (
    GTM,
    VAE,
    BernoulliDecoder,
    GaussianDecoder,
    GTMPrior,
    GTMVampPrior,
    NormalEncoder,
    Rescale,
    Standardize,
    StandardNormal,
    TopographicMap,
    latent_grid,
    load_dataset,
    log_likelihood,
    mlp,
)
from priory.gtm import GTMClassifier, GTMRegressor
from priory.maps import places_of, surface_of
from priory.maps.quality import topographic_error
from priory.maps.topographic_map import neighbor_distances
from priory.workbench.jobs.map_quality import quality_on_map

SIDE = 5


def make_vae(kind):
    torch.manual_seed(0)
    grid = latent_grid(SIDE)
    prior = GTMPrior(3, grid, mlp(2, [16], 6)) if kind == "gtm" else GTMVampPrior(grid, mlp(2, [16], 4), low=0, high=1)
    vae = VAE(NormalEncoder(mlp(4, [16], 6)), BernoulliDecoder(mlp(3, [16], 4)), prior)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(3.0)  # small weights would give nearly equal responsibilities
        vae.prior.mixing_logits.copy_(torch.randn(SIDE**2))
    return vae.eval()


@pytest.fixture(scope="module", params=["gtm", "gtm-vamp", "classical", "pipeline"])
def case(request):
    """Return a model, rows, and p(k | x) of the rows from a loop over rows and nodes in float64."""
    x = torch.rand(60, 4, generator=torch.Generator().manual_seed(1))
    if request.param in ("classical", "pipeline"):
        x = x.double()
        gtm = GTM(points_per_side=SIDE, max_iter=30, tol=0.1)
        model = gtm if request.param == "classical" else make_pipeline(StandardScaler(), gtm)
        model.fit(x.numpy())
        scaler = model[0] if request.param == "pipeline" else None
        rows = x.numpy() if scaler is None else (x.numpy() - scaler.mean_) / scaler.scale_
        densities = [[multivariate_normal(m, gtm.noise_variance_).pdf(row) for m in gtm.means_] for row in rows]
        shares = np.array(densities) * gtm.weights_
        return model, x, shares / shares.sum(1, keepdims=True)
    model, x, shares = make_vae(request.param), x.round(), []
    with torch.no_grad():
        components, weights = model.latent_prior().components, model.prior.mixing_weights.double()
        for z in model.encode(x).mean.double():
            density = [
                float(w) * math.prod(torch.distributions.Normal(m, s).log_prob(z).exp().tolist())
                for w, m, s in zip(weights, components.mean.double(), components.stddev.double(), strict=True)
            ]
            shares.append(np.array(density) / sum(density))
    return model, x, np.array(shares)


def test_places_equal_those_of_a_loop(case):
    model, x, shares = case
    nodes = latent_grid(SIDE, dtype=torch.float64).numpy()
    places = TopographicMap(model, x, batch_size=7).places
    tolerance = {"atol": 2e-4}
    np.testing.assert_allclose(places.place, grid_oracle.places(shares, nodes), **tolerance)
    np.testing.assert_allclose(places.mean, shares @ nodes, **tolerance)
    np.testing.assert_array_equal(places.node, shares.argmax(1))
    np.testing.assert_array_equal(places.next_node, np.argsort(shares, 1)[:, -2])
    np.testing.assert_allclose(places.responsibility, shares.max(1), **tolerance)
    np.testing.assert_allclose(places.mode, nodes[shares.argmax(1)], atol=1e-6)
    variance = [(share[:, None] * (nodes - share @ nodes) ** 2).sum(0) for share in shares]
    np.testing.assert_allclose(places.scale, np.sqrt(variance), atol=2e-3)


def test_reach_zero_gives_the_likeliest_node_and_infinite_reach_the_mean(case):
    model, x, _ = case
    near, far = (TopographicMap(model, x, reach=reach).places for reach in (0.0, math.inf))
    torch.testing.assert_close(near.place, near.mode)
    torch.testing.assert_close(far.place, far.mean)


def test_a_row_between_two_distant_nodes_is_placed_near_one_of_them():
    nodes = latent_grid(11, dim=1, dtype=torch.float64)
    share = torch.zeros(1, 11, dtype=torch.float64)
    share[0, [0, 1, 10]] = torch.tensor([0.5, 0.1, 0.4], dtype=torch.float64)
    places = places_of(share, nodes)
    assert float(places.place) == pytest.approx((0.5 * -1 + 0.1 * -0.8) / 0.6)
    assert float(places.mean) == pytest.approx(-1 * 0.5 - 0.8 * 0.1 + 0.4)


def test_projected_rows_have_the_positions_of_mapped_rows(case):
    model, x, _ = case
    whole, part = TopographicMap(model, x), TopographicMap(model, x[:20])
    for theirs, ours in zip(part.project(x[20:]), whole.places, strict=True):
        torch.testing.assert_close(theirs, ours[20:], rtol=1e-5, atol=1e-6)


def test_nodes_have_contents_weights_usage_and_distances(case):
    model, x, shares = case
    nodes = TopographicMap(model, x).nodes
    np.testing.assert_allclose(nodes.usage, shares.mean(0), atol=1e-5)
    if isinstance(model, VAE):
        with torch.no_grad():
            contents = model.decode(model.latent_prior().components.mean).mean
        expected_weight = model.prior.mixing_weights.detach().double()
        features = contents.double().numpy()
    else:
        gtm = model if isinstance(model, GTM) else model[1]
        contents = gtm.means_ if gtm is model else model[0].inverse_transform(gtm.means_)
        expected_weight, features = gtm.weights_, gtm.means_
    np.testing.assert_allclose(nodes.contents, contents, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(nodes.weight, expected_weight, rtol=1e-6)
    for k in (0, 7, 24):
        i, j = divmod(k, SIDE)
        near = [a * SIDE + b for a in range(SIDE) for b in range(SIDE) if abs(a - i) + abs(b - j) == 1]
        expected = np.mean([np.linalg.norm(features[k] - features[other]) for other in near])
        assert float(nodes.distance[k]) == pytest.approx(expected, rel=1e-4)


def test_progress_is_reported_in_rows(case):
    progress = []
    TopographicMap(case[0], case[1], batch_size=25, progress=progress.append)
    assert progress == [25, 50, 60]


def test_maps_use_the_evaluation_mode_of_a_model():
    vae = make_vae("gtm-vamp")
    vae.encoder.network = torch.nn.Sequential(torch.nn.Dropout(0.5), vae.encoder.network)
    vae.decoder.network = torch.nn.Sequential(vae.decoder.network, torch.nn.Dropout(0.5))
    x = torch.rand(40, 4, generator=torch.Generator().manual_seed(1)).round()
    expected = TopographicMap(vae.eval(), x)
    drawn = TopographicMap(vae.train(), x)
    torch.testing.assert_close(drawn.places.mean, expected.places.mean)
    for name in ("contents", "magnification", "distance"):
        torch.testing.assert_close(getattr(drawn.nodes, name), getattr(expected.nodes, name))
    assert all(part.training for part in vae.modules())


def test_only_observed_cells_rescale_the_likelihood():
    x = 10 * np.random.default_rng(0).random((60, 3)) ** 2
    x[::3, 1] = np.nan
    model = make_pipeline(StandardScaler(), GTM(points_per_side=4)).fit(x)
    scale = model[0].scale_
    expected = [
        float(score) - sum(math.log(s) for s, cell in zip(scale, row, strict=True) if not math.isnan(cell))
        for score, row in zip(model.score_samples(x), x, strict=True)
    ]
    np.testing.assert_allclose(TopographicMap(model, x).log_likelihood, expected)


def test_training_rows_predict_the_classes_of_other_rows():
    dataset = load_dataset("digits", labels=["digit"])
    train, test = dataset.rows("train"), dataset.rows("test")
    gtm = GTM(points_per_side=6, max_iter=20, tol=0.1).fit(train.tensor().double().numpy())
    quality = quality_on_map(TopographicMap(gtm, test, reach=1.0), test)
    nodes = latent_grid(6, dtype=torch.float64).numpy()
    shares = [gtm.predict_proba(rows.tensor().double().numpy()) for rows in (train, test)]
    places = [grid_oracle.places(share, nodes, 1.0) for share in shares]
    kinds = [np.asarray(rows.labels["digit"]).astype(str) for rows in (train, test)]
    expected = KNeighborsClassifier(10).fit(places[0], kinds[0]).score(places[1], kinds[1])
    assert quality["knn_accuracy"].value == pytest.approx(expected, abs=2e-3)  # ties have an arbitrary order
    assert "knn_accuracy" not in quality_on_map(TopographicMap(gtm, train), train)


@pytest.mark.parametrize("kind", ["gtm", "gtm-vamp"])
def test_magnification_agrees_with_finite_differences(kind):
    vae = make_vae(kind).double()
    vae.preprocess = Rescale(0.0, 2.0)
    u = torch.tensor([[0.1, -0.3], [0.7, 0.2], [-0.9, 0.9]], dtype=torch.float64)

    def image(place):
        z = vae.prior.components_at(place[None], vae.encoder).mean
        return vae.decode(z).mean[0] / 2

    expected = []
    with torch.no_grad():
        for place in u:
            steps = [1e-5 * torch.eye(2, dtype=torch.float64)[axis] for axis in (0, 1)]
            slopes = torch.stack([(image(place + h) - image(place - h)) / 2e-5 for h in steps], 1)
            expected.append(float(torch.linalg.det(slopes.T @ slopes).sqrt()))
    np.testing.assert_allclose(surface_of(vae).magnification(u), expected, rtol=1e-5)
    np.testing.assert_allclose(surface_of(vae).magnification(), surface_of(vae).magnification(vae.prior.nodes))


def test_the_u_matrix_is_the_mean_distance_to_the_neighbors():
    features = torch.rand(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sheet = features.reshape(3, 4, 3).numpy()
    for i in range(3):
        for j in range(4):
            near = [(i + a, j + b) for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0)) if 0 <= i + a < 3 and 0 <= j + b < 4]
            expected = np.mean([np.linalg.norm(sheet[i, j] - sheet[other]) for other in near])
            assert float(neighbor_distances(features, (3, 4))[4 * i + j]) == pytest.approx(expected)


def test_log_likelihoods_are_exact_for_a_gtm_and_estimated_for_a_vae(case):
    model, x, _ = case
    torch.manual_seed(0)
    log_likelihoods = TopographicMap(model, x).log_likelihood
    if isinstance(model, VAE):
        torch.manual_seed(0)
        expected = log_likelihood(model, x, num_samples=64)
    elif isinstance(model, GTM):
        expected = model.score_samples(x.numpy())
    else:
        expected = model.score_samples(x.numpy()) - np.log(model[0].scale_).sum()
    np.testing.assert_allclose(log_likelihoods, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_landscapes_and_predictions_of_classes_equal_a_loop(case, smoothing):
    model, x, shares = case
    labels = np.array(["b", "a", "", "a"] * 15)
    drawn = TopographicMap(model, x, batch_size=11)
    landscape = drawn.landscape(labels, smoothing=smoothing)
    assert landscape.classes == ("a", "b")
    counts = np.array(
        [[sum(r for r, t in zip(column, labels, strict=True) if t == c) for c in "ab"] for column in shares.T]
    )
    expected = smoothed(counts, counts.sum(1, keepdims=True), counts.sum(0) / counts.sum(), smoothing)
    np.testing.assert_allclose(landscape.probabilities, expected, atol=2e-3)
    prediction = drawn.predict(landscape, x[:9])
    np.testing.assert_allclose(prediction.probabilities, shares[:9] @ expected, atol=2e-3)
    assert prediction.label == tuple("ab"[i] for i in (prediction.probabilities).argmax(1).tolist())
    np.testing.assert_allclose(prediction.confidence, prediction.probabilities.numpy().max(1))


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_landscapes_and_predictions_of_numbers_equal_a_loop(case, smoothing):
    model, x, shares = case
    values = np.where(np.arange(60) % 7 == 0, np.nan, np.linspace(10.0, 11.0, 60) ** 2)
    present = ~np.isnan(values)
    drawn = TopographicMap(model, x)
    landscape = drawn.landscape(values, smoothing=smoothing)
    known, center = shares[present], values[present].mean()
    t = values[present] - center
    sums = np.stack([known.T @ t, known.T @ t**2], 1)
    moments = smoothed(sums, known.sum(0)[:, None], np.array([0.0, (t**2).mean()]), smoothing)
    np.testing.assert_allclose(landscape.mean, center + moments[:, 0], atol=1e-3)
    np.testing.assert_allclose(landscape.scale, np.sqrt(np.maximum(moments[:, 1] - moments[:, 0] ** 2, 0)), atol=1e-2)
    prediction = drawn.predict(landscape)
    mean = shares @ (center + moments[:, 0])
    second = shares @ (landscape.scale.numpy() ** 2 + landscape.mean.numpy() ** 2)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-3)
    np.testing.assert_allclose(prediction.scale, np.sqrt(np.maximum(second - mean**2, 0)), atol=1e-2)


def smoothed(sums, usage, everywhere, smoothing):
    """The formula of `priory.grid.landscapes`, node by node."""
    place = np.array([(i, j) for i in range(SIDE) for j in range(SIDE)])
    result = []
    for k in range(SIDE**2):
        h = np.exp(-0.5 * ((place - place[k]) ** 2).sum(1))
        near = (h @ sums + smoothing * everywhere) / (h @ usage + smoothing)
        result.append((sums[k] + smoothing * near) / (usage[k] + smoothing))
    return np.array(result)


def test_whole_numbers_with_few_values_are_classes():
    x = torch.rand(30, 4)
    drawn = TopographicMap(make_vae("gtm"), x)
    assert drawn.landscape(np.arange(30) % 3).classes == ("0", "1", "2")
    assert drawn.landscape(x[:, 0].numpy()).mean.shape == (SIDE**2,)


def test_labels_may_be_missing():
    x = torch.rand(6, 4)
    drawn = TopographicMap(make_vae("gtm"), pd.DataFrame(x.numpy()))
    expected = drawn.landscape(["a", "b", "", "a", "", "b"])
    frame = pd.DataFrame({"kind": ["a", "b", None, "a", np.nan, "b"]}, dtype=object)
    for column in (
        frame["kind"],
        frame["kind"].tolist(),
        frame["kind"].astype("string"),
        frame["kind"].astype("category"),
    ):
        landscape = drawn.landscape(column)
        assert landscape.classes == ("a", "b")
        torch.testing.assert_close(landscape.probabilities, expected.probabilities)
    weights = [0.5, None, 1.5, pd.NA, np.nan, 2.5]
    expected_values = drawn.landscape(np.array([0.5, np.nan, 1.5, np.nan, np.nan, 2.5]))
    torch.testing.assert_close(drawn.landscape(weights).mean, expected_values.mean)


def test_rows_may_be_a_list_or_a_data_frame():
    x = np.random.default_rng(0).random((5, 4))
    expected = TopographicMap(make_vae("gtm"), x).places.place
    for rows in (x.tolist(), pd.DataFrame(x)):
        torch.testing.assert_close(TopographicMap(make_vae("gtm"), rows).places.place, expected)


def test_the_quality_of_a_map_agrees_with_scikit_learn_and_loops():
    x, y = load_digits(return_X_y=True)
    gtm = GTM(points_per_side=8).fit(x[:600])
    train, test = TopographicMap(gtm, x[:600]), TopographicMap(gtm, x[600:900])
    quality = test.quality(y[600:900].astype(str), train, y[:600].astype(str))  # ties have an arbitrary order
    places = test.places.place.numpy()
    assert quality["trustworthiness"].value == pytest.approx(
        sklearn_trustworthiness(x[600:900], places, n_neighbors=10), abs=2e-4
    )
    centered = x[600:900] - x[600:900].mean(0)
    plane = centered @ np.linalg.svd(centered, full_matrices=False)[2][:2].T
    assert quality["pca_trustworthiness"].value == pytest.approx(
        sklearn_trustworthiness(x[600:900], plane, n_neighbors=10), abs=2e-4
    )
    assert quality["continuity"].value == pytest.approx(
        sklearn_trustworthiness(places, x[600:900], n_neighbors=10), abs=2e-4
    )
    classifier = KNeighborsClassifier(10).fit(train.places.place.numpy(), y[:600])
    assert quality["knn_accuracy"].value == pytest.approx(classifier.score(places, y[600:900]))
    share = gtm.predict_proba(x[600:900])
    usage = share.mean(0)
    perplexity = math.exp(-sum(u * math.log(u) for u in usage if u > 0))
    assert quality["used_nodes"].value == pytest.approx(perplexity)
    resampled = []
    random = np.random.default_rng(0)
    for _ in range(300):
        again = share[random.integers(300, size=300)].mean(0)
        resampled.append(math.exp(-sum(u * math.log(u) for u in again if u > 0)))
    assert quality["used_nodes"].se == pytest.approx(np.std(resampled), rel=0.25)
    apart = 0
    for row in share:
        first, second = np.argsort(row)[::-1][:2]
        (a, b), (c, d) = divmod(first, 8), divmod(second, 8)
        apart += max(abs(a - c), abs(b - d)) > 1
    assert quality["topographic_error"].value == pytest.approx(apart / 300)
    assert topographic_error(test.places, test.surface.nodes) == quality["topographic_error"]


def test_diagonal_nodes_are_neighbors_for_any_spacing_of_the_axes():
    nodes = latent_grid(3, dim=3, dtype=torch.float64) * torch.tensor([1.0, 4.0, 9.0])
    shape = (3, 3, 3)
    share = torch.zeros(27, 27, dtype=torch.float64)
    other, apart = (7 * np.arange(27) + 5) % 27, []
    for n in range(27):
        share[n, n], share[n, int(other[n])] = 0.6, 0.4
        pair = np.subtract(np.unravel_index(n, shape), np.unravel_index(int(other[n]), shape))
        apart.append(np.abs(pair).max() > 1)
    places = places_of(share / share.sum(1, keepdim=True), nodes, reach=1.0)
    assert topographic_error(places, nodes).value == pytest.approx(np.mean(apart))
    assert 0 < np.mean(apart) < 1
    straight = torch.zeros(1, 27, dtype=torch.float64)
    straight[0, [13, 14, 10, 4, 17]] = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1], dtype=torch.float64)
    near = torch.tensor([0.5, 0.2, 0.1, 0.1], dtype=torch.float64) @ nodes[[13, 14, 10, 4]] / 0.9
    torch.testing.assert_close(places_of(straight, nodes, reach=1.0).place[0], near)


def test_a_pipeline_may_contain_only_a_standard_scaler():
    x = 10 * np.random.default_rng(0).random((60, 3))
    model = make_pipeline(StandardScaler(with_std=False), GTM(points_per_side=4)).fit(x)
    np.testing.assert_allclose(TopographicMap(model, x).log_likelihood, model.score_samples(x))
    with pytest.raises(ValueError, match="pipeline of a StandardScaler"):
        surface_of(make_pipeline(MinMaxScaler(), GTM(points_per_side=4)).fit(x))


def test_any_object_with_the_methods_of_a_surface_can_be_mapped():
    """A surface without a model of this package: a soft assignment to four fixed positions."""

    class Corners:
        nodes = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
        grid_shape = (2, 2)
        weights = torch.full((4,), 0.25, dtype=torch.float64)
        likelihood_is_estimated = False

        def responsibilities(self, x):
            return torch.softmax(-torch.cdist(x.double(), self.nodes), 1)

        def log_likelihood(self, x):
            return torch.zeros(len(x), dtype=torch.float64)

        def contents(self):
            return self.nodes

        def features(self, x):
            return x

        def magnification(self, u=None):
            return torch.ones(4 if u is None else len(u), dtype=torch.float64)

    corners, x = Corners(), torch.randn(40, 2, dtype=torch.float64)
    assert surface_of(corners) is corners
    expected = grid_oracle.places(corners.responsibilities(x).numpy(), corners.nodes.numpy())
    np.testing.assert_allclose(TopographicMap(corners, x).places.place, expected)


def test_surfaces_state_whether_their_likelihood_is_estimated():
    vae, gtm = make_vae("gtm"), GTM(points_per_side=4).fit(np.random.default_rng(0).random((60, 4)))
    estimated, exact = surface_of(vae), surface_of(gtm)
    x = torch.rand(5, 4).round()
    assert estimated.likelihood_is_estimated
    assert not torch.equal(estimated.log_likelihood(x), estimated.log_likelihood(x))  # other samples
    assert not exact.likelihood_is_estimated
    assert torch.equal(exact.log_likelihood(x), exact.log_likelihood(x))


def test_maps_and_scikit_learn_estimators_have_the_same_landscapes():
    x, y = load_wine(return_X_y=True)
    x, numbers = StandardScaler().fit_transform(x), x[:, 0] + 0.5  # no whole numbers: measurements
    classifier = GTMClassifier(GTM(points_per_side=6)).fit(x, y)
    regressor = GTMRegressor(GTM(points_per_side=6)).fit(x, numbers)
    drawn = TopographicMap(classifier.gtm_, x)
    kinds, values = drawn.landscape(y), drawn.landscape(numbers)
    np.testing.assert_allclose(kinds.probabilities, classifier.node_probabilities_, atol=1e-12)
    np.testing.assert_allclose(values.mean, regressor.node_means_, rtol=1e-12)
    np.testing.assert_allclose(values.scale, regressor.node_scales_, rtol=1e-9)
    np.testing.assert_allclose(drawn.predict(kinds).probabilities, classifier.predict_proba(x), atol=1e-12)
    for predicted, expected in zip(drawn.predict(values), regressor.predict(x, return_std=True), strict=True):
        np.testing.assert_allclose(predicted, expected, rtol=1e-9)


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_neighborhoods_of_many_rows_are_estimated_from_a_sample(missing, monkeypatch):
    x = load_digits().data[:700] + np.random.default_rng(0).normal(size=(700, 64))
    x[600, 3] = np.nan if missing else 1.0
    drawn = TopographicMap(GTM(6, tether=0.0, max_iter=20, tol=0).fit(x), x)
    exact = drawn.quality()
    monkeypatch.setattr("priory.maps.quality.MOST_COMPARED", 300)
    sampled = drawn.quality()
    assert sampled["sampled_rows"].value == 300
    assert "sampled_rows" not in exact
    assert ("pca_trustworthiness" in sampled) == (not missing)
    for name in set(exact) & {"trustworthiness", "pca_trustworthiness", "continuity"}:
        assert sampled[name].value == pytest.approx(exact[name].value, abs=3 * sampled[name].se)
        assert 0 < sampled[name].se < 0.03


def test_few_rows_without_labels_have_no_neighborhoods_and_no_accuracy():
    assert TopographicMap(make_vae("gtm"), torch.rand(20, 4)).quality().keys() == {"topographic_error", "used_nodes"}


def test_rows_of_a_gtm_may_have_missing_cells():
    x, _ = load_wine(return_X_y=True)
    x[::3, 1] = np.nan
    model = make_pipeline(StandardScaler(), GTM(points_per_side=6)).fit(x)
    drawn = TopographicMap(model, x)
    assert torch.isfinite(drawn.places.place).all()
    assert 0.5 < drawn.quality()["trustworthiness"].value <= 1


def test_features_of_a_map_are_preprocessed_rows():
    loc, scale = torch.tensor([1.0, -2.0, 0.0, 5.0]), torch.tensor([1.0, 10.0, 0.1, 3.0])
    decoder = GaussianDecoder(mlp(3, [8], 4), loc=loc, scale=scale)

    vae = VAE(
        NormalEncoder(mlp(4, [8], 6)), decoder, GTMPrior(3, latent_grid(4), mlp(2, [8], 6)), Standardize(loc, scale)
    )
    x = loc + scale * torch.randn(10, 4)
    torch.testing.assert_close(surface_of(vae).features(x), (x - loc) / scale)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: TopographicMap(vae_of(StandardNormal(3)), torch.rand(5, 4)),
            "has a grid .*StandardNormal",
        ),
        (lambda: TopographicMap(vae_of(irregular()), torch.rand(5, 4)), "full grid"),
        (lambda: TopographicMap(GTM(), torch.rand(5, 4)), "expected a fitted GTM"),
        (lambda: TopographicMap("runs/map", torch.rand(5, 4)), "got a str"),
        (lambda: TopographicMap(make_vae("gtm"), torch.rand(0, 4)), "expected at least one row, got none"),
        (lambda: TopographicMap(make_vae("gtm"), torch.rand(4)), r"shape \(N, D\), got \(4,\)"),
        (lambda: TopographicMap(make_vae("gtm"), [["a", "b"]]), "rows: expected numbers, got values of type <U1"),
        (lambda: TopographicMap(make_vae("gtm"), torch.rand(5, 4), reach=-1), "at least 0 and at least 1, got -1"),
        (lambda: TopographicMap(make_vae("gtm"), torch.rand(5, 4), batch_size=0), "at least 1, got 3.0, 0"),
        (lambda: small().project(torch.rand(0, 4)), "expected at least one row, got none"),
        (lambda: small().landscape(["a"] * 4), r"one for each of the 5 rows, got shape \(4,\)"),
        (lambda: small().landscape([""] * 5), "a value for at least one row"),
        (lambda: small().landscape(["a"] * 5, smoothing=-1.0), "smoothing: expected a number of rows"),
    ],
)
def test_invalid_arguments_raise_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def small():
    return TopographicMap(make_vae("gtm"), torch.rand(5, 4))


def irregular():
    return GTMPrior(3, torch.rand(7, 2), mlp(2, [8], 6))


def vae_of(prior):
    return VAE(NormalEncoder(mlp(4, [8], 6)), BernoulliDecoder(mlp(3, [8], 4)), prior)


def test_memory_does_not_grow_with_rows_times_nodes():
    """The largest tensor of a map has a few numbers for each row."""
    drawn = TopographicMap(make_vae("gtm"), torch.rand(3000, 4), batch_size=100)
    tensors = [value for value in vars(drawn).values() if isinstance(value, torch.Tensor)] + list(drawn.places)
    assert max(value.numel() for value in tensors) <= 3000 * 2


def test_resident_memory_does_not_grow_with_rows_times_nodes():
    """In a separate process; 60 000 rows by 400 nodes would take 192 MB in float64."""
    code = (
        "import resource, torch\n"
        "from priory import VAE, BernoulliDecoder, GTMPrior, NormalEncoder, TopographicMap, latent_grid, mlp\n"
        "prior = GTMPrior(16, latent_grid(20), mlp(2, [8], 32))\n"
        "vae = VAE(NormalEncoder(mlp(4, [8], 32)), BernoulliDecoder(mlp(16, [8], 4)), prior).eval()\n"
        "x = torch.rand(60_000, 4)\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "TopographicMap(vae, x[:4000])\n"
        "before = peak()\n"
        "TopographicMap(vae, x)\n"
        "print(peak() - before)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(process.stdout) < 100_000  # kB


def test_columns_in_another_order_than_in_the_fit_are_refused():
    frame = load_iris(as_frame=True).data
    for model in (GTM(4).fit(frame), make_pipeline(StandardScaler(), GTM(4)).fit(frame)):
        drawn = TopographicMap(model, frame)
        torch.testing.assert_close(TopographicMap(model, frame.to_numpy()).places, drawn.places)
        with pytest.raises(ValueError, match=r"rows: expected the columns .* in their order, got petal width"):
            drawn.project(frame[frame.columns[::-1]])
