"""The guide of a grid and the guided bound, compared with loops, closed forms and other libraries."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.distributions import kl_divergence

from priory import (
    GTM,
    VAE,
    BernoulliDecoder,
    GTMPrior,
    GTMVampPrior,
    Guide,
    NormalEncoder,
    Rescale,
    StandardNormal,
    elbo,
    fit,
    guided_elbo,
    latent_grid,
    mlp,
)
from priory.export import Placer
from priory.maps import TopographicMap
from priory.maps.model_surface import ModelSurface
from priory.objectives import Guided, elbos
from priory.priors.radial import fitted_gtm
from priory.training.settings import TrainingSettings
from priory.training.steering import named_objective
from priory.workbench.data import load_dataset
from priory.workbench.jobs.vae import new_run, train
from priory.workbench.models import facts
from priory.workbench.models import priors as building_priors
from priory.workbench.models.building import DataFacts, build_vae, input_noise
from priory.workbench.models.priors import rows_for_gtm
from priory.workbench.settings.model import ModelSettings
from priory.workbench.settings.run import RunSettings


@pytest.fixture
def images():
    return torch.tensor([[0.1, 0.2, 0.9], [0.8, 0.3, 0.1], [0.5, 0.5, 0.5], [0.0, 1.0, 0.4]])


def guided_vae(images, prior="gtm-vamp", weights=None):
    torch.manual_seed(0)
    guide, grid = Guide(images, 0.05, weights), latent_grid(2)
    chosen = (
        GTMPrior(2, grid, mlp(2, [8], 4), guide=guide)
        if prior == "gtm"
        else GTMVampPrior(grid, mlp(2, [8], 3), low=0.0, high=1.0, guide=guide)
    )
    return VAE(NormalEncoder(mlp(3, [8], 4)), BernoulliDecoder(mlp(2, [8], 3)), chosen)


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_responsibilities_equal_those_of_a_mixture_of_isotropic_normals(images, shift):
    weights, x = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.rand(5, 3, generator=torch.Generator().manual_seed(1))
    responsibilities = Guide(images + shift, 0.07, weights).log_responsibilities(x + shift).exp().numpy()
    for row, shares in zip(x.double().numpy(), responsibilities, strict=True):
        densities = np.array(
            [w * multivariate_normal(m, 0.07).pdf(row) for w, m in zip(weights.tolist(), images.numpy(), strict=True)]
        )
        np.testing.assert_allclose(shares, densities / densities.sum(), rtol=1e-4 if shift == 0 else 1e-2)


def test_the_effect_of_the_context_is_subtracted_from_the_features(images):
    x, context = torch.rand(5, 3), torch.rand(5, 2)
    guide = Guide(images, 0.07, effect=torch.nn.Linear(2, 3))
    with torch.no_grad():
        moved = x + guide.effect(context)
    expected = Guide(images, 0.07).log_responsibilities(x)
    torch.testing.assert_close(guide.log_responsibilities(moved, context), expected)
    torch.testing.assert_close(guide.evidence(moved, 2, context), 2 / 3 * expected)
    with pytest.raises(ValueError, match="context: expected the rows' context"):
        guide.log_responsibilities(moved)


def test_a_guide_from_a_gtm_has_its_responsibilities():
    x = np.random.default_rng(0).random((200, 3))
    gtm = GTM(points_per_side=5, max_iter=20, tol=0.1).fit(x)
    prior = GTMVampPrior.from_gtm(gtm)
    responsibilities = prior.guide.log_responsibilities(torch.from_numpy(x)).exp()
    np.testing.assert_allclose(responsibilities, gtm.predict_proba(x), atol=1e-4)


def test_the_noise_of_a_guide_is_converted_to_the_features():
    x = np.random.default_rng(0).random((200, 3)) * 16
    gtm = GTM(points_per_side=5, max_iter=20, tol=0.1).fit(x)
    guide = GTMVampPrior.from_gtm(gtm, preprocess=Rescale(0.0, 16.0), low=0.0, high=1.0).guide
    assert float(guide.noise_variance) == pytest.approx(gtm.noise_variance_ / 256, rel=0.05)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("prior", ["gtm", "gtm-vamp"])
def test_the_guided_bound_equals_its_formula(images, prior, weight):
    vae = guided_vae(images, prior, torch.tensor([0.4, 0.3, 0.2, 0.1]))
    with torch.no_grad():
        vae.prior.mixing_logits.copy_(torch.tensor([0.0, 0.5, -0.2, 0.3]))
        x = torch.rand(3, 3, generator=torch.Generator().manual_seed(2)).round()
        torch.manual_seed(3)
        terms = guided_elbo(vae, x, weight, num_samples=20_000)
        p_z, q = vae.latent_prior(), vae.encode(x)
        shares = vae.prior.guide.log_responsibilities(x).exp()
        for n in range(3):
            q_n = torch.distributions.Independent(torch.distributions.Normal(q.mean[n], q.stddev[n]), 1)
            whole = 0.0
            for k in range(4):
                p_k = torch.distributions.Independent(
                    torch.distributions.Normal(p_z.components.mean[k], p_z.components.stddev[k]), 1
                )
                r = float(shares[n, k])
                log_pi = float(torch.log_softmax(vae.prior.mixing_logits, 0)[k])
                whole += r * (float(kl_divergence(q_n, p_k)) - log_pi + math.log(max(r, 1e-300)))
            z = q_n.sample((50_000,))
            true = float((q_n.log_prob(z) - p_z.log_prob(z)).mean())
            assert float(terms.kl[n]) == pytest.approx((1 - weight) * true + weight * whole, abs=0.05)


@pytest.mark.parametrize("prior", ["gtm", "gtm-vamp"])
def test_the_guided_bound_falls_with_the_weight_and_starts_at_the_elbo(images, prior):
    vae = guided_vae(images, prior)
    x = torch.rand(50, 3, generator=torch.Generator().manual_seed(4)).round()
    values = []
    for weight in (0.0, 0.5, 1.0):
        torch.manual_seed(0)
        values.append(guided_elbo(vae, x, weight, num_samples=64).value())
    torch.manual_seed(0)
    torch.testing.assert_close(values[0], elbo(vae, x, num_samples=64).value(), rtol=1e-4, atol=1e-4)
    assert (values[0] > values[1]).all()
    assert (values[1] > values[2]).all()


def test_a_guide_that_equals_the_posterior_of_nodes_costs_nothing(images):
    """Components are far apart, so p(k | z) is one-hot, as the guide with little noise is at its images."""
    vae = guided_vae(images)

    class Far(torch.nn.Module):
        def forward(self, features):
            loc = 50 * features[..., :2]
            return torch.distributions.Independent(torch.distributions.Normal(loc, torch.ones_like(loc)), 1)

    vae.encoder = Far()
    x = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    vae.prior.guide = Guide(x, 1e-6)
    vae.prior.pseudo_inputs_at = lambda u: x
    torch.manual_seed(0)
    guided = guided_elbo(vae, x, 1.0, num_samples=8).value()
    torch.manual_seed(0)
    torch.testing.assert_close(guided, elbo(vae, x, num_samples=8).value(), rtol=1e-4, atol=1e-3)


def test_guide_and_encoder_read_preprocessed_rows(images):
    vae, x = guided_vae(images), torch.rand(6, 3, generator=torch.Generator().manual_seed(2)).round()
    torch.manual_seed(0)
    plain = guided_elbo(vae, x).kl
    vae.preprocess = Rescale(0.0, 1.0)
    vae.preprocess.forward = lambda rows: 1 - rows
    torch.manual_seed(0)
    torch.testing.assert_close(guided_elbo(vae, 1 - x).kl, plain)


def test_a_guide_from_a_gtm_has_its_mixing_weights():
    gtm = GTM(points_per_side=2, max_iter=5, tol=0.1).fit(np.random.default_rng(0).random((50, 3)))
    gtm.weights_ = np.array([0.4, 0.3, 0.2, 0.1])
    guide = GTMVampPrior.from_gtm(gtm).guide
    np.testing.assert_allclose(guide.log_weights.exp(), gtm.weights_, rtol=1e-6)


def test_training_uses_the_guidance_and_the_number_of_draws_from_the_settings(images, monkeypatch):
    calls = []
    monkeypatch.setattr(
        elbos,
        "guided_terms",
        lambda *arguments, **options: calls.append((arguments[2], options)) or (e := elbo(*arguments[:2]), e.kl),
    )
    fit(
        guided_vae(images), images.round(), None, epochs=1, batch_size=4, warmup=0, guidance=0.25, num_samples=3, seed=1
    )
    assert calls == [(0.25, {"num_samples": 3, "prior": None})]


@pytest.mark.parametrize(("num_rows", "weight"), [(4, 1.0), (2000, 0.25)])
def test_the_weight_of_a_guide_falls_with_the_number_of_rows(images, num_rows, weight):
    objective = named_objective(TrainingSettings(), guided_vae(images), num_rows)
    assert objective == Guided(guidance=weight)


@torch.no_grad()
def test_responsibilities_of_a_map_combine_code_and_guide(images):
    vae, x = guided_vae(images), torch.rand(5, images.shape[1], generator=torch.Generator().manual_seed(1))
    p_z, z = vae.eval().latent_prior(), vae.encode(x).mean
    latent_dim, num_features = z.shape[1], images.shape[1]
    guide = vae.prior.guide
    expected = torch.empty(5, 4, dtype=torch.float64)
    for n, row in enumerate(x):
        for k, image in enumerate(guide.images):
            far = -0.5 * float((row - image).square().sum()) / float(guide.noise_variance) + float(guide.log_weights[k])
            code = float(p_z.component_log_prob(z[n])[k])
            expected[n, k] = math.exp(code + min(1, latent_dim / num_features) * far)
    expected /= expected.sum(1, keepdim=True)
    torch.testing.assert_close(ModelSurface(vae).responsibilities(x), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(Placer(vae)(x).double(), TopographicMap(vae, x).places.place, rtol=1e-5, atol=1e-5)
    program = torch.export.export(Placer(vae), (x,), dynamic_shapes=[{0: torch.export.Dim.DYNAMIC}])
    torch.testing.assert_close(program.module()(x[:3]), Placer(vae)(x[:3]))


@pytest.mark.parametrize(
    ("change", "num_rows", "functions"),
    [
        ({}, 320, 4),
        ({}, 319, 2),
        ({"basis_per_side": 3}, 320, 3),
        ({"grid_start": "mean"}, 320, 2),
        ({"points_per_side": 40}, 10**6, 20),
    ],
)
def test_a_grid_has_as_many_radial_functions_as_nodes_if_there_are_enough_rows(change, num_rows, functions):
    settings = ModelSettings(**{"prior": "gtm-vamp", "points_per_side": 4} | change)
    assert settings.for_rows(num_rows).functions_per_side == functions


@pytest.mark.parametrize(
    ("change", "num_rows", "side"),
    [
        ({}, 10, 20),
        ({}, 8000, 20),
        ({}, 12_500, 25),
        ({}, 10**7, 30),
        ({"points_per_side": 5}, 10**7, 5),
        ({"grid_dim": 1}, 1000, 400),
        ({"grid_dim": 3}, 10**7, 9),
    ],
)
def test_the_number_of_nodes_follows_the_number_of_rows_unless_it_is_given(change, num_rows, side):
    settings = ModelSettings(**{"prior": "gtm-vamp"} | change)
    assert settings.for_rows(num_rows).points_per_side == side


@pytest.mark.parametrize("prior", ["gtm", "gtm-vamp"])
def test_the_history_of_a_guided_training_has_the_elbo(images, prior):
    vae, x = guided_vae(images, prior), images.round()
    history = fit(vae, x, None, epochs=1, batch_size=4, warmup=0, learning_rate=1e-9, num_samples=4000, seed=1)
    with torch.no_grad():
        expected = elbo(vae, x, num_samples=4000)
        guided = guided_elbo(vae, x, num_samples=4000)
    assert history["train_elbo"][0] == pytest.approx(float(expected.value().mean()), abs=0.05)
    assert history["train_kl"][0] == pytest.approx(float(expected.kl.mean()), abs=0.05)
    assert float(guided.kl.mean()) > float(expected.kl.mean()) + 0.3  # training maximized the guided bound instead


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_node_with_weight_zero_in_the_guide_does_not_affect_the_bound(images, dtype):
    vae, x = guided_vae(images).to(dtype), images.round().to(dtype)
    values = {}
    for weight in (0.0, 1e-30):
        vae.prior.guide = Guide(images, 0.05, torch.tensor([0.5, 0.5, weight, 0.0])).to(dtype)
        torch.manual_seed(0)
        values[weight] = guided_elbo(vae, x).kl
    torch.testing.assert_close(values[0.0], values[1e-30])
    values[0.0].sum().backward()
    assert all(p.grad.isfinite().all() for p in vae.prior.parameters())


def test_the_guided_bound_stays_precise_under_autocast(images):
    vae, x = guided_vae(images), images.round()
    torch.manual_seed(0)
    exact = guided_elbo(vae, x, 0.5).kl
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        kl = guided_elbo(vae, x, 0.5).kl
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl, exact, rtol=0.03, atol=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v, i: guided_elbo(v, i, 1.5), "weight: expected a number from 0 to 1, got 1.5"),
        (lambda v, i: guided_elbo(v, i, num_samples=0), "num_samples: expected a positive number"),
        (lambda v, i: guided_elbo(VAE(v.encoder, v.decoder, StandardNormal(2)), i), "a StandardNormal without"),
        (lambda v, i: Guide(i[0], 1.0), "images: expected shape"),
        (lambda v, i: Guide(i, 0.0), "noise_variance: expected a positive number, got 0.0"),
        (lambda v, i: Guide(i, 1.0, torch.ones(3)), "weights: expected one for each of 4 images"),
        (
            lambda v, i: Guide(i, 1.0, torch.tensor([0.5, 0.6, 0.1, -0.2])),
            "weights: expected finite numbers of at least 0",
        ),
        (lambda v, i: Guide(i, 1.0, torch.zeros(4)), "weights: expected finite numbers of at least 0, not all zero"),
        (lambda v, i: GTMPrior(2, latent_grid(3), mlp(2, [8], 4), guide=Guide(i, 1.0)), "for each of 9 nodes, got 4"),
    ],
)
def test_invalid_arguments_raise_clear_errors(images, call, message):
    with pytest.raises(ValueError, match=message):
        call(guided_vae(images), images)


def test_guided_training_assigns_images_to_the_nodes_of_the_guide(images):
    """After guided training, the likeliest node of each image is its own node; without guidance it often is not."""
    agreement = {}
    x = images[torch.randint(4, (400,), generator=torch.Generator().manual_seed(0))].round(decimals=0)
    expected = Guide(images, 0.05).log_responsibilities(x).argmax(1)
    for guidance in (0.0, 1.0):
        vae = guided_vae(images, "gtm")
        fit(vae, x, None, epochs=60, batch_size=50, warmup=0, guidance=guidance, learning_rate=1e-2, seed=1)
        with torch.no_grad():
            node = vae.latent_prior().responsibilities(vae.encode(x).mean).argmax(1)
        agreement[guidance] = float((node == expected).double().mean())
    assert agreement[1.0] == 1.0
    assert agreement[0.0] < 0.6


def test_a_grid_built_from_settings_starts_as_a_gtm_of_the_features_with_its_guide():
    x = torch.randint(0, 17, (300, 6), generator=torch.Generator().manual_seed(0)).float()
    settings = ModelSettings(prior="gtm-vamp", points_per_side=4, likelihood="categorical", num_levels=17, hidden=(8,))
    vae = build_vae(settings, DataFacts(6, 300, 300, x))
    gtm = GTM(points_per_side=4).fit(x.double().numpy() / 16)
    torch.testing.assert_close(vae.prior.guide.images, torch.from_numpy(gtm.means_).float(), rtol=1e-3, atol=1e-3)
    assert float((vae.prior.pseudo_inputs - vae.prior.guide.images).detach().abs().max()) < 0.1
    assert vae.encoder.input_noise == pytest.approx(3 * math.sqrt(gtm.noise_variance_), rel=1e-3)
    assert input_noise(settings, vae.prior, 6000) == pytest.approx(0.5 * math.sqrt(gtm.noise_variance_), rel=1e-3)
    assert (
        build_vae(settings.model_copy(update={"input_noise": 0.5}), DataFacts(6, 300, 300, x)).encoder.input_noise
        == 0.5
    )
    plain = build_vae(settings.model_copy(update={"grid_start": "mean"}), DataFacts(6, 300, 300, x))
    assert plain.prior.guide is None
    assert plain.encoder.input_noise == 0
    rebuilt = build_vae(settings, DataFacts(6, 300, 300))  # for saved weights
    rebuilt.load_state_dict(vae.state_dict())
    torch.testing.assert_close(rebuilt.prior.guide.images, vae.prior.guide.images)


@pytest.mark.parametrize("training", [True, False])
def test_noise_is_added_to_the_encoders_input_in_training_only(training):
    encoder = NormalEncoder(torch.nn.Linear(4, 2, bias=False), input_noise=0.5).train(training)
    with torch.no_grad():
        torch.nn.init.ones_(encoder.network.weight)
        means = encoder(torch.zeros(20_000, 4)).mean
    expected = 0.5 * 2 if training else 0.0  # standard deviation of a sum of four
    assert float(means.std()) == pytest.approx(expected, rel=0.03)


def test_the_prior_is_evaluated_without_noise():
    vae = guided_vae(torch.rand(4, 3, generator=torch.Generator().manual_seed(0)))
    vae.encoder.input_noise = 5.0
    vae.train()
    expected = vae.encoder.eval()(vae.prior.pseudo_inputs).mean
    vae.encoder.train()
    torch.testing.assert_close(vae.latent_prior().components.mean, expected)
    assert vae.encoder.training


@pytest.fixture
def settings():
    model = {"prior": "gtm-vamp", "points_per_side": 3, "hidden": (8,), "latent_dim": 2}
    training = {"epochs": 1, "batch_size": 300, "warmup": 10}
    return RunSettings(data={"source": "digits"}, model=model, training=training)


def test_a_resumed_run_keeps_guide_and_noise_and_fits_no_gtm(tmp_path, monkeypatch, settings):
    fits = []
    monkeypatch.setattr(building_priors, "fitted_gtm", lambda *arguments: fits.append(1) or fitted_gtm(*arguments))
    with new_run(settings, tmp_path / "one") as (run, dataset, _, vae):
        train(run, dataset, vae)
    assert len(fits) == 1
    train(run.lengthened(2), dataset, resume=True)
    assert len(fits) == 1
    longer = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 2})})
    with new_run(longer, tmp_path / "two") as (whole, dataset, _, vae):
        expected = train(whole, dataset, vae)
    model, num_rows = run.load_model(), len(dataset.rows("train"))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.state_dict().items())
    assert model.encoder.input_noise == expected.encoder.input_noise
    noise = 3 * min(1, 1000 / num_rows) * math.sqrt(float(expected.prior.guide.noise_variance))
    assert model.encoder.input_noise == pytest.approx(noise)


def test_input_noise_falls_with_all_training_rows_even_if_initial_values_use_fewer(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(facts, "MOST_START_ROWS", 200)
    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=(2500, 5)))
    data = facts.facts_of(load_dataset(tmp_path / "table.npy").rows("train"), None, 0)
    vae = build_vae(settings.model.model_copy(update={"likelihood": "gaussian"}), data)
    assert len(data.rows) == 200
    assert vae.encoder.input_noise == pytest.approx(3 * 1000 / 2000 * math.sqrt(float(vae.prior.guide.noise_variance)))


def test_negative_noise_is_refused():
    with pytest.raises(ValueError, match="input_noise: expected a standard deviation of at least 0, got -1"):
        NormalEncoder(torch.nn.Linear(4, 2), input_noise=-1.0)


@pytest.mark.parametrize(("shape", "expected"), [((500, 4), 500), ((20_000, 784), 20_000), ((20_000, 20_000), 3355)])
def test_the_initial_gtm_uses_fewer_rows_if_they_are_very_wide(shape, expected):
    assert rows_for_gtm(*shape) == expected
