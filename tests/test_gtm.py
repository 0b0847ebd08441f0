"""The generative topographic mapping by EM, compared with the paper's formulas, closed forms and autograd."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import parquet
from scipy import stats
from scipy.integrate import trapezoid
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from gtm_oracle import em_step, joint, log_likelihoods, responsibilities
from priory import GTM, latent_grid
from priory.density import mixture_log_prob
from priory.density.isotropic import IsotropicNormals, MaskedRows
from priory.grid.nodes import RadialBasis
from priory.gtm.em import Sheet, Topography, WeightPrior
from priory.gtm.fitting import Release, begin
from priory.gtm.initial import principal_axes
from priory.gtm.reader import Batch, BlockReader

CPU = torch.device("cpu")


def curved(rows=120, columns=5, noise=0.1, seed=0):
    """Return rows near a curved sheet."""
    random = np.random.default_rng(seed)
    u = random.uniform(-1, 1, (rows, 2))
    directions = random.standard_normal((4, columns))
    sheet = np.stack([u[:, 0], u[:, 1], np.sin(2 * u[:, 0]), u[:, 0] * u[:, 1]], 1)
    return sheet @ directions + noise * random.standard_normal((rows, columns)) + 3.0


def arc(rows=500, noise=0.02):
    """Return rows near half of a circle, and their angles."""
    random = np.random.default_rng(0)
    along = random.uniform(0, np.pi, rows)
    return np.stack([np.cos(along), np.sin(along)], 1) + noise * random.standard_normal((rows, 2)), along


def with_holes(x, share=0.2, seed=1):
    """Return the same rows with missing cells; one row has no cell, one column is complete elsewhere."""
    random = np.random.default_rng(seed)
    x = x.copy()
    x[random.random(x.shape) < share] = np.nan
    x[3] = np.nan
    x[:, 0] = np.where(np.isnan(x[:, 0]), 0.5, x[:, 0])
    x[3, 0] = np.nan
    return x


def quiet_fit(gtm, x, **kwargs):
    """Fit without a warning about convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return gtm.fit(x, **kwargs)


def walked(x, weight=None, num_nodes=9):
    return BlockReader(lambda: [Batch(x, weight)], num_nodes, CPU, torch.float64)


