"""Several levels of latent variables, compared with joint normals of linear-Gaussian models and with loops."""

import math
import re
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

import priory
from linear_hierarchy import NUM_INPUTS, ExactEncoder, Hierarchy, part_of
from priory import (
    VAE,
    BernoulliDecoder,
    Chain,
    Guide,
    HierarchicalEncoder,
    HierarchicalPrior,
    MixtureOfGaussians,
    NormalEncoder,
    StandardNormal,
    TopographicMap,
    VampPrior,
    as_model,
    diagonal_normal,
    elbo,
    evaluate,
    guided_elbo,
    importance_weighted_bound,
    log_likelihood,
    mlp,
    refit,
)
from priory.distributions.chain import center_of, scale_of
from priory.evaluation import METRIC_DESCRIPTIONS
from priory.export import Encoding, LatentDensity, Placer, Scorer
from priory.objectives import (
    DoublyReparameterized,
    EvidenceLowerBound,
    ImportanceWeighted,
    StickingTheLanding,
)
from priory.training.refitting import Posteriors
from priory.workbench.models.building import build_vae
from priory.workbench.models.facts import DataFacts
from priory.workbench.settings.model import ModelSettings

TOPS = ("standard", "mog", "vamp", "gtm", "gtm-vamp", "flow")
SMALL = {"components": 5, "points_per_side": 3, "prior_hidden": (8,), "hidden": (8,)}
WITHOUT_START = {"grid_start": "mean", "grid_network": "mlp"}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small(prior: str = "vamp", levels: int = 2, **settings) -> tuple[VAE, Tensor]:
    """Return a model of binary rows as the command line builds it, in evaluation mode, and the rows."""
    x = torch.rand(60, 6).round()
    all_settings = SMALL | WITHOUT_START | {"latent_dim": 2, "levels": levels, "likelihood": "bernoulli"} | settings
    return build_vae(ModelSettings.of_prior(prior, **all_settings), DataFacts(6, 60, 60, x)).eval(), x


@pytest.mark.parametrize("num_levels", [2, 3])
def test_a_chain_of_linear_normals_equals_their_joint_normal(num_levels):
    hierarchy = Hierarchy(num_levels)
    chain, expected = hierarchy.vae.latent_prior(), hierarchy.prior()
    z = 2 * torch.randn(3, 50, *expected.event_shape, dtype=torch.float64)
    torch.testing.assert_close(chain.log_prob(z), expected.log_prob(z))
    by_level = chain.log_prob_by_level(z)
    assert by_level.shape == (3, 50, num_levels)
    torch.testing.assert_close(by_level.sum(-1), expected.log_prob(z))
    for draws in (chain.sample((50_000,)), chain.rsample((50_000,))):
        torch.testing.assert_close(draws.T.cov(), expected.covariance_matrix, rtol=0.04, atol=0.05)
    torch.testing.assert_close(center_of(chain), expected.mean)
    sizes = [sum(hierarchy.levels[:level]) for level in range(num_levels + 1)]
    for start, end in pairwise(sizes):  # the conditional variance, given the levels above
        cov = expected.covariance_matrix[:end, :end]
        left = 1 / torch.linalg.inv(cov)[start:, start:].diagonal()
        torch.testing.assert_close(scale_of(chain)[start:end].square(), left)


@pytest.mark.parametrize("num_levels", [2, 3])
def test_a_posterior_of_levels_equals_the_joint_normal_for_every_row_and_draw(num_levels):
    hierarchy = Hierarchy(num_levels)
    x = torch.randn(4, NUM_INPUTS, dtype=torch.float64)
    q, z = hierarchy.vae.encode(x), torch.randn(7, 4, sum(hierarchy.levels), dtype=torch.float64)
    expected = torch.stack([hierarchy.approximate(row).log_prob(z[:, i]) for i, row in enumerate(x)], 1)
    torch.testing.assert_close(q.log_prob(z), expected, rtol=1e-5, atol=1e-5)
    assert q.expand((3, 4)).sample((2,)).shape == (2, 3, 4, sum(hierarchy.levels))


def test_the_bound_of_the_exact_posterior_equals_the_evidence_for_every_draw():
    hierarchy = Hierarchy()
    vae = VAE(ExactEncoder(hierarchy), hierarchy.vae.decoder, hierarchy.vae.prior)
    x = hierarchy.evidence().sample((20,))
    expected = hierarchy.evidence().log_prob(x)
    torch.testing.assert_close(elbo(vae, x).value(), expected)
    torch.testing.assert_close(importance_weighted_bound(vae, x, num_samples=3), expected)


