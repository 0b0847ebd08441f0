"""The GTM of small tables: at least as good as probabilistic PCA, and better if rows lie on a sheet."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris, load_linnerud, load_wine, make_circles
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from command_line import run_cli
from priory import GTM, GTMRegressor


def noisy_plane(rows, columns=4, seed=0, noise=0.3):
    random = np.random.default_rng(seed)
    plane = np.random.default_rng(99).normal(size=(2, columns))
    return random.normal(size=(rows, 2)) @ plane + noise * random.normal(size=(rows, columns))


def split(x, train, seed=0):
    """Return training rows and other rows, standardized by the training rows."""
    order = np.random.default_rng(seed).permutation(len(x))
    fitted, others = x[order[:train]], x[order[train:]]
    scale = fitted.std(0)
    return (fitted - fitted.mean(0)) / scale, (others - fitted.mean(0)) / scale


TABLES = {
    **{f"plane of {n}": (noisy_plane(n + 500, seed=n), n) for n in (20, 40, 100)},
    "iris": (load_iris().data, 100),
    "wine": (load_wine().data, 120),
    "linnerud": (np.hstack([load_linnerud().data, load_linnerud().target]), 15),
    "circles": (make_circles(400, noise=0.05, factor=0.5, random_state=0)[0], 100),
    "more columns than rows": (noisy_plane(90, columns=100), 30),
    "pure noise": (np.random.default_rng(1).normal(size=(300, 6)), 60),
    "four rows": (noisy_plane(504), 4),
}
STRUCTURED = {"iris": 0.1, "wine": 0.05, "circles": 0.15}  # nats a column


@pytest.mark.parametrize("name", TABLES)
def test_a_small_table_is_at_least_as_likely_as_under_probabilistic_pca(name):
    fitted, others = split(*TABLES[name])
    better = (GTM().fit(fitted).score(others) - PCA(2).fit(fitted).score(others)) / fitted.shape[1]
    assert better > STRUCTURED.get(name, -0.1)


def test_missing_cells_in_a_small_table_hardly_lower_the_likelihood():
    fitted, others = split(noisy_plane(560), 60)
    holed = np.where(np.random.default_rng(0).random(fitted.shape) < 0.2, np.nan, fitted)
    assert GTM().fit(holed).score(others) > PCA(2).fit(fitted).score(others) - 1.0


def test_a_large_table_is_fitted_without_a_tether():
    x = noisy_plane(1100)
    assert GTM(4).fit(x).tether_ == 0.0
    np.testing.assert_array_equal(GTM(4).fit(x).means_, GTM(4, tether=0.0).fit(x).means_)


def test_the_size_of_a_table_is_its_total_weight():
    x = noisy_plane(60)
    few, many = GTM(8).fit(x), GTM(8).fit(x, sample_weight=np.full(60, 10.0))
    assert few.least_noise_variance_ > 0
    assert many.least_noise_variance_ == 0


def test_repeated_rows_are_in_one_fold():
    """Copies in different folds would favor a sheet through every row."""
    fitted, others = split(noisy_plane(540), 40)
    twins = GTM().fit(np.repeat(fitted, 4, axis=0))
    assert twins.score(others) == pytest.approx(GTM().fit(fitted).score(others), abs=0.4)


def test_the_order_of_rows_and_their_batches_do_not_matter():
    x = noisy_plane(50)
    whole, turned = GTM(8).fit(x), GTM(8).fit_batches([x[30:], x[:30]])
    assert turned.tether_ == pytest.approx(whole.tether_)
    np.testing.assert_allclose(turned.means_, whole.means_, atol=1e-6)


def test_a_strong_tether_makes_the_sheet_a_plane():
    gtm = GTM(8, tether=1e8).fit(noisy_plane(200))
    sizes = np.linalg.svd(gtm.means_ - gtm.means_.mean(0), compute_uv=False)
    assert sizes[2] < 0.02 * sizes[1]


def test_regression_on_the_map_of_a_small_table_generalizes():
    random = np.random.default_rng(0)
    x = noisy_plane(300, columns=8)
    y = x[:, 0] + 0.1 * random.normal(size=300)
    assert GTMRegressor().fit(x[:60], y[:60]).score(x[60:], y[60:]) > 0.5


def test_noise_at_its_lower_bound_gives_a_warning():
    x = noisy_plane(5)
    with pytest.warns(ConvergenceWarning, match="the noise variance is at its least.* raise tether or weight_decay"):
        gtm = GTM(8, tether=0.0, weight_decay=0.0, max_iter=2000).fit(x)
    assert gtm.collapsed_


def test_held_out_rows_are_measured_at_every_iteration():
    x = noisy_plane(60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [GTM(5, max_iter=k, annealing=0, tol=0).fit_batches([x[:40]], lambda: [x[40:]]) for k in (6, 7)]
    before, after = fits
    assert after.held_out_log_likelihoods_.shape == (7,)
    assert after.held_out_log_likelihoods_[-1] == pytest.approx(before.score(x[40:]))
    assert GTM(5).fit(x).held_out_log_likelihoods_.size == 0


def test_the_command_prints_the_tether_and_records_held_out_rows(tmp_path, capsys):
    pd.DataFrame(noisy_plane(60), columns=list("abcd")).to_csv(tmp_path / "t.csv", index=False)
    assert run_cli("gtm", "fit", tmp_path / "t.csv", "--points-per-side", 6, "--out", tmp_path / "run") == 0
    assert "small table: --tether" in capsys.readouterr().out
    held = pd.read_csv(tmp_path / "run" / "history.csv")["held_out_log_likelihood"]
    assert np.isfinite(held).all()
    assert math.isfinite(GTM.load(tmp_path / "run" / "model.safetensors").tether_)


def test_the_command_warns_if_the_map_passes_through_the_rows(tmp_path, capsys):
    pd.DataFrame(noisy_plane(30), columns=list("abcd")).to_csv(tmp_path / "t.csv", index=False)
    assert run_cli("gtm", "fit", tmp_path / "t.csv", "--tether", 0, "--out", tmp_path / "run") == 0
    error = " ".join(capsys.readouterr().err.split())
    assert "nats per column less likely than training rows; raise --tether (now 0) or --weight-decay, or lower" in error