CASES = {
    "as it comes": ({}, curved()),
    "no annealing": ({"annealing": 0}, curved()),
    "no decay": ({"weight_decay": 0.0}, curved()),
    "no decay, no annealing": ({"weight_decay": 0.0, "annealing": 0}, curved()),
    "large decay": ({"weight_decay": 30.0}, curved()),
    "holes": ({}, with_holes(curved())),
    "holes, no decay": ({"weight_decay": 0.0}, with_holes(curved())),
    "one column": ({}, curved(columns=1)),
    "two columns": ({}, curved(columns=2)),
    "more columns than rows": ({}, curved(rows=12, columns=30)),
    "two rows": ({}, curved(rows=2)),
    "one row": ({}, curved(rows=1)),
    "duplicated rows": ({}, np.repeat(curved(rows=10), 8, axis=0)),
    "constant column": ({}, np.insert(curved(), 2, 7.0, axis=1)),
    "constant": ({}, np.full((20, 3), 5.0)),
    "one node": ({"points_per_side": 1}, curved()),
    "one basis function": ({"basis_per_side": 1}, curved()),
    "more basis functions than nodes": ({"points_per_side": 3, "basis_per_side": 8}, curved()),
    "line": ({"n_components": 1}, curved()),
    "cube": ({"n_components": 3, "points_per_side": 4}, curved()),
    "far away": ({}, curved() + 1e6),
    "tiny": ({}, 1e-9 * curved()),
    "huge": ({}, 1e9 * curved()),
    "outlier": ({}, np.vstack([curved(), np.full((1, 5), 1e5)])),
    "wide functions, no decay": ({"basis_width": 3.0, "weight_decay": 0.0}, curved()),
    "wider, no decay": ({"basis_width": 10.0, "weight_decay": 0.0, "points_per_side": 8}, curved()),
    "flat functions, no decay": ({"basis_width": 3000.0, "weight_decay": 0.0}, curved()),
    "wide functions, hardly a decay": ({"basis_width": 3.0, "weight_decay": 1e-12}, curved()),
    "wide functions on a line": (
        {"basis_width": 3.0, "weight_decay": 0.0, "n_components": 1, "points_per_side": 20, "max_iter": 200},
        curved(),
    ),
    "wide functions, holes": ({"basis_width": 3.0, "weight_decay": 0.0}, with_holes(curved())),
    "immense decay": ({"weight_decay": 1e20}, curved()),
    "mostly holes": ({}, with_holes(curved(rows=300), share=0.9)),
    "on the sheet": ({}, curved(noise=0.0, columns=2)),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    options, x = CASES[request.param]
    return quiet_fit(GTM(**{"points_per_side": 6, "max_iter": 60, **options}), x), x


def test_the_likelihood_equals_that_of_an_explicit_mixture(case):
    gtm, x = case
    expected = log_likelihoods(x, gtm.means_, gtm.noise_variance_)
    assert_allclose(gtm.score_samples(x), expected, rtol=1e-9, atol=1e-6)
    assert gtm.score(x) == pytest.approx(expected.mean())


def test_responsibilities_and_positions_equal_those_of_an_explicit_mixture(case):
    gtm, x = case
    expected = responsibilities(x, gtm.means_, gtm.noise_variance_)
    assert_allclose(gtm.predict_proba(x), expected, atol=1e-6)
    assert_allclose(gtm.transform(x), expected @ gtm.nodes_, atol=1e-6)
    assert_allclose(expected[range(len(x)), gtm.predict(x)], expected.max(1), atol=1e-6)


def test_em_never_lowers_the_penalized_likelihood(case):
    gtm, x = case
    gains = np.diff(gtm.penalized_log_likelihoods_)
    assert gains.min(initial=0.0) >= -1e-9 * np.abs(gtm.penalized_log_likelihoods_).max()
    assert len(gtm.log_likelihoods_) == gtm.n_iter_ > 1
    assert gtm.noise_variance_ > 0
    assert np.isfinite(gtm.means_).all()
    assert gtm.means_.shape == (len(gtm.nodes_), x.shape[1])


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
@pytest.mark.parametrize(("decay", "tether"), [(0.0, 0.0), (0.4, 0.0), (0.4, 0.7)])
def test_a_step_of_em_equals_the_papers(holes, decay, tether):
    x = with_holes(curved(rows=30)) if holes else curved(rows=30)
    weight = np.random.default_rng(2).uniform(0, 3, len(x))
    nodes, basis = latent_grid(3, dtype=torch.float64), RadialBasis.on_grid(2, dtype=torch.float64)
    topography = Topography(basis(nodes), 1e-12)
    start = Sheet(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 0.7)
    center = torch.full((5,), 2.5, dtype=torch.float64)
    statistics = topography.expectation(walked(x, weight).centered(center), start)
    plane = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sheet = topography.maximization(statistics, WeightPrior(decay, tether, plane), start.variance)
    moved = start.weights.numpy().copy()
    moved[-1] += 2.5
    far = plane.numpy().copy()
    far[-1] += 2.5
    weights, variance = em_step(x, topography.features.numpy(), moved, 0.7, decay, tether, far, weight)
    expected = (weight * log_likelihoods(x, topography.features.numpy() @ moved, 0.7)).sum()
    assert statistics.log_likelihood == pytest.approx(expected, rel=1e-10)
    weights[-1] -= 2.5
    assert_allclose(sheet.weights.numpy(), weights, atol=1e-8)
    assert sheet.variance == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_em_ends_at_a_zero_gradient_of_the_penalized_likelihood(holes):
    x = with_holes(curved()) if holes else curved()
    gtm = GTM(points_per_side=6, max_iter=20_000, tol=1e-14, weight_decay=0.5, tether=0.0).fit(x)
    data = torch.from_numpy(x)
    observed = ~data.isnan()
    weights = torch.from_numpy(gtm.basis_weights_).requires_grad_()
    log_variance = torch.tensor(math.log(gtm.noise_variance_), dtype=torch.float64, requires_grad=True)
    features = gtm.basis_(torch.from_numpy(gtm.nodes_))
    differences = (data.nan_to_num().unsqueeze(1) - features @ weights) * observed.unsqueeze(1)
    exponent = -0.5 * differences.square().sum(-1) / log_variance.exp()
    exponent = exponent - 0.5 * observed.sum(-1, keepdim=True) * (math.log(2 * math.pi) + log_variance)
    scale = np.nanmean((x - np.nanmean(x, 0)) ** 2)
    penalty = 0.25 / scale * weights[:-1].square().sum()
    penalized = (torch.logsumexp(exponent, -1) - math.log(36)).sum() - penalty
    penalized.backward()
    assert penalized.item() / int(observed.any(1).sum()) == pytest.approx(gtm.penalized_log_likelihoods_[-1], abs=1e-7)
    assert float(weights.grad.abs().max()) < 1e-3
    assert abs(float(log_variance.grad)) < 1e-3


def test_em_starts_in_the_plane_of_the_principal_components():
    x = curved(rows=300, columns=20)
    nodes, basis = latent_grid(8, dtype=torch.float64), RadialBasis.on_grid(8, width=1.5, dtype=torch.float64)
    course, _ = begin(walked(x), nodes, basis, 0.1, 0)
    pca = PCA(3).fit(x)
    variances = pca.explained_variance_ * (len(x) - 1) / len(x)
    images = course.topography.images(course.sheet).numpy()
    assert_allclose(images.mean(0), 0.0, atol=1e-3)
    assert_allclose((images**2).sum() / 64, variances[:2].sum(), rtol=1e-3)
    outside = images - images @ pca.components_[:2].T @ pca.components_[:2]
    assert np.abs(outside).max() < 1e-4
    spacing = math.sqrt(variances[1]) * 2 / 7 / float(nodes.square().mean(0).sqrt()[1])
    assert course.sheet.variance == pytest.approx(max(variances[2], (spacing / 2) ** 2), rel=1e-3)


def test_the_initial_noise_is_at_least_half_of_the_spacing():
    x = curved(rows=300, columns=2)  # no third component
    nodes, basis = latent_grid(3, dtype=torch.float64), RadialBasis.on_grid(3, dtype=torch.float64)
    course, _ = begin(walked(x), nodes, basis, 0.1, 0)
    spacing = math.sqrt(PCA(2).fit(x).explained_variance_[1] * 299 / 300) / float(nodes.square().mean(0).sqrt()[1])
    assert course.sheet.variance == pytest.approx((spacing / 2) ** 2)


def test_principal_axes_do_not_depend_on_signs():
    x = curved(rows=100, columns=6)
    axes, again = (principal_axes(walked(rows).centered(torch.from_numpy(x.mean(0))), 2) for rows in (x, x[::-1]))
    assert_allclose(axes.directions, again.directions, atol=1e-9)
    assert (axes.directions.gather(0, axes.directions.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize(("rows", "columns"), [(300, 3), (300, 60), (15, 60)])
def test_principal_axes_agree_with_the_singular_value_decomposition(rows, columns):
    x = curved(rows=rows, columns=columns)
    weight = np.random.default_rng(0).integers(1, 4, rows).astype(float)
    center = (weight @ x) / weight.sum()
    axes = principal_axes(walked(x, weight).centered(torch.from_numpy(center)), 3)
    _, sizes, directions = np.linalg.svd(np.sqrt(weight)[:, None] * (x - center), full_matrices=False)
    assert_allclose(axes.variances, sizes[:3] ** 2 / weight.sum(), rtol=1e-3)
    assert_allclose(np.abs((axes.directions.mT.numpy() * directions[:3]).sum(1)), 1.0, atol=1e-3)


def test_a_gtm_with_one_node_is_a_normal():
    x = curved()
    gtm = GTM(points_per_side=1).fit(x)
    assert_allclose(gtm.means_, x.mean(0)[None], rtol=1e-9)
    assert gtm.noise_variance_ == pytest.approx(x.var(0).mean())
    normal = stats.multivariate_normal(x.mean(0), x.var(0).mean() * np.eye(5))
    assert_allclose(gtm.score_samples(x), normal.logpdf(x))
    assert_array_equal(gtm.transform(x), np.zeros((len(x), 2)))


def test_weights_are_equivalent_to_repeated_rows():
    x = curved(rows=40)
    weight = np.arange(40) % 3
    repeated = quiet_fit(GTM(points_per_side=5, max_iter=40), np.repeat(x, weight, axis=0))
    weighted = quiet_fit(GTM(points_per_side=5, max_iter=40), x, sample_weight=weight)
    assert_allclose(weighted.means_, repeated.means_, atol=1e-7)
    assert_allclose(weighted.log_likelihoods_, repeated.log_likelihoods_, atol=1e-8)


def test_a_fit_does_not_depend_on_units_and_origin():
    x = curved()
    plain, moved = (GTM(points_per_side=6).fit(rows) for rows in (x, 1000 * x - 5e4))
    assert_allclose(moved.transform(1000 * x - 5e4), plain.transform(x), atol=1e-5)
    assert_allclose(moved.score_samples(1000 * x - 5e4), plain.score_samples(x) - 5 * math.log(1000), atol=1e-5)


def test_missing_cells_are_integrated_out():
    """The density equals a quadrature over the missing cell."""
    x = curved(columns=3)
    gtm = GTM(points_per_side=5).fit(x)
    holed = x[:5].copy()
    holed[:, 1] = np.nan
    grid = np.linspace(x[:, 1].min() - 5, x[:, 1].max() + 5, 4001)
    for n in range(5):
        filled = np.repeat(x[n : n + 1], len(grid), axis=0)
        filled[:, 1] = grid
        mass = trapezoid(np.exp(gtm.score_samples(filled)), grid)
        assert gtm.score_samples(holed)[n] == pytest.approx(math.log(mass), abs=1e-6)


def test_a_row_without_values_has_density_one_and_the_middle_position():
    gtm = GTM(points_per_side=5).fit(with_holes(curved()))
    empty = np.full((1, 5), np.nan)
    assert gtm.score_samples(empty) == pytest.approx(0.0)
    assert_allclose(gtm.transform(empty), 0.0, atol=1e-12)


def test_missing_cells_hardly_lower_the_likelihood():
    """With two thirds of the cells, the sheet is nearly that of all cells; filling in column means is much worse."""
    x = curved(rows=600, columns=12)
    holed = np.where(np.random.default_rng(0).random(x.shape) < 1 / 3, np.nan, x)
    whole, partial = GTM(points_per_side=8).fit(x), GTM(points_per_side=8).fit(holed)
    filled = GTM(points_per_side=8).fit(np.where(np.isnan(holed), np.nanmean(holed, 0), holed))
    assert partial.score(x) > whole.score(x) - 0.5
    assert filled.score(x) < whole.score(x) - 3


def test_rows_without_observed_cells_are_ignored():
    x = curved()
    options = {"points_per_side": 5, "weight_decay": 5.0}
    plain, padded = GTM(**options).fit(x), GTM(**options).fit(np.vstack([x, np.full((60, 5), np.nan)]))
    assert_allclose(padded.means_, plain.means_, atol=1e-7)
    assert padded.log_likelihoods_[-1] == pytest.approx(plain.log_likelihoods_[-1])


def test_float32_and_float64_agree_if_most_cells_are_missing():
    x = curved(rows=5000, columns=20)
    holed = np.where(np.random.default_rng(0).random(x.shape) < 0.97, np.nan, x)
    options = {"points_per_side": 4, "max_iter": 40, "tol": 0.0}
    wide, narrow = (GTM(**options, dtype=dtype).fit(holed) for dtype in ("float64", "float32"))
    assert narrow.noise_variance_ == pytest.approx(wide.noise_variance_, rel=0.02)
    assert narrow.score(x) == pytest.approx(wide.score(x), abs=0.3)


def test_float32_is_precise_for_a_far_origin():
    x = curved()
    gtm = GTM(points_per_side=4, dtype="float32").fit(x + 1e7)
    expected = log_likelihoods(x + 1e7, gtm.means_, gtm.noise_variance_)
    assert_allclose(gtm.score_samples(x + 1e7), expected, atol=0.01)
    assert gtm.score(x + 1e7) == pytest.approx(GTM(points_per_side=4).fit(x).score(x), abs=0.2)


def test_em_ends_when_the_gain_is_small_relative_to_the_total():
    x = load_digits().data[:400]
    for options in ({}, {"basis_width": 3.0}):
        gtm = GTM(points_per_side=10, tol=1e-4, **options).fit(x)
        gains = np.diff(gtm.penalized_log_likelihoods_)
        gained = gtm.penalized_log_likelihoods_[1:] - gtm.log_likelihoods_[0]
        assert gains[-1] <= 1e-4 * gained[-1] + 1e-9
        assert gtm.n_iter_ > 101  # not before the tether ends
        late = slice(101, -1)
        assert (gains[late] > 1e-4 * gained[late]).all()


def test_rows_read_again_in_each_pass_give_the_same_fit(monkeypatch):
    x = with_holes(curved(rows=200))
    in_memory = quiet_fit(GTM(points_per_side=5, max_iter=5), x)
    monkeypatch.setattr("priory.gtm.reader.KEPT", 300)
    monkeypatch.setattr("priory.gtm.reader.NUMBERS_AT_ONCE", 1000)
    read = quiet_fit(GTM(points_per_side=5, max_iter=5), x)
    assert_allclose(read.means_, in_memory.means_, atol=1e-9)
    assert_allclose(read.transform(x), in_memory.transform(x), atol=1e-9)


def test_incremental_em_converges_to_the_batch_solution():
    x, _ = arc(noise=0.1)
    one_optimum = {"points_per_side": 30, "basis_per_side": 5, "n_components": 1}
    batch = GTM(**one_optimum, tol=1e-9, max_iter=5000).fit(x)
    incremental = GTM(**one_optimum, batch_size=100, max_iter=300, tol=0.0, random_state=0).fit(x)
    assert incremental.score(x) == pytest.approx(batch.score(x), abs=1e-3)
    assert incremental.noise_variance_ == pytest.approx(batch.noise_variance_, rel=0.02)
    assert_allclose(incremental.transform(x), batch.transform(x), atol=0.1)


def test_incremental_em_keeps_the_batch_solution():
    x = curved(rows=600)
    gtm = GTM(points_per_side=6, weight_decay=0.0, tol=1e-12, max_iter=20_000).fit(
        x
    )  # the weight of a decay changes with the rows so far
    before = gtm.means_
    for _ in range(5):
        gtm.partial_fit(x)
    assert_allclose(gtm.means_, before, atol=1e-3)


def test_partial_fit_learns_from_a_stream():
    x, _ = arc(rows=3000)
    gtm, first, whole = (GTM(points_per_side=20, n_components=1) for _ in range(3))
    first.partial_fit(x[:300])
    for _ in range(10):
        for start in range(0, 3000, 300):
            gtm.partial_fit(x[start : start + 300])
    assert len(gtm.log_likelihoods_) == gtm.n_iter_ == 100
    assert gtm.score(x) > first.score(x) + 0.5
    assert gtm.score(x) == pytest.approx(whole.fit(x).score(x), abs=0.05)


def test_incremental_steps_average_the_statistics_by_the_formula():
    """Compare with averages over two batches, weighted as in the formula."""
    first, second = with_holes(curved(rows=50)), curved(rows=70, seed=5)
    gtm = GTM(points_per_side=4).partial_fit(first)
    course = gtm._course
    before, sheet = course.statistics, course.sheet
    expected = course.topography.expectation(walked(second).centered(course.center), sheet)
    gtm.partial_fit(second)
    share = (2 / 3) ** 0.6
    for name in ("usage", "sums", "whole"):
        mixed = (1 - share) * getattr(before, name) + share * getattr(expected, name) / 70
        assert_allclose(getattr(gtm._course.statistics, name), mixed, atol=1e-12)
    assert_allclose(gtm._course.statistics.observed, (1 - share) * before.observed, atol=1e-12)
    assert gtm._course.statistics.holes.tolist() == (np.isnan(first[:-1]).any(0) & np.isnan(first).any(0)).tolist()
    assert gtm._course.rows == 49 + 70


def test_partial_fit_continues_from_the_fit():
    x = curved(rows=400)
    gtm = GTM(points_per_side=5).fit(x)
    before, steps = gtm.score(x), gtm.n_iter_
    gtm.partial_fit(x[:5])
    assert gtm.score(x) > before - 0.1  # five rows have the weight (2 / (t + 2))^0.6
    assert gtm.n_iter_ == steps + 1
    assert not gtm.converged_


def test_incremental_fits_shuffle_and_weight_rows():
    x = np.sort(curved(rows=100), axis=0)
    options = {"points_per_side": 4, "batch_size": 30, "max_iter": 3, "random_state": 0}
    plain = quiet_fit(GTM(**options), x)
    other = quiet_fit(GTM(**options | {"random_state": 1}), x)
    assert np.abs(plain.means_ - other.means_).max() > 1e-6
    weight = np.where(np.arange(100) < 50, 0.0, 2.0)
    half = quiet_fit(GTM(**options), x, sample_weight=weight)
    assert half.score(x[50:]) > plain.score(x[50:])
    nothing = quiet_fit(GTM(**options | {"batch_size": 1}), x, sample_weight=weight)  # batches without a weight
    assert np.isfinite(nothing.means_).all()


def test_a_failed_fit_leaves_the_last_one_unchanged():
    x = curved()
    gtm = GTM(points_per_side=5).fit(x)
    before = gtm.transform(x)
    with pytest.raises(ValueError, match="a value in every column"):
        gtm.set_params(basis_per_side=2).fit(np.full((5, 5), np.nan))
    assert_array_equal(gtm.transform(x), before)
    assert_allclose(gtm.inverse_transform(gtm.nodes_), gtm.means_)
    with pytest.raises(ValueError, match="expected those of the fitted map, with 25 nodes in 2 dimensions"):
        gtm.partial_fit(x)


def test_the_noise_variance_is_at_least_a_millionth_of_a_columns():
    x = np.random.default_rng(0).standard_normal((4, 3))
    gtm = quiet_fit(GTM(points_per_side=8, weight_decay=0.0, basis_per_side=8, tether=0.0), x)
    assert gtm.noise_variance_ == pytest.approx(1e-6 * x.var(0).mean())


def test_torchs_default_device_does_not_matter():
    x = curved()
    expected = quiet_fit(GTM(points_per_side=4, max_iter=3), x).transform(x)
    with torch.device("meta"):
        assert_array_equal(quiet_fit(GTM(points_per_side=4, max_iter=3), x).transform(x), expected)


def test_fits_of_batches_equal_a_fit_of_all_rows(tmp_path):
    x = with_holes(curved(rows=90))
    whole = GTM(points_per_side=5).fit(x)
    parts = [x[:10], x[10:70], x[:0], x[70:]]
    np.save(tmp_path / "x.npy", x)
    tensors = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(x)), batch_size=32)
    pd.DataFrame(x).rename(columns=str).to_parquet(tmp_path / "x.parquet", row_group_size=40)
    row_groups = parquet.ParquetFile(tmp_path / "x.parquet")
    fits = {
        "list": GTM(points_per_side=5).fit_batches(parts),
        "function": GTM(points_per_side=5).fit_batches(lambda: (part for part in parts)),
        "loader": GTM(points_per_side=5).fit_batches(tensors),
        "row groups": GTM(points_per_side=5).fit_batches(lambda: row_groups.iter_batches(batch_size=40)),
        "memory map": GTM(points_per_side=5).fit(np.load(tmp_path / "x.npy", mmap_mode="r")),
        "byte order": GTM(points_per_side=5).fit(x.astype(">f8")),
    }
    for name, gtm in fits.items():
        assert_allclose(gtm.means_, whole.means_, atol=1e-7, err_msg=name)
        assert gtm.n_iter_ == whole.n_iter_


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int32", "float16", "float32"])
def test_rows_may_have_any_numeric_type(dtype):
    x = np.random.default_rng(0).integers(0, 2, (50, 6)).astype(dtype)
    gtm, wide = GTM(points_per_side=4).fit(x), GTM(points_per_side=4).fit(x.astype(np.float64))
    assert_array_equal(gtm.means_, wide.means_)


def test_tensors_with_gradients_are_accepted():
    x = torch.from_numpy(curved()).requires_grad_()
    assert_array_equal(GTM(points_per_side=4).fit(x).means_, GTM(points_per_side=4).fit(curved()).means_)


def test_float32_is_near_float64():
    x = curved(rows=500)
    narrow, wide = GTM(points_per_side=8, dtype="float32").fit(x), GTM(points_per_side=8).fit(x)
    assert narrow.score(x) == pytest.approx(wide.score(x), abs=1e-3)
    assert_allclose(narrow.transform(x), wide.transform(x), atol=0.02)


def test_samples_are_draws_of_the_density():
    gtm = GTM(points_per_side=3, random_state=0).fit(curved(rows=300, columns=2))
    x, node = gtm.sample(20_000)
    assert stats.chisquare(np.bincount(node, minlength=9)).pvalue > 1e-3
    assert_allclose((x - gtm.means_[node]).var(), gtm.noise_variance_, rtol=0.05)
    low, high = x.min(0) - 2, x.max(0) + 2
    axes = [np.linspace(a, b, 200) for a, b in zip(low, high, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(gtm.score_samples(places)).reshape(200, 200)
    cumulative = np.cumsum(mass.sum(1)) * np.prod((high - low) / 199)
    assert cumulative[-1] == pytest.approx(1.0, abs=1e-3)
    assert stats.kstest(x[:, 0], lambda t: np.interp(t, axes[0], cumulative)).pvalue > 1e-3
    with pytest.raises(ValueError, match="n_samples: expected a positive number, got 0"):
        gtm.sample(0)


def test_images_and_magnification_of_positions_agree_with_finite_differences():
    gtm = GTM(points_per_side=5, basis_width=0.7).fit(curved())
    assert_allclose(gtm.inverse_transform(gtm.nodes_), gtm.means_, atol=1e-12)
    places, step = np.array([[0.1, -0.3], [0.9, 0.2]]), 1e-6
    slopes = [
        (gtm.inverse_transform(places + step * e) - gtm.inverse_transform(places - step * e)) / (2 * step)
        for e in np.eye(2)
    ]
    areas = [
        np.linalg.norm(a) * np.linalg.norm(b) * math.sqrt(1 - (_cosine(a, b)) ** 2)
        for a, b in zip(*slopes, strict=True)
    ]
    assert_allclose(gtm.magnification_factors(places), areas, rtol=1e-6)
    assert gtm.magnification_factors().shape == (25,)


def _cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_the_likelihood_of_wide_rows_is_exact():
    x = curved(rows=40, columns=20_000)
    gtm = quiet_fit(GTM(points_per_side=5, max_iter=10, tether=0.0), x)
    expected = joint(x[:2], gtm.means_[:3], gtm.noise_variance_)
    assert_allclose(gtm.score_samples(x[:2]), log_likelihoods(x[:2], gtm.means_, gtm.noise_variance_), rtol=1e-9)
    assert np.isfinite(expected).all()


def test_a_line_follows_an_arc():
    x, along = arc()
    gtm = GTM(points_per_side=40, n_components=1).fit(x)
    assert abs(stats.spearmanr(gtm.transform(x)[:, 0], along).statistic) > 0.999
    assert gtm.noise_variance_ == pytest.approx(0.02**2, rel=0.3)


def test_annealing_finds_the_better_optimum():
    x = load_digits().data[:600]
    annealed, plain = GTM(points_per_side=12).fit(x), GTM(points_per_side=12, annealing=0).fit(x)
    assert annealed.penalized_log_likelihoods_[-1] > plain.penalized_log_likelihoods_[-1]


def test_the_tether_never_increases():
    release = Release(decay=0.1, scale=2.0, rows=1000, iterations=20, plane=torch.zeros(1))
    tethers = [release.at(iteration).tether for iteration in range(25)]
    assert tethers[0] == pytest.approx(5000.0)
    assert (np.diff(tethers) <= 0).all()
    assert tethers[20:] == [0.0] * 5
    assert {release.at(iteration).decay for iteration in range(25)} == {0.05}
    assert Release(0.1, 1.0, 1000, 0, torch.zeros(1)).at(0).tether == 0.0


def test_repeated_fits_give_the_same_bits():
    x = curved()
    for options in ({}, {"batch_size": 50, "random_state": 3, "max_iter": 5}):
        first, second = (quiet_fit(GTM(points_per_side=5, **options), x) for _ in range(2))
        assert_array_equal(first.means_, second.means_)


def test_the_kernel_equals_the_density_of_a_mixture():
    """Compare with the density of `priory.Mixture`, with one scale for all components and dimensions."""
    torch.manual_seed(0)
    x, loc = torch.randn(50, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    log_weights = torch.log_softmax(torch.randn(4, dtype=torch.float64), -1)
    normals = IsotropicNormals(log_weights, loc, 0.3)
    log_prob = normals.exponentials(MaskedRows(x, None)).log_sum + normals.shift(x.square().sum(-1), 7)
    expected = mixture_log_prob(x, log_weights, loc, torch.full_like(loc, math.sqrt(0.3)))
    assert_allclose(log_prob, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points_per_side": 0}, "points_per_side: expected a whole number, at least 1, got 0"),
        ({"points_per_side": 2.5}, "points_per_side: expected a whole number, at least 1, got 2.5"),
        ({"basis_per_side": 0}, "basis_per_side: expected a whole number, at least 1, got 0"),
        ({"max_iter": True}, "max_iter: expected a whole number, at least 1, got True"),
        ({"annealing": -1}, "annealing: expected a whole number, at least 0, got -1"),
        ({"batch_size": 0}, "batch_size: expected a whole number, at least 1, got 0"),
        ({"basis_width": 0.0}, "basis_width: expected a positive number, got 0.0"),
        ({"weight_decay": -1}, "weight_decay: expected a number of at least 0, got -1"),
        ({"tol": math.nan}, "tol: expected a number of at least 0, got nan"),
        ({"n_components": 6}, r"points_per_side: expected at most 1048576 points on the grid, got 16\^6"),
        ({"points_per_side": 600}, "expected at most 134217728 pairs .* got 360000 nodes and 90000 functions"),
        ({"basis_per_side": 300}, "expected at most 134217728 pairs .* got 256 nodes and 90000 functions"),
        ({"dtype": "float16"}, "dtype: expected float64 or float32, got 'float16'"),
        ({"random_state": "x"}, "'x' cannot be used to seed"),
        ({"device": "gpu"}, "device: expected None .the CPU. or a device that torch finds"),
        ({"device": "meta"}, "device: expected None .the CPU. or a device that torch finds"),
    ],
)
def test_invalid_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GTM(**options).fit(curved())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GTM().fit(np.full((5, 2), np.nan)), "a value in every column.* got none in column 0 and 1 others"),
        (lambda: GTM().fit(np.full((5, 2), np.inf)), "infinity"),
        (lambda: GTM().fit(1e200 * curved()), "X: expected values whose squares torch.float64 can hold, got .* inf"),
        (lambda: GTM(dtype="float32").fit(1e30 * curved()), "X: expected values whose squares torch.float32 can hold"),
        (lambda: GTM(dtype="float32").fit(1e-25 * curved()), "X: expected values whose squares torch.float32 can hold"),
        (lambda: GTM().fit(1e-160 * curved()), "X: expected values whose squares torch.float64 can hold"),
        (
            lambda: GTM().fit(curved(), sample_weight=np.zeros(120)),
            "(?i)sample.weights? must contain|in rows with a weight",
        ),
        (lambda: GTM().fit(curved(), sample_weight=-np.ones(120)), "Negative values in data passed to `sample_weight`"),
        (lambda: GTM().fit_batches(iter([curved()])), "batches: expected a source that can be read repeatedly"),
        (lambda: GTM().fit_batches([]), "batches: expected batches of rows, got none"),
        (lambda: GTM().fit_batches([curved(), curved(columns=4)]), "X has 4 features, but GTM is expecting 5"),
        (lambda: GTM(batch_size=5).fit_batches([curved()]), "batch_size: expected None, got 5"),
        (lambda: quiet_fit(GTM(3, max_iter=2), curved()).inverse_transform([[0.0]]), r"X: expected positions .*\(n, 2"),
        (lambda: quiet_fit(GTM(3, max_iter=2), curved()).transform(curved(columns=4)), "X has 4 features"),
    ],
)
def test_invalid_data_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_methods_of_an_unfitted_gtm_raise_errors():
    for method in ("transform", "predict", "predict_proba", "score_samples", "inverse_transform"):
        with pytest.raises(NotFittedError):
            getattr(GTM(), method)(curved())
    with pytest.raises(NotFittedError):
        GTM().magnification_factors()


def test_a_fit_without_convergence_gives_a_warning():
    with pytest.warns(ConvergenceWarning, match="after max_iter=3 iterations .* raise max_iter or tol"):
        gtm = GTM(points_per_side=4, max_iter=3).fit(curved())
    assert not gtm.converged_
    assert GTM(points_per_side=4).fit(curved()).converged_


MEMORY = """
import resource, sys, warnings
import numpy as np
from priory import GTM
warnings.simplefilter("ignore")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
x = np.random.default_rng(0).standard_normal((300_000, 5))
GTM(points_per_side=20, max_iter=1).fit(x[:1000])
before = peak()
gtm = GTM(points_per_side=20, max_iter=2).fit(x)
gtm.transform(x), gtm.score(x), gtm.predict(x)
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_rows_times_nodes():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200  # MiB; rows times nodes would be 916


@pytest.mark.gpu
def test_results_on_a_gpu_equal_those_on_the_cpu():
    x = with_holes(curved(rows=500))
    cpu, gpu = GTM(points_per_side=8).fit(x), GTM(points_per_side=8, device="cuda").fit(x)
    assert_allclose(gpu.means_, cpu.means_, atol=1e-6)
    assert_allclose(gpu.transform(x), cpu.transform(x), atol=1e-6)