@pytest.mark.parametrize("num_levels", [2, 3])
def test_importance_sampling_converges_to_the_evidence(num_levels):
    hierarchy = Hierarchy(num_levels)
    x = hierarchy.evidence().sample((10,))
    estimate = log_likelihood(hierarchy.vae, x, num_samples=20_000)
    torch.testing.assert_close(estimate, hierarchy.evidence().log_prob(x).detach(), rtol=0, atol=0.05)


@pytest.mark.parametrize("num_levels", [2, 3])
@pytest.mark.parametrize(
    "objective",
    [EvidenceLowerBound(), ImportanceWeighted(1), StickingTheLanding(), DoublyReparameterized(1)],
    ids=lambda objective: type(objective).__name__,
)
def test_gradients_of_the_bound_are_unbiased(objective, num_levels):
    """The ELBO is log p(x) - KL(q(z|x) || p(z|x)), in closed form for joint normals."""
    hierarchy = Hierarchy(num_levels)
    x = hierarchy.evidence().sample()
    parameters = list(hierarchy.vae.parameters())
    closed = hierarchy.evidence().log_prob(x) - kl_divergence(hierarchy.approximate(x), hierarchy.posterior(x))

    def gradient(value: Tensor) -> Tensor:
        return torch.cat([value.detach().reshape(1), *map(torch.flatten, torch.autograd.grad(value, parameters))])

    rows = x.expand(400, -1)
    draws = torch.stack([gradient(objective(hierarchy.vae, rows).bound.value().mean()) for _ in range(30)])
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - gradient(closed)).abs() <= 5 * error + 1e-6).all()


@pytest.mark.parametrize("num_levels", [2, 3])
@pytest.mark.parametrize("objective", [StickingTheLanding(), DoublyReparameterized(4)])
def test_the_detached_posterior_has_no_gradient_in_its_parameters(objective, num_levels):
    """The encoder gets a gradient through z only; with z held constant, it gets none."""
    vae = Hierarchy(num_levels).vae
    z = torch.randn(5, sum(vae.encoder.levels), dtype=torch.float64, requires_grad=True)
    q = vae.encode(torch.randn(5, NUM_INPUTS, dtype=torch.float64))
    log_q = priory.objectives.detached.detached(q).log_prob(z)
    torch.testing.assert_close(log_q, q.log_prob(z))
    (by_z,) = torch.autograd.grad(log_q.sum(), z, retain_graph=True)
    torch.testing.assert_close(by_z, torch.autograd.grad(q.log_prob(z).sum(), z)[0])
    log_q.sum().backward()
    assert all(parameter.grad is None for parameter in vae.encoder.parameters())


@pytest.mark.parametrize("num_levels", [2, 3])
def test_rates_by_level_equal_those_of_the_joint_normals(num_levels):
    """The first rate is KL(q(a|x) || p(a)), and their sum is KL(q(z|x) || p(z)); both have closed forms."""
    hierarchy = Hierarchy(num_levels)
    x = hierarchy.evidence().sample((60,))
    metrics = evaluate(hierarchy.vae, x, num_samples=400)
    top = slice(0, hierarchy.levels[0])
    q, p = [hierarchy.approximate(row) for row in x], hierarchy.prior()
    first = torch.stack([kl_divergence(part_of(each, top), part_of(p, top)) for each in q]).mean()
    total = torch.stack([kl_divergence(each, p) for each in q]).mean()
    rates = [metrics[f"rate_level_{number}"].value for number in range(1, num_levels + 1)]
    assert rates[0] == pytest.approx(first.item(), abs=0.04)
    assert metrics["rate"].value == pytest.approx(total.item(), abs=0.15)
    assert sum(rates) == pytest.approx(metrics["rate"].value)
    assert metrics.keys() <= METRIC_DESCRIPTIONS.keys()
    assert all(math.isfinite(number) for estimate in metrics.values() for number in estimate)


def test_active_units_are_counted_by_level():
    hierarchy = Hierarchy(3)
    with torch.no_grad():  # the means of the second level do not depend on the row
        hierarchy.encoders[1].weight.zero_()
        hierarchy.encoders[2].weight.fill_(1.0)
    metrics = evaluate(hierarchy.vae, hierarchy.evidence().sample((100,)), num_samples=2)
    names = ["active_units", "active_units_level_1", "active_units_level_2", "active_units_level_3"]
    assert [metrics[name].value for name in names] == [4, 3, 0, 1]


