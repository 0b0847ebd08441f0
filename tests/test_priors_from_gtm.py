"""Priors made from a classical GTM: they have its density or its sheet, and can be trained further."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import nn

from family import MEMBERS, made
from priory import (
    GTM,
    GTMPrior,
    GTMVampPrior,
    LogNormalize,
    MixtureOfGaussians,
    NormalEncoder,
    Rescale,
    Standardize,
    latent_grid,
    mlp,
)
from priory.priors.radial import options_of
from priory.workbench.models.building import class_of_prior
from priory.workbench.models.facts import Features

RANDOM = np.random.default_rng(0)
PLACES = torch.from_numpy(RANDOM.uniform(-1.2, 1.2, (50, 2)))  # between the nodes, and beyond them


def bent_sheet(columns: int = 5, rows: int = 300) -> np.ndarray:
    """Return rows near a bent sheet in this many columns, all far from zero."""
    u = RANDOM.uniform(-1, 1, (rows, 2))
    features = np.stack([u[:, 0], u[:, 1], u[:, 0] ** 2, u[:, 0] * u[:, 1], np.sin(2 * u[:, 1])], 1)
    return 3.0 + features @ RANDOM.normal(size=(5, columns)) + 0.2 * RANDOM.normal(size=(rows, columns))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return bent_sheet()


@pytest.fixture(scope="module")
def gtm(x):
    return GTM(points_per_side=6, max_iter=30, tol=1e-2).fit(x)


def mixture_by_hand(gtm, z: np.ndarray) -> np.ndarray:
    """log sum_k w_k N(z | m_k, v I) in float64."""
    squares = ((z[:, None, :] - gtm.means_) ** 2).sum(-1)
    log_normal = -0.5 * squares / gtm.noise_variance_ - 0.5 * z.shape[1] * math.log(2 * math.pi * gtm.noise_variance_)
    return np.log((np.exp(log_normal) * gtm.weights_).sum(1))


def test_gtm_prior_equals_the_density_of_the_gtm(gtm, x):
    near = x[:40] + 0.1
    log_prob = GTMPrior.from_gtm(gtm)().log_prob(torch.from_numpy(near).float()).detach().numpy()
    np.testing.assert_allclose(log_prob, gtm.score_samples(near), atol=1e-4)
    np.testing.assert_allclose(log_prob, mixture_by_hand(gtm, near), atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"n_components": 1}, {"n_components": 3}, {"basis_per_side": 5, "basis_width": 1.5}]
)
def test_gtm_prior_equals_gtms_with_other_grids_and_bases(options, x):
    gtm = GTM(points_per_side=4, max_iter=5, tol=1.0, **options).fit(x)
    prior = GTMPrior.from_gtm(gtm)
    np.testing.assert_allclose(
        prior().log_prob(torch.from_numpy(x[:20]).float()).detach(), gtm.score_samples(x[:20]), atol=1e-4
    )
    assert prior.nodes.shape == (4 ** options.get("n_components", 2), options.get("n_components", 2))


def test_gtm_prior_accepts_unequal_weights_and_another_basis():
    """Any object with the attributes of a fitted GTM is accepted, with any basis."""

    class Corners(nn.Module):
        def forward(self, u):
            return torch.cat([u, u.prod(-1, keepdim=True), torch.ones_like(u[..., :1])], -1)

    nodes, weights = latent_grid(2).double(), RANDOM.normal(size=(4, 3))
    gtm = SimpleNamespace(nodes_=nodes.numpy(), basis_=Corners(), basis_weights_=weights, noise_variance_=0.3)
    gtm.means_, gtm.weights_ = (Corners()(nodes).numpy() @ weights), np.array([0.1, 0.2, 0.3, 0.4])
    for learn_weights in (True, False):
        prior = GTMPrior.from_gtm(gtm, learn_weights=learn_weights)
        z = RANDOM.normal(size=(10, 3))
        np.testing.assert_allclose(
            prior().log_prob(torch.from_numpy(z).float()).detach(), mixture_by_hand(gtm, z), atol=1e-4
        )
        np.testing.assert_allclose(prior.mixing_weights.detach(), gtm.weights_, rtol=1e-5)
        assert isinstance(prior.mixing_logits, nn.Parameter) == learn_weights


@pytest.mark.parametrize("learn_weights", [True, False])
def test_density_and_guide_of_a_gtm_vamp_prior_have_the_gtms_weights(gtm, x, learn_weights):
    unequal = copy.copy(gtm)
    unequal.weights_ = np.random.default_rng(1).dirichlet(np.ones(36))
    prior = GTMVampPrior.from_gtm(unequal, learn_weights=learn_weights)
    np.testing.assert_allclose(prior.mixing_weights.detach(), unequal.weights_, rtol=1e-4)
    encoder = NormalEncoder(mlp(5, [8], 4))
    z = torch.randn(10, 2)
    with torch.no_grad():
        q = encoder(torch.from_numpy(gtm.means_).float())
        densities = [q.log_prob(point).exp().double() @ torch.from_numpy(unequal.weights_) for point in z]
        torch.testing.assert_close(
            prior(encoder).log_prob(z).double(), torch.stack(densities).log(), rtol=1e-4, atol=1e-4
        )
    responsibilities = prior.guide.log_responsibilities(torch.from_numpy(x).float()).exp()
    np.testing.assert_allclose(responsibilities, unequal.predict_proba(x), atol=1e-4)


def test_a_prior_from_a_gtm_can_be_trained(gtm, x):
    prior, z = GTMPrior.from_gtm(gtm), torch.from_numpy(x).float()
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    losses = []
    for step in range(50):
        loss = -prior().log_prob(z).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:  # also the weights of the log-variances, which start at zero
            assert all(bool(p.grad.abs().amax(0).min() > 0) for p in prior.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize("name", ["gtm", "gtm-vamp"])
def test_a_prior_built_from_settings_can_load_the_state(name, gtm, x):
    from_gtm = class_of_prior(name).from_gtm(gtm)
    start = "gtm" if name == "gtm-vamp" else "mean"  # a GTM of latents gives no guide
    no_data = Features(torch.zeros(1, x.shape[1]), are_data=False)
    rebuilt = made(name, x.shape[1], no_data, points_per_side=6, grid_network="rbf", grid_start=start)
    rebuilt.load_state_dict(from_gtm.state_dict())
    encoder = NormalEncoder(mlp(5, [8], 10))
    z = torch.from_numpy(x[:10]).float()
    assert torch.equal(rebuilt(encoder).log_prob(z), from_gtm(encoder).log_prob(z))
    assert rebuilt.network[0].width == gtm.basis_.width


def test_radial_functions_built_from_settings_start_at_the_mean(x):
    rows = torch.from_numpy(x).float()
    options = {"points_per_side": 6, "grid_network": "rbf", "basis_per_side": 4, "basis_width": 0.5}
    prior = made("gtm-vamp", 2, Features(rows), **options)
    assert len(prior.network[0].centers) == 16
    assert prior.network[0].width == pytest.approx(1 / 3)  # half of 2/3
    far = prior.network(torch.full((1, 2), 100.0))[0]  # only the constant is not zero there
    torch.testing.assert_close(far, rows.mean(0))
    with pytest.raises(ValueError, match=r"grid_network\n  Input should be 'mlp' or 'rbf'"):
        made("gtm", 2, Features(rows), grid_network="none")


@pytest.mark.parametrize("preprocess", [None, Rescale(-10.0, 20.0), "standardize"], ids=["none", "rescale", "standard"])
def test_a_sheet_of_affine_features_equals_the_gtms_between_the_nodes(preprocess, gtm, x):
    if preprocess == "standardize":
        preprocess = Standardize.from_data(torch.from_numpy(x).float())
    prior = GTMVampPrior.from_gtm(gtm, preprocess=preprocess)
    features = preprocess or (lambda values: values)
    images = features(torch.from_numpy(gtm.means_).float())
    torch.testing.assert_close(prior.pseudo_inputs, images, atol=1e-5, rtol=1e-5)
    between = features(torch.from_numpy(gtm.inverse_transform(PLACES.numpy())).float())
    torch.testing.assert_close(prior.network(PLACES.float()), between, atol=1e-5, rtol=1e-5)


def sheet_within(x: np.ndarray, preprocess, low, high, **options):
    gtm = GTM(points_per_side=6, max_iter=10, tol=1.0, **options).fit(x)
    prior = GTMVampPrior.from_gtm(gtm, preprocess=preprocess, low=low, high=high)
    return gtm, prior, prior.pseudo_inputs.detach().double()


def test_images_outside_of_the_range_are_moved_inside():
    """With as many functions as nodes, least squares are exact."""
    x = np.clip(8 * bent_sheet() / 3, 0, 16).round()
    gtm, prior, pseudo_inputs = sheet_within(x, Rescale(0.0, 16.0), 0.0, 1.0, basis_per_side=6, tether=0.0)
    assert gtm.means_.max() > 16 or gtm.means_.min() < 0
    expected = torch.from_numpy(gtm.means_ / 16).clamp(1 / 128, 1 - 1 / 128)
    torch.testing.assert_close(pseudo_inputs, expected, atol=1e-3, rtol=0)
    assert 0 < pseudo_inputs.min() < pseudo_inputs.max() < 1
    _, _, few = sheet_within(x, Rescale(0.0, 16.0), 0.0, 1.0)
    assert (few - expected).square().mean().sqrt() < 0.05
    grid, network = latent_grid(6), prior.network
    assert prior.feature_range.constrain(network(PLACES.float())).isfinite().all()
    torch.testing.assert_close(prior.nodes, grid)


class Logarithm(nn.Module):
    """A preprocessing without finite values below zero."""

    def forward(self, x):
        return x.log()


def test_images_of_counts_stay_above_the_lower_bound():
    x = np.maximum(bent_sheet(8), 0.0).round() ** 2
    preprocess = LogNormalize.from_data(torch.from_numpy(x))
    gtm, prior, pseudo_inputs = sheet_within(x, preprocess, 0.0, None, basis_per_side=6)
    assert gtm.means_.min() < 0  # these have no logarithm
    expected = preprocess(torch.from_numpy(np.maximum(gtm.means_, 0.0)))
    torch.testing.assert_close(pseudo_inputs, expected.maximum(expected.amax(0) / 1024), atol=1e-2, rtol=0)
    assert float(prior.feature_range.scale) == pytest.approx(float(expected.max()))
    with pytest.raises(ValueError, match=r"preprocess: expected finite features of the nodes' images, got NaN"):
        GTMVampPrior.from_gtm(gtm, preprocess=Logarithm())


def test_pseudo_inputs_train_through_the_encoder(gtm, x):
    encoder = NormalEncoder(mlp(5, [8], 4))
    prior = GTMVampPrior.from_gtm(gtm)
    prior(encoder).log_prob(torch.zeros(3, 2)).sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in prior.parameters())


def test_invalid_arguments_raise_clear_errors(gtm):
    for kind in (GTMPrior, GTMVampPrior):
        with pytest.raises(ValueError, match=r"gtm: expected a fitted GTM, got a GTM without means_, .*call gtm.fit"):
            kind.from_gtm(GTM())
    broken = SimpleNamespace(**{name: getattr(gtm, name) for name in ("means_", "nodes_", "weights_", "basis_")})
    broken.noise_variance_, broken.basis_weights_ = 1.0, gtm.basis_weights_[:, :3]
    with pytest.raises(ValueError, match=r"basis_weights_ of shape \(10, 5\), .*got \(10, 3\), 36 and 36"):
        GTMPrior.from_gtm(broken)
    other = Standardize(torch.zeros(4), torch.ones(4))
    with pytest.raises(ValueError, match=r"preprocess: expected a module for the 5 columns that the GTM was fitted to"):
        GTMVampPrior.from_gtm(gtm, preprocess=other)


def test_em_of_a_gtm_prior_equals_the_classical_gtm(x):
    z = torch.from_numpy(x - 3.0).float()
    for learn_weights in (True, False):
        options = {"points_per_side": 5, "grid_network": "rbf", "basis_width": 1.2, "learn_weights": learn_weights}
        prior = made("gtm", 5, Features(z), **options)
        assert prior.fit_by_em(z)
        gtm = GTM(points_per_side=5, basis_width=1.2).fit(z.double().numpy())
        np.testing.assert_allclose(prior().log_prob(z).detach(), gtm.score_samples(z.numpy()), atol=1e-3)
    with pytest.raises(ValueError, match=r"z: expected draws \(N, 5\), got \(300, 4\)"):
        prior.fit_by_em(z[:, :4])


def test_em_of_a_gtm_vamp_prior_equals_a_gtm_of_the_features(x):
    features = torch.from_numpy(x).float()
    prior = made("gtm-vamp", 2, Features(features), points_per_side=5, grid_network="rbf")
    assert not prior.fit_by_em(torch.zeros(3, 2))
    assert prior.fit_by_em(torch.zeros(3, 2), lambda: features)
    gtm = GTM(points_per_side=5).fit(features.double().numpy())
    torch.testing.assert_close(prior.pseudo_inputs.double(), torch.from_numpy(gtm.means_), atol=1e-4, rtol=0)


def test_em_of_a_mixture_equals_scikit_learns():
    z = np.concatenate([RANDOM.normal(loc, 0.5, (200, 2)) for loc in (-3.0, 0.0, 3.0)])
    prior = MixtureOfGaussians(2, 3)
    assert prior.fit_by_em(torch.from_numpy(z).float(), seed=1)
    mixture = GaussianMixture(3, covariance_type="diag", random_state=1).fit(z)
    log_prob = prior().log_prob(torch.from_numpy(z).float()).detach()
    np.testing.assert_allclose(log_prob, mixture.score_samples(z), atol=1e-3)
    assert not MixtureOfGaussians(2, 3, learn_weights=False).fit_by_em(torch.from_numpy(z).float())
    with pytest.raises(ValueError, match=r"z: expected \(N, 2\) with at least 3 rows, one for each component"):
        prior.fit_by_em(torch.zeros(2, 2))


def test_fit_by_em_does_not_change_priors_without_closed_form_steps():
    z = torch.zeros(3, 2)
    features = Features(torch.zeros(3, 2))
    shifted = GTMPrior(2, latent_grid(3, low=0.0), made("gtm", 2, features, grid_network="rbf").network)
    assert options_of(shifted.nodes, shifted.network) is None
    for prior in (shifted, *(made(name, 2, features, components=3) for name in MEMBERS if name != "mog")):
        before = {name: value.clone() for name, value in prior.state_dict().items()}
        assert not prior.fit_by_em(z, lambda: z)
        assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())
