"""Rows so far away that their code or density overflows: their density is zero, and other rows are not affected."""

import math

import numpy as np
import pytest
import torch

from family import MEMBERS, OTHERS, small_vae
from priory import GTM, GridPrior, TopographicMap, evaluate, log_likelihood
from priory.workbench.models.building import class_of_prior

LARGEST = torch.finfo(torch.float32).max
FAR = [1e20, 9.97e36, LARGEST]
GRIDS = [name for name in MEMBERS if issubclass(class_of_prior(name), GridPrior)]


def with_far_row(x: torch.Tensor, value: float) -> torch.Tensor:
    x = x.clone()
    x[5, 1] = value
    return x


def others(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values[:5], values[6:]])


def seeded(function, *arguments, **options):
    torch.manual_seed(1)
    return function(*arguments, **options)


@pytest.mark.parametrize("value", [*FAR, -LARGEST])
@pytest.mark.parametrize("prior", [*MEMBERS, *OTHERS])
def test_a_far_row_has_likelihood_zero_and_does_not_affect_other_rows(prior, value):
    vae, x = small_vae(prior)
    near, far = (seeded(log_likelihood, vae, rows, num_samples=6) for rows in (x, with_far_row(x, value)))
    assert far[5] == -math.inf
    torch.testing.assert_close(others(far), others(near), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", FAR)
@pytest.mark.parametrize("decoder", ["negative-binomial", "poisson"])
@pytest.mark.parametrize("prior", ["standard", "flow", "family:StudentMixture"])
def test_counts_that_overflow_are_not_nan_and_do_not_affect_other_rows(prior, decoder, value):
    vae, x = small_vae(prior, decoder)
    near, far = (seeded(log_likelihood, vae, rows, num_samples=6) for rows in (x, with_far_row(x, value)))
    assert far[5] < -100
    torch.testing.assert_close(others(far), others(near), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore::priory.evaluation.LowEffectiveSampleSizeWarning")
@pytest.mark.parametrize("prior", [*MEMBERS, "plain mixture"])
def test_latent_metrics_leave_out_a_far_row(prior):
    vae, x = small_vae(prior)
    near, far = (seeded(evaluate, vae, rows, num_samples=6) for rows in (x, with_far_row(x, LARGEST)))
    for name, of_rows in far.per_row.items():
        torch.testing.assert_close(others(of_rows), others(near.per_row[name]), rtol=1e-4, atol=1e-4)
        assert not of_rows.isnan().any()
    assert far["nll"].value == math.inf
    assert far["elbo"].value == -math.inf
    assert far["rate"].value == math.inf
    assert 0 <= far["active_units"].value <= 3
    assert math.isfinite(far["marginal_kl"].value)


@pytest.mark.parametrize("prior", GRIDS)
def test_a_row_whose_code_overflows_has_no_position_on_the_map(prior):
    vae, x = small_vae(prior)
    x = torch.cat([x, x + 0.1])
    kinds = np.array(["a", "b"] * 18)
    near, far = TopographicMap(vae, x), TopographicMap(vae, with_far_row(x, LARGEST))
    for column, expected in zip(far.places, near.places, strict=True):
        torch.testing.assert_close(others(column), others(expected), rtol=1e-5, atol=1e-5)
    assert far.places.node[5] == far.places.next_node[5] == -1
    assert far.places.exist.sum() == 35
    for column in (far.places.place, far.places.mean, far.places.scale, far.places.mode, far.places.responsibility):
        assert column[5].isnan().all()
    assert far.log_likelihood[5] == -math.inf
    alone = TopographicMap(vae, others(x))
    torch.testing.assert_close(far.usage, alone.usage)
    landscape = far.landscape(kinds)
    expected = alone.landscape(np.delete(kinds, 5))
    torch.testing.assert_close(landscape.probabilities, expected.probabilities)
    assert far.predict(landscape).label[5] == ""
    numbers = far.predict(far.landscape(np.linspace(0, 1, 36)))
    assert numbers.mean[5].isnan()
    assert others(numbers.mean).isfinite().all()
    for name, estimate in far.quality().items():
        assert estimate == pytest.approx(alone.quality()[name], abs=1e-5)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_far_row_has_density_zero_under_a_classical_gtm(dtype, missing):
    x = np.random.default_rng(0).normal(size=(40, 3))
    gtm = GTM(points_per_side=4, max_iter=10, tol=0.1, dtype=dtype, tether=0.0).fit(x)
    far = x.copy()
    far[5, 1] = LARGEST if dtype == "float32" else 1.7e308
    if missing:
        x[5, 0] = far[5, 0] = np.nan
    scores = gtm.score_samples(far)
    assert scores[5] == -math.inf
    np.testing.assert_allclose(np.delete(scores, 5), np.delete(gtm.score_samples(x), 5), rtol=1e-6)
    drawn = TopographicMap(gtm, far)
    assert drawn.places.exist.sum() == 39
    assert drawn.places.node[5] == -1