def test_metrics_by_level_need_the_same_levels_in_posterior_and_prior():
    flat = NormalEncoder(mlp(6, [8], 2 * 4))
    prior = HierarchicalPrior(MixtureOfGaussians(1, 3), NormalEncoder(mlp(1, [8], 2 * 3)))
    metrics = evaluate(VAE(flat, BernoulliDecoder(mlp(4, [8], 6)), prior), torch.rand(9, 6).round(), num_samples=4)
    assert not [name for name in metrics if "level" in name]
    assert metrics["used_components"].value >= 1  # of the top, whose posterior is known


def test_metrics_of_components_and_holes_describe_the_top_level():
    vae, x = small("mog", latent_dim=1)
    top = VAE(vae.encoder.top, BernoulliDecoder(mlp(1, [8], 6)), vae.prior.top)
    names = ["effective_components", "used_components", "unused_weight", "prior_in_aggregate", "aggregate_in_prior"]
    whole, alone = evaluate(vae, x, num_samples=2), evaluate(top, x, num_samples=2)
    assert [whole[name].value for name in names] == pytest.approx([alone[name].value for name in names], abs=0.01)
    assert "marginal_kl" not in whole


@pytest.mark.parametrize("prior", ["gtm", "gtm-vamp"])
@pytest.mark.parametrize("levels", [2, 3])
def test_the_map_shows_the_top_level(prior, levels):
    vae, x = small(prior, levels)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    drawn = TopographicMap(vae, x)
    top = vae.prior.top(vae.encoder.top)
    share = torch.stack([top.responsibilities(vae.encoder.top(row).mean) for row in x]).double()
    torch.testing.assert_close(drawn.places.mean, share @ vae.prior.top.nodes.double(), atol=1e-5, rtol=0)

    def image(u: Tensor) -> Tensor:
        a = vae.prior.top.components_at(u.float(), vae.encoder.top).mean
        rest = vae.prior.conditional(a)
        b = rest.mean if levels == 2 else torch.cat([m := rest.first.mean, rest.given(m).mean], -1)
        return vae.decode(torch.cat([a, b], -1)).mean.double()

    nodes = drawn.nodes.places
    torch.testing.assert_close(drawn.nodes.contents, image(nodes).detach(), atol=1e-5, rtol=0)
    columns = [(image(nodes + step) - image(nodes - step)) / 0.02 for step in 0.01 * torch.eye(2).double()]
    jacobian = torch.stack(columns, -1)
    stretch = torch.linalg.det(jacobian.mT @ jacobian).clamp(min=0).sqrt()
    torch.testing.assert_close(drawn.nodes.magnification, stretch.detach(), rtol=0.05, atol=1e-4)


def test_the_guided_bound_is_at_most_the_elbo_and_equal_at_weight_zero():
    vae, x = small("gtm-vamp")
    vae.prior.top.guide = Guide(torch.rand(9, 6), 0.5)
    values = []
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        values.append(guided_elbo(vae, x, weight).value())
    torch.manual_seed(1)
    torch.testing.assert_close(values[0], elbo(vae, x).value())
    assert (values[1] < values[0] + 1e-4).all()


@pytest.mark.parametrize("num_levels", [2, 3])
def test_refit_draws_from_the_chain(num_levels):
    hierarchy = Hierarchy(num_levels)
    x = hierarchy.evidence().sample((3,))
    with torch.no_grad():
        draws = Posteriors(hierarchy.vae, priory.rows.as_rows(x, "x")).draws(torch.tensor([2, 0]), 60_000)
        for row, of_row in zip(x[[2, 0]], draws.unbind(1), strict=True):
            expected = hierarchy.approximate(row)
            torch.testing.assert_close(of_row.mean(0), expected.mean, atol=0.03, rtol=0)
            torch.testing.assert_close(of_row.T.cov(), expected.covariance_matrix, atol=0.03, rtol=0)


@pytest.mark.slow
def test_refit_fits_the_top_by_em_and_the_conditional_by_gradient():
    """The aggregate posterior of equal rows is q(z|x), a joint normal that this prior can represent."""
    hierarchy = Hierarchy()
    x = torch.zeros(200, NUM_INPUTS, dtype=torch.float64)
    before = [parameter.clone() for parameter in (*hierarchy.vae.encoder.parameters(), hierarchy.vae.decoder.weight)]
    prior = HierarchicalPrior(MixtureOfGaussians(3, 1).double(), hierarchy.conditionals[0])
    result = refit(
        hierarchy.vae, prior, x, seed=0, epochs=80, learning_rate=0.05, batch_size=200, draws=5, validation_draws=20
    )
    assert result.by_em
    expected = hierarchy.approximate(x[0])
    torch.testing.assert_close(prior.top.loc[0], expected.mean[:3], atol=0.1, rtol=0)
    assert result.course[result.best] == pytest.approx(-expected.entropy().item(), abs=0.08)
    after = [*hierarchy.vae.encoder.parameters(), hierarchy.vae.decoder.weight]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("prior", TOPS)
