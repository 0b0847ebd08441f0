"""Imputation of missing cells, compared with conditional normals."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from command_line import MATRIX, NAMES, QUICK, ROWS, must_be_refused, must_succeed, run_cli
from priory import GTM, impute

LOADINGS = torch.tensor([[1.0, 0.0], [0.8, 0.5], [0.0, 1.0], [-0.5, 1.0]], dtype=torch.float64)
NOISE = 0.5
COVARIANCE = LOADINGS @ LOADINGS.mT + NOISE**2 * torch.eye(4, dtype=torch.float64)


class LinearModel:
    """x = A z + noise; q has the exact mean, and its standard deviation is multiplied by `widened`."""

    def __init__(self, widened: float) -> None:
        precision = torch.eye(2, dtype=torch.float64) + LOADINGS.mT @ LOADINGS / NOISE**2
        self.covariance = torch.linalg.inv(precision)
        self.widened = widened

    def encode(self, x):
        loc = x @ LOADINGS @ self.covariance / NOISE**2
        return MultivariateNormal(loc, self.widened**2 * self.covariance)

    def latent_prior(self):
        zero = torch.zeros(2, dtype=torch.float64)
        return Independent(Normal(zero, 1.0), 1)

    def decode(self, z):
        loc = z @ LOADINGS.mT
        return Independent(Normal(loc, torch.full_like(loc, NOISE)), 1)


def conditional(x: torch.Tensor, missing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and covariance of the missing cells given the others."""
    observed = ~missing
    gain = COVARIANCE[missing][:, observed] @ torch.linalg.inv(COVARIANCE[observed][:, observed])
    return gain @ x[observed], COVARIANCE[missing][:, missing] - gain @ COVARIANCE[observed][:, missing]


@pytest.mark.parametrize("widened", [1.0, 1.7])
def test_means_and_draws_agree_with_the_conditional_normal(widened):
    torch.manual_seed(0)
    x = torch.tensor([1.0, torch.nan, -1.0, torch.nan], dtype=torch.float64)
    mean, covariance = conditional(x, x.isnan())
    many = x.expand(2000, -1)
    model = LinearModel(widened)
    draws = impute(model, many, num_steps=40, draw=True)[:, x.isnan()]
    torch.testing.assert_close(draws.mean(0), mean, atol=0.07, rtol=0)
    torch.testing.assert_close(draws.mT.cov(), covariance, atol=0.08, rtol=0)
    means = impute(model, many, num_steps=40)[:, x.isnan()]
    torch.testing.assert_close(means.mean(0), mean, atol=0.04, rtol=0)
    assert (means.var(0) < 0.5 * draws.var(0)).all()


def test_observed_cells_do_not_change():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, torch.nan, 3.0, torch.nan]], dtype=torch.float64)
    filled = impute(LinearModel(1.0), x, num_steps=3)
    assert torch.equal(filled[~x.isnan()], x[~x.isnan()])
    assert filled.isfinite().all()


def test_the_result_for_a_data_frame_is_a_data_frame():
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": [0.0, 1.0], "c": [np.nan, 1.0], "d": [1.0, 2.0]}, index=["r", "s"])
    filled = impute(LinearModel(1.0), frame, num_steps=3)
    assert filled.index.tolist() == ["r", "s"]
    assert filled.columns.tolist() == list("abcd")
    assert filled.loc["s", "b"] == 1.0


def test_infinite_cells_and_zero_steps_are_refused():
    model = LinearModel(1.0)
    with pytest.raises(ValueError, match="expected finite numbers in observed cells, got infinity"):
        impute(model, torch.full((1, 4), torch.inf, dtype=torch.float64))
    with pytest.raises(ValueError, match="num_steps: expected a positive number of steps, got 0"):
        impute(model, torch.zeros(1, 4, dtype=torch.float64), num_steps=0)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"expected rows of shape \(4,\), as the model generates them, got \(3,\)"):
        impute(LinearModel(1.0), torch.full((2, 3), torch.nan, dtype=torch.float64), num_steps=1)


def test_a_gtm_imputes_the_mean_and_draws_of_its_mixture():
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 2)) @ random.normal(size=(2, 5)) + 0.1 * random.normal(size=(200, 5))
    gtm = GTM(points_per_side=6, tether=0.0, max_iter=30, tol=0, random_state=0).fit(x)
    row = x[3].copy()
    row[[1, 4]] = np.nan
    observed = ~np.isnan(row)
    log_joint = -((row[observed] - gtm.means_[:, observed]) ** 2).sum(1) / (2 * gtm.noise_variance_)
    weights = np.exp(log_joint - log_joint.max())
    weights /= weights.sum()
    expected = weights @ gtm.means_
    imputed = gtm.impute(row[None])[0]
    np.testing.assert_allclose(imputed[~observed], expected[~observed], rtol=1e-10)
    np.testing.assert_array_equal(imputed[observed], row[observed])
    draws = gtm.impute(np.tile(row, (4000, 1)), draw=True)[:, ~observed]
    spread = weights @ (gtm.means_[:, ~observed] - expected[~observed]) ** 2 + gtm.noise_variance_
    np.testing.assert_allclose(draws.mean(0), expected[~observed], atol=5 * np.sqrt(spread.max() / 4000))
    np.testing.assert_allclose(draws.var(0), spread, rtol=0.15)


@pytest.fixture
def tables(tmp_path):
    """Write a complete table with a constant column, and a copy with missing cells and another value in that column."""
    complete = pd.DataFrame(MATRIX, columns=NAMES).assign(always=1.0, kind=np.arange(ROWS) % 2)
    complete.to_csv(tmp_path / "complete.csv", index=False)
    gaps = complete.copy()
    gaps.loc[3, ["a", "kind"]] = np.nan
    gaps.loc[5, ["c", "always"]] = np.nan
    gaps.loc[6, "always"] = 2.0
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    return tmp_path


@pytest.mark.parametrize(
    "fit",
    [("fit", *QUICK), pytest.param(("gtm", "fit", "--points-per-side", 4), marks=pytest.mark.slow)],
    ids=["vae", "gtm"],
)
def test_the_command_fills_missing_cells_and_keeps_all_others(tables, fit, capsys):
    run, new, out = tables / "run", tables / "gaps.csv", tables / "filled.csv"
    assert run_cli(*fit, tables / "complete.csv", "--labels", "kind", "--out", run) == 0
    output = must_succeed(capsys, "impute", run, new, "--steps", 20, "--out", out)
    assert output.startswith("3 missing cells in 2 of 40 rows filled in: ")
    gaps, filled = pd.read_csv(new), pd.read_csv(out)
    columns = [*NAMES, "always"]
    present = gaps[columns].notna().to_numpy()
    np.testing.assert_array_equal(filled[columns].to_numpy()[present], gaps[columns].to_numpy()[present])
    assert filled[columns].notna().all(axis=None)
    assert filled["always"].tolist()[5:7] == [1.0, 2.0]
    assert filled["kind"].isna().tolist() == gaps["kind"].isna().tolist()
    if fit[0] == "fit":
        assert "let the model fill them in: priory impute" in must_be_refused(capsys, tables, "score", run, new)