def test_any_prior_at_the_top_can_be_trained_and_saved(prior, levels, tmp_path):
    vae, x = small(prior, levels)
    vae.train()
    elbo(vae, x).value().mean().backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    vae.eval()
    priory.save(vae, tmp_path / "model")
    again = priory.load(tmp_path / "model")
    z = vae.latent_prior().sample((5,))
    assert torch.equal(again.latent_prior().log_prob(z), vae.latent_prior().log_prob(z))
    assert torch.equal(again.encode(x).log_prob(z[0]), vae.encode(x).log_prob(z[0]))
    assert torch.equal(again.reconstruct(x), vae.reconstruct(x))


def test_a_model_of_functions_can_have_levels():
    vae, _ = small("vamp")
    model = as_model(encode=vae.encode, decode=vae.decode, prior=vae.prior, modules=[vae])
    z = vae.latent_prior().sample((5,))
    torch.testing.assert_close(model.latent_prior().log_prob(z), vae.latent_prior().log_prob(z))


def test_only_the_top_encoder_reads_pseudo_inputs_of_the_top():
    vae, _ = small("vamp")
    read = []
    vae.encoder.rest.register_forward_hook(lambda *arguments: read.append(arguments))
    p = vae.latent_prior()
    torch.testing.assert_close(p.first.components.mean, vae.encoder.top(vae.prior.top.pseudo_inputs).mean)
    assert not read


def test_noise_on_the_input_is_the_same_for_all_levels():
    read = []
    encoder = HierarchicalEncoder(
        NormalEncoder(mlp(6, [], 4)), NormalEncoder(mlp(8, [], 4)), features=torch.nn.Linear(6, 6), input_noise=0.5
    )
    for part in (encoder.top, encoder.features):
        part.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    x = torch.rand(5, 6)
    encoder(x), encoder.eval()(x)
    assert torch.equal(read[0], read[1])
    assert not torch.equal(read[0], x)
    assert torch.equal(read[2], x)
    assert torch.equal(read[3], x)


@pytest.mark.slow  # ten seconds of torch.export
def test_exported_programs_agree_with_the_model():
    vae, x = small("gtm-vamp")
    rows = {0: torch.export.Dim.DYNAMIC}
    q, z = vae.encode(x), vae.latent_prior().sample((7,))
    for module, inputs, expected in (
        (Encoding(vae), x, (center_of(q), scale_of(q))),
        (LatentDensity(vae), z, vae.latent_prior().log_prob(z)),
        (Placer(vae), x, TopographicMap(vae, x).places.place.float()),
    ):
        program = torch.export.export(module, (inputs[:3],), dynamic_shapes=[rows]).module()
        torch.testing.assert_close(program(inputs), expected, atol=1e-5, rtol=1e-5)


def test_a_scorer_of_levels_is_refused():
    vae, x = small("vamp")
    with pytest.raises(TypeError, match=r"encode: expected a diagonal normal, .*, got Chain\(levels: \(2, 2\)"):
        Scorer(vae)(x)


def test_gated_networks_equal_the_published_ones():
    """Compare the networks of `--network gated` with the layers of HVAE_2level, one by one."""
    settings = ModelSettings(latent_dim=40, levels=2, network="gated", likelihood="bernoulli")
    vae = build_vae(settings, DataFacts(784, 2, 2, torch.rand(2, 784).round()))

    def gated(layer, h):
        a, b = layer.linear(h).chunk(2, -1)
        return a * torch.sigmoid(b)

    x, z2, z1 = torch.rand(5, 784), torch.randn(5, 40), torch.randn(5, 40)
    (of_h, of_z2), joint, last = vae.encoder.rest.network[0].branches, *vae.encoder.rest.network[1:]
    assert len(of_h) == 0
    h = torch.cat([gated(vae.encoder.features[0], x), gated(of_z2[0], z2)], -1)
    expected = last(gated(joint, h))[:, :40]
    torch.testing.assert_close(vae.encode(x).given(z2).mean, expected)
    (z1_layers, z2_layers), joint, last = [*vae.decoder.network[0].branches][::-1], *vae.decoder.network[1:]
    h = torch.cat([gated(z2_layers[0], z2), gated(z1_layers[0], z1)], -1)
    torch.testing.assert_close(vae.decode(torch.cat([z2, z1], -1)).mean, torch.sigmoid(last(gated(joint, h))))

    def dense(inputs, outputs):
        return outputs * (inputs + 1)

    def heads(outputs):
        return 2 * dense(300, outputs)

    q2 = 2 * dense(784, 300) + 2 * dense(300, 300) + heads(40)
    q1 = 2 * (dense(784, 300) + dense(40, 300) + dense(600, 300)) + heads(40)
    p1 = 2 * (dense(40, 300) + dense(300, 300)) + heads(40)
    p_x = 2 * (dense(40, 300) + dense(40, 300) + dense(600, 300)) + dense(300, 784)
    assert sum(parameter.numel() for parameter in vae.parameters()) == q2 + q1 + p1 + p_x


@pytest.mark.parametrize("network", ["mlp", "gated", "conv", "family:Residual"])
def test_levels_work_with_every_network(network):
    x = torch.rand(20, 36).round()
    settings = ModelSettings(latent_dim=2, levels=3, lower_dims=(3, 1), network=network, likelihood="bernoulli")
    vae = build_vae(settings, DataFacts(36, 20, 20, x, (6, 6)))
    assert vae.encoder.levels == vae.prior.levels == (2, 3, 1)
    assert elbo(vae, x, num_samples=2).value().shape == (20,)


def flat_encoder(latent_dim: int) -> NormalEncoder:
    return NormalEncoder(mlp(6, [], 2 * latent_dim))


def test_levels_that_do_not_match_are_refused():
    encoder = HierarchicalEncoder(flat_encoder(2), NormalEncoder(mlp(8, [], 2 * 3)))
    decoder = BernoulliDecoder(mlp(5, [], 6))
    standard = HierarchicalPrior(StandardNormal(3), NormalEncoder(mlp(3, [], 2 * 2)))
    vamp = HierarchicalPrior(VampPrior(torch.rand(4, 6)), NormalEncoder(mlp(2, [], 2 * 4)))
    for prior, got in ((standard, "(3, 2)"), (vamp, "(None, 4)")):
        message = f"prior: expected levels of (2, 3) dimensions, as the encoder has, got {got}"
        with pytest.raises(ValueError, match=re.escape(message)):
            VAE(encoder, decoder, prior)
    with pytest.raises(TypeError, match="encoder: expected one that returns a Chain of several levels"):
        VAE(flat_encoder(6), decoder, vamp).latent_prior()
    with pytest.raises(ValueError, match="conditional: expected a module with a known `latent_dim`, got a Tanh"):
        HierarchicalPrior(StandardNormal(3), torch.nn.Tanh())
    first = diagonal_normal(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match=re.escape("p(b|a) with batch shape () over levels of (3,) dimensions, got")):
        Chain(first, lambda a: first, (3,)).sample()
    with pytest.raises(ValueError, match=re.escape("value: expected shape (..., 4), got (3,)")):
        Chain(first, lambda a: first, (2,)).log_prob(torch.zeros(3))
    with pytest.raises(TypeError, match="first, conditional: expected a distribution and a function"):
        Chain(torch.zeros(2), lambda a: first, (2,))
    with pytest.raises(TypeError, match="first: expected a Mixture, which has components, got Independent"):
        Chain(first, lambda a: first, (2,)).component_log_prob(torch.zeros(4))
    matrix = MultivariateNormal(torch.zeros(2), torch.eye(2)).expand((3,))
    with pytest.raises(ValueError, match="first: expected a distribution over vectors"):
        Chain(torch.distributions.Independent(matrix, 1), lambda a: first, (2,))


def test_a_far_row_has_likelihood_zero_and_does_not_affect_other_rows():
    x = torch.randn(20, 6)
    settings = {"latent_dim": 2, "levels": 3, "likelihood": "gaussian"}
    vae = build_vae(
        ModelSettings.of_prior("gtm-vamp", **SMALL | WITHOUT_START | settings), DataFacts(6, 20, 20, x)
    ).eval()
    x[3], x[5, 0] = 1e30, 1e20
    values = log_likelihood(vae, x, num_samples=4)
    assert values.isneginf().nonzero().flatten().tolist() == [3, 5]
    assert values.isfinite().sum() == 18
    assert TopographicMap(vae, x).places.node[3] == -1


@pytest.mark.parametrize("prior", TOPS)
def test_refit_accepts_any_prior_at_the_top(prior):
    vae, x = small("standard")
    other, _ = small(prior, grid_network="rbf") if "gtm" in prior else small(prior)
    result = refit(vae, other.prior, x, seed=0, epochs=2)
    assert result.by_em == (prior in ("mog", "gtm", "gtm-vamp"))
    assert result.course[result.best] == max(result.course)
    assert len(result.course) == 3
