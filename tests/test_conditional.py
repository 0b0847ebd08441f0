"""Conditional models p(x, z | c), compared with folded biases, loops, quadrature and linear-Gaussian closed forms."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from linear_gaussian import NOISE, LinearDecoder, LinearEncoder
from oracles import mixture_log_prob_loop, quadrature_grid
from priory import (
    VAE,
    ComponentCovariates,
    ConditionalDecoder,
    ConditionalEncoder,
    ConditionalMixtureOfGaussians,
    ConditionalMixturePrior,
    ConditionalVAE,
    Conditions,
    GaussianDecoder,
    GridCovariates,
    GTMPrior,
    GTMVampPrior,
    HierarchicalPrior,
    MixtureOfGaussians,
    NormalEncoder,
    ResampledPrior,
    StandardNormal,
    TopographicMap,
    VampPrior,
    check_prior,
    elbo,
    evaluate,
    fit,
    importance_weighted_bound,
    latent_grid,
    load,
    log_likelihood,
    mlp,
    refit,
    save,
    with_context,
)
from priory.evaluation.contexts import marginal_prior
from priory.export import LatentDensity
from priory.model import require_model
from priory.priors import ConditionalPrior, GivenPrior
from priory.rows import RowsWithContext

SIZES = (3, 1)  # a class of three, and a quantity
CONTEXT = torch.tensor([[1.0, 0.0, 0.0, -0.5], [0.0, 0.0, 1.0, 1.5], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.7]])


def table(count: int) -> ComponentCovariates:
    covariates = ComponentCovariates(SIZES, CONTEXT[torch.arange(count) % 4])
    nn.init.normal_(covariates.log_scale, std=0.3)
    return covariates


def on_grid() -> GridCovariates:
    return GridCovariates(SIZES, mlp(2, [8], 4))


def spread_out(prior: ConditionalMixtureOfGaussians) -> ConditionalMixtureOfGaussians:
    for slopes in (prior.logit_slopes, prior.loc_slopes, prior.log_scale_slopes):
        nn.init.normal_(slopes, std=0.5)
    return prior


PRIORS = {
    "mog": lambda: spread_out(ConditionalMixtureOfGaussians(MixtureOfGaussians(2, 5), 3, nn.Linear(4, 3))),
    "weights of mog": lambda: ConditionalMixturePrior(MixtureOfGaussians(2, 6), table(6)),
    "vamp": lambda: ConditionalMixturePrior(VampPrior(torch.randn(6, 5)), table(6)),
    "gtm": lambda: ConditionalMixturePrior(GTMPrior(2, latent_grid(3), mlp(2, [8], 4)), on_grid()),
    "gtm-vamp": lambda: ConditionalMixturePrior(GTMVampPrior(latent_grid(3), mlp(2, [8], 5)), on_grid()),
}
SHARED = [name for name in PRIORS if name != "mog"]


def encoder() -> ConditionalEncoder:
    return ConditionalEncoder(NormalEncoder(mlp(5 + 4, [8], 4)))


def made(name: str) -> tuple[ConditionalPrior, ConditionalEncoder | None]:
    torch.manual_seed(3)
    prior = PRIORS[name]()
    return prior, encoder() if prior.needs_encoder else None


def conditional_vae(name: str = "vamp") -> ConditionalVAE:
    torch.manual_seed(1)
    prior = StandardNormal(2) if name == "standard" else PRIORS[name]()
    return ConditionalVAE(encoder(), ConditionalDecoder(GaussianDecoder(mlp(2 + 4, [8], 5))), prior).eval()


def rows_of(number: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    c = CONTEXT[torch.randint(4, (number,), generator=generator)]
    return torch.randn(number, 5, generator=generator) + c[:, :1], c


@pytest.mark.parametrize("name", PRIORS)
def test_conditional_priors_pass_all_checks_at_a_context(name):
    prior, pseudo_encoder = made(name)
    report = check_prior(GivenPrior(prior, CONTEXT[1]), encoder=pseudo_encoder)
    assert report.passed, str(report)


@pytest.mark.parametrize("name", PRIORS)
def test_a_batch_of_contexts_gives_the_densities_of_its_contexts(name):
    prior, pseudo_encoder = made(name)
    z = torch.randn(7, 4, 2)
    together = prior(pseudo_encoder, CONTEXT)
    assert together.batch_shape == (4,)
    for i, c in enumerate(CONTEXT):
        alone = prior(pseudo_encoder, c)
        torch.testing.assert_close(together.log_prob(z)[:, i], alone.log_prob(z[:, i]))
        torch.testing.assert_close(together.component_log_prob(z)[:, i], alone.component_log_prob(z[:, i]))


@pytest.mark.parametrize("name", SHARED)
def test_weights_follow_bayes_rule(name):
    prior, pseudo_encoder = made(name)
    logits = prior.covariates.logits(prior.prior)
    scale = prior.covariates.log_scale.exp()
    joint = prior.joint(pseudo_encoder)
    log_weights = torch.stack(
        [
            joint.log_weights[k]
            + logits[k, :3].log_softmax(0)[CONTEXT[:, :3].argmax(1)]
            + torch.distributions.Normal(logits[k, 3], scale).log_prob(CONTEXT[:, 3])
            for k in range(joint.num_components)
        ],
        1,
    )
    normals = joint.components.base_dist
    z = torch.randn(9, 2)
    for i, c in enumerate(CONTEXT):
        expected = mixture_log_prob_loop(z, log_weights[i].log_softmax(0), normals.loc, normals.scale)
        torch.testing.assert_close(prior(pseudo_encoder, c).log_prob(z).double(), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", SHARED)
def test_the_average_over_contexts_equals_the_mixture(name):
    """sum_class integral dq p(class, q) p(z | class, q) = sum_k pi_k p_k(z), with the model's own p(c)."""
    prior, pseudo_encoder = made(name)
    prior, pseudo_encoder = prior.double(), pseudo_encoder.double() if pseudo_encoder else None
    quantity, width = quadrature_grid(-12.0, 12.0, 4000, dim=1)
    z = torch.randn(3, 2, dtype=torch.float64)
    joint = prior.joint(pseudo_encoder)
    total = torch.zeros(3, dtype=torch.float64)
    for category in torch.eye(3, dtype=torch.float64):
        context = torch.cat([category.expand(len(quantity), 3), quantity], 1)
        log_p_c = (
            joint.log_weights + prior.covariates.log_prob(context, prior.covariates.logits(prior.prior))
        ).logsumexp(-1)
        total += (prior(pseudo_encoder, context).log_prob(z[:, None]) + log_p_c).exp().sum(-1) * width
    torch.testing.assert_close(total.log(), joint.log_prob(z), atol=1e-6, rtol=0)


def test_mixtures_of_classes_share_no_parameters():
    torch.manual_seed(0)
    start = MixtureOfGaussians(2, 5)
    prior = spread_out(ConditionalMixtureOfGaussians(start, context_dim=3))
    z = torch.randn(8, 2)
    for category in range(3):
        own = MixtureOfGaussians(2, 5)
        own.mixing_logits.data = start.mixing_logits + prior.logit_slopes[:, category]
        own.loc.data = start.loc + prior.loc_slopes[..., category]
        own.log_scale.data = start.log_scale + prior.log_scale_slopes[..., category]
        torch.testing.assert_close(prior(context=torch.eye(3)[category]).log_prob(z), own().log_prob(z))
    loss = -prior(context=torch.eye(3)[[0]]).log_prob(z).mean()
    loss.backward()
    assert prior.loc_slopes.grad[..., 1:].abs().sum() == 0


def folded(linear: nn.Linear, columns: int, context: torch.Tensor) -> nn.Linear:
    """Return the layer of x alone that equals this layer of (x, c) at one context."""
    own = nn.Linear(columns, linear.out_features)
    own.weight.data = linear.weight[:, :columns].detach().clone()
    own.bias.data = (linear.bias + linear.weight[:, columns:] @ context).detach()
    return own


def test_the_model_at_one_context_equals_an_unconditional_vae():
    vae, c = conditional_vae("standard"), CONTEXT[1]
    networks = vae.encoder.encoder.network, vae.decoder.decoder.network
    own = [
        nn.Sequential(folded(network[0], width, c), *network[1:])
        for network, width in zip(networks, (5, 2), strict=True)
    ]
    plain = VAE(NormalEncoder(own[0]), GaussianDecoder(own[1]), StandardNormal(2)).eval()
    plain.decoder.load_state_dict(
        {k: v for k, v in vae.decoder.decoder.state_dict().items() if not k.startswith("network.0")}, strict=False
    )
    x, _ = rows_of()
    for function in (
        lambda model: elbo(model, x, num_samples=4).value(),
        lambda model: importance_weighted_bound(model, x, num_samples=4),
        lambda model: model.reconstruct(x),
        lambda model: model.sample(5),
    ):
        results = []
        for model in (vae.given(c), vae.given(c.expand(40, -1)), plain):
            if function(model).shape[:1] != function(plain).shape[:1] or function(model).ndim > 2:
                continue  # draws for each of the contexts
            torch.manual_seed(0)
            results.append(function(model).detach())
        for result in results:
            torch.testing.assert_close(result, results[-1], atol=1e-5, rtol=1e-5)


class Shifted(nn.Module):
    """A linear-Gaussian encoder of x - A c, or a decoder with A c added to its mean."""

    def __init__(self, part: nn.Module, shift: torch.Tensor, is_decoder: bool) -> None:
        super().__init__()
        self.part, self.is_decoder = part, is_decoder
        self.register_buffer("shift", shift)

    def forward(self, values, context):
        moved = context @ self.shift.T
        if not self.is_decoder:
            return self.part(values - moved)
        p = self.part(values)
        return torch.distributions.Independent(torch.distributions.Normal(p.mean + moved, NOISE), 1)


def test_the_likelihood_given_a_context_is_exact_for_a_linear_gaussian_model():
    """x | c ~ N(b + A c + W m_c, W W^T + noise^2 I) for p(z | c) = N(m_c, I)."""
    torch.manual_seed(0)
    weight = torch.linalg.qr(torch.randn(5, 2)).Q.double()
    bias, shift, moved = torch.randn(5).double(), torch.randn(5, 4).double(), torch.randn(2, 4).double()

    class MovedNormal(ConditionalPrior):
        latent_dim = 2

        def forward(self, encoder=None, context=None):
            loc = context @ moved.T
            return torch.distributions.Independent(torch.distributions.Normal(loc, torch.ones_like(loc)), 1)

    parts = Shifted(LinearEncoder(weight, bias, 1.3), shift, False), Shifted(LinearDecoder(weight, bias), shift, True)
    vae = ConditionalVAE(*parts, MovedNormal()).double().eval()
    x, c = (each.double() for each in rows_of(64))
    exact = torch.distributions.MultivariateNormal(
        bias + c @ shift.T + c @ moved.T @ weight.T, weight @ weight.T + NOISE**2 * torch.eye(5).double()
    ).log_prob(x)
    rows = with_context(x, c)
    torch.manual_seed(0)
    for share in (0.0, 0.5):
        estimate = log_likelihood(vae, rows, num_samples=4000, prior_share=share, batch_size=25)
        torch.testing.assert_close(estimate, exact, atol=0.06, rtol=0)
    metrics = evaluate(vae, rows, num_samples=4000, batch_size=25)
    assert metrics["nll"].value == pytest.approx(-float(exact.mean()), abs=0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::priory.evaluation.metrics.LowEffectiveSampleSizeWarning")
@pytest.mark.parametrize("name", ["standard", *PRIORS])
def test_training_learns_the_effect_of_the_context(name):
    """The quantity shifts all columns, so a model that conditions on it has a much higher likelihood."""
    torch.manual_seed(0)
    quantity = torch.randn(300)
    c = torch.cat([CONTEXT[torch.randint(4, (300,)), :3], quantity[:, None]], 1)
    x = 3 * quantity[:, None] + 0.3 * torch.randn(300, 5)
    vae = conditional_vae(name)
    before = evaluate(vae, with_context(x[200:], c[200:]), num_samples=16)["nll"].value
    options = {"epochs": 20, "batch_size": 20, "seed": 0, "learning_rate": 0.01, "warmup": 1}
    fit(vae, with_context(x[:200], c[:200]), with_context(x[200:], c[200:]), **options)
    after = evaluate(vae, with_context(x[200:], c[200:]), num_samples=16)
    swapped = evaluate(vae, with_context(x[200:], c[200:].roll(1, 0)), num_samples=16)
    assert after["nll"].value < before - 3
    assert after["nll"].value < swapped["nll"].value - 3
    assert all(math.isfinite(estimate.value) for estimate in after.values())


@pytest.mark.slow
def test_a_batch_effect_is_removed_from_the_codes():
    """If the model conditions on the batch, batches of one kind have nearly equal mean codes."""
    torch.manual_seed(0)
    kind, batch = torch.randint(2, (300,)), torch.randint(2, (300,))
    signal, effect = torch.randn(2, 8), 2 * torch.randn(2, 8)
    x = 2 * signal[kind] + effect[batch] + 0.3 * torch.randn(300, 8)
    c = torch.eye(2)[batch]
    options = {"epochs": 100, "batch_size": 50, "seed": 0, "learning_rate": 0.01, "warmup": 5}

    def shift(codes: torch.Tensor, label: torch.Tensor, other: torch.Tensor) -> float:
        parts = [codes[(label == a) & (other == b)].mean(0) for b in range(2) for a in range(2)]
        distances = [float((parts[2 * b] - parts[2 * b + 1]).norm()) for b in range(2)]
        return max(distances) / float(codes.var(0).sum().sqrt())

    vae = ConditionalVAE(
        ConditionalEncoder(NormalEncoder(mlp(8 + 2, [16], 4))),
        ConditionalDecoder(GaussianDecoder(mlp(2 + 2, [16], 8))),
        StandardNormal(2),
    )
    fit(vae, with_context(x, c), **options)
    codes = vae.given(c).encode(x).mean.detach()
    plain = VAE(NormalEncoder(mlp(8, [16], 4)), GaussianDecoder(mlp(2, [16], 8)), StandardNormal(2))
    fit(plain, x, **options)
    plain_codes = plain.encode(x).mean.detach()
    assert shift(codes, kind, batch) > 1.5
    assert shift(codes, batch, kind) < 0.2
    assert shift(plain_codes, batch, kind) > 1


def test_shuffled_rows_keep_their_contexts():
    x = torch.arange(10.0)[:, None].expand(-1, 5).contiguous()
    c = torch.cat([torch.eye(3)[torch.arange(10) % 3], torch.arange(10.0)[:, None]], 1)
    seen = []

    def objective(model, batch):
        seen.append((batch[:, 0], model.context[:, 3]))
        return elbo(model, batch)

    fit(conditional_vae("standard"), with_context(x, c), epochs=2, batch_size=3, seed=0, objective=objective)
    assert sum(len(batch) for batch, _ in seen) == 20
    for batch, quantity in seen:
        torch.testing.assert_close(batch, quantity)


@pytest.mark.parametrize("name", ["gtm", "gtm-vamp"])
def test_all_contexts_share_one_map(name):
    vae = conditional_vae(name)
    x, c = rows_of()
    drawn = TopographicMap(vae, with_context(x, c))
    joint = vae.prior.joint(vae.encoder)
    with torch.no_grad():
        z = vae.given(c).encode(x).mean
        torch.testing.assert_close(
            drawn.places.mean, (joint.responsibilities(z).double() @ drawn.surface.nodes), atol=1e-5, rtol=0
        )
        soft = vae.prior.covariates.of_components(vae.prior.prior)
        contents = vae.given(soft).decode(joint.components.mean).mean
    torch.testing.assert_close(drawn.nodes.contents.float(), contents, atol=1e-5, rtol=0)
    density = drawn.surface.density(CONTEXT)
    expected = [vae.prior(vae.encoder, each).mixing_weights for each in CONTEXT]
    torch.testing.assert_close(density.float(), torch.stack(expected).detach(), atol=1e-6, rtol=0)
    assert all(estimate.value == estimate.value for estimate in drawn.quality().values())
    drawn.surface.num_samples = 2000
    exact = log_likelihood(vae, with_context(x, c), num_samples=4000)
    torch.testing.assert_close(drawn.log_likelihood, exact.double(), atol=0.15, rtol=0)
    assert drawn.project(with_context(x[:3], c[:3])).place.shape == (3, 2)


def test_magnification_uses_the_covariates_of_the_position():
    vae = conditional_vae("gtm-vamp").double()
    surface = TopographicMap(vae, with_context(*(each.double() for each in rows_of()))).surface
    u = torch.tensor([[0.3, -0.2]], dtype=torch.float64)

    def image(place):
        covariates = vae.prior.covariates
        soft = covariates.values(covariates.logits_at(place[None]))
        q = vae.encoder(vae.prior.prior.pseudo_inputs_at(place[None]), soft)
        return vae.given(soft).decode(q.mean).mean[0]

    jacobian = torch.autograd.functional.jacobian(image, u[0])
    expected = torch.linalg.det(jacobian.T @ jacobian).sqrt()
    torch.testing.assert_close(surface.magnification(u)[0], expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("name", ["standard", *PRIORS])
def test_latent_metrics_use_the_prior_averaged_over_contexts(name):
    vae, (x, c) = conditional_vae(name), rows_of()
    averaged = marginal_prior(vae, with_context(x, c))
    z = torch.randn(6, 2)
    p = vae.given(c).latent_prior()
    expected = p.log_prob(z) if not p.batch_shape else p.log_prob(z[:, None]).logsumexp(-1) - math.log(len(c))
    torch.testing.assert_close(averaged.log_prob(z), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["vamp", "mog", "gtm"])
def test_refit_improves_a_conditional_prior(name):
    vae, (x, c) = conditional_vae("standard"), rows_of(200)
    options = {"epochs": 20, "batch_size": 50, "seed": 0, "learning_rate": 0.01, "warmup": 1}
    fit(vae, with_context(x[:150], c[:150]), with_context(x[150:], c[150:]), **options)
    result = refit(vae, PRIORS[name](), with_context(x[:150], c[:150]), seed=0, epochs=30)
    assert isinstance(result.model, ConditionalVAE)
    assert result.model.encoder is vae.encoder
    q = vae.given(c[:150]).encode(x[:150])
    z = q.sample((100,))
    before, after = (model.given(c[:150]).latent_prior().log_prob(z).mean() for model in (vae, result.model))
    assert after > before - 0.05
    assert result.course[result.best] > result.course[0]


@pytest.mark.parametrize("name", ["standard", *PRIORS])
def test_a_saved_conditional_model_gives_the_same_numbers(name, tmp_path):
    vae, (x, c) = conditional_vae(name), rows_of()
    save(vae, tmp_path / "model")
    loaded = load(tmp_path / "model")
    for model in (vae, loaded):
        torch.manual_seed(0)
        assert torch.equal(
            model.given(c).latent_prior().log_prob(torch.ones(2)), vae.given(c).latent_prior().log_prob(torch.ones(2))
        )
    torch.manual_seed(0)
    first = elbo(vae.given(c), x).value()
    torch.manual_seed(0)
    assert torch.equal(elbo(loaded.given(c), x).value(), first)


def test_maps_and_exports_refuse_a_model_with_the_wrong_context():
    vae, (x, c) = conditional_vae("gtm"), rows_of()
    with pytest.raises(ValueError, match="expected a conditional model without a fixed context"):
        TopographicMap(vae.given(c), x)
    with pytest.raises(ValueError, match=r"expected one context for all rows, .* got \(40, 4\)"):
        LatentDensity(vae.given(c))
    torch.testing.assert_close(
        LatentDensity(vae.given(c[0]))(torch.ones(3, 2)), vae.given(c[0]).latent_prior().log_prob(torch.ones(3, 2))
    )


def test_a_conditional_decoder_has_the_covariates_of_its_decoder():
    class Sized(nn.Module):
        def covariates(self, x):
            return {"size": x.sum(-1, keepdim=True)}

        def forward(self, z, size=1.0):
            return torch.distributions.Independent(
                torch.distributions.Poisson(z.square().sum(-1, keepdim=True) * size), 1
            )

    vae = ConditionalVAE(encoder(), ConditionalDecoder(Sized()), StandardNormal(2)).eval()
    x = torch.ones(4, 5)
    p = vae.given(CONTEXT).decode(torch.ones(4, 2), **vae.given(CONTEXT).covariates(x))
    torch.testing.assert_close(p.mean[:, 0], 5 * (2 + CONTEXT.square().sum(1)))


def test_conditions_encode_categories_and_quantities():
    conditions = Conditions.from_columns(
        {"kind": np.array(["b", "a", "b"]), "dose": [1.0, 2.0, 6.0], "age": [1, 2, 3]}, ("age",)
    )
    assert conditions.sizes == (2, 1, 1)
    context = conditions.encode({"age": [2], "dose": [3.0], "kind": ["a"]})
    torch.testing.assert_close(context, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    assert Conditions.from_columns({"digit": [3, 10, 3]}).columns[0].values == ("10", "3")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"kind": ["a", "a"]}, "condition kind: expected at least two categories, got 'a' in all training rows"),
        (
            {"kind": ["a", None]},
            "condition kind: expected a category in each row, got no value in 1 of 2 rows (rows 1)",
        ),
        ({"dose": [1.0, 1.0]}, "condition dose: expected different values, got 1 in all training rows"),
        (
            {"dose": [1.0, math.nan]},
            "condition dose: expected a finite number in each row, got no value in 1 of 2 rows",
        ),
        ({}, "columns: expected at least one column to condition on, got none"),
        ({"row": list(map(str, range(1001)))}, "condition row: expected at most 1000 categories, got 1001"),
    ],
)
def test_columns_that_cannot_be_conditions_are_refused(columns, message):
    arrays = {name: np.array(values, dtype=object if None in values else None) for name, values in columns.items()}
    with pytest.raises(ValueError, match=re.escape(message)):
        Conditions.from_columns(arrays)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"kind": ["a", "c"], "dose": [1.0, 2.0]},
            "condition kind: expected categories of the training rows (a, b), got 'c'",
        ),
        (
            {"kind": ["a"]},
            "context: expected the columns kind, dose, which the model conditions on, got none called dose",
        ),
        ({"kind": ["a"], "dose": ["high"]}, "condition dose: expected numbers, because it is a quantity, got 'high'"),
        ({"kind": ["a", "b"], "dose": [1.0]}, "context: expected columns of one length, got kind: 2, dose: 1"),
    ],
)
def test_unknown_contexts_are_refused(columns, message):
    conditions = Conditions.from_columns({"kind": ["a", "b"], "dose": [1.0, 2.0]})
    with pytest.raises(ValueError, match=re.escape(message)):
        conditions.encode(columns)


def test_models_and_rows_that_do_not_match_are_refused():
    x, c = rows_of()
    vae, plain = (
        conditional_vae("standard"),
        VAE(NormalEncoder(mlp(5, [8], 4)), GaussianDecoder(mlp(2, [8], 5)), StandardNormal(2)),
    )
    for work in (fit, evaluate, log_likelihood):
        options = {} if work is fit else {"num_samples": 2}
        with pytest.raises(TypeError, match=r"expected rows with a context, because ConditionalVAE conditions on one"):
            work(vae, x, **options)
        with pytest.raises(TypeError, match=r"expected rows without a context, because VAE has no method given"):
            work(plain, with_context(x, c), **options)
    for work in (require_model, lambda model: elbo(model, x)):
        with pytest.raises(TypeError, match=r"give model.given\(context\)"):
            work(vae)
    with pytest.raises(TypeError, match="context: expected a tensor"):
        vae.given([0.0, 1.0])
    with pytest.raises(ValueError, match=r"context: expected shape \(40, C\), one line for each row, got \(3, 4\)"):
        with_context(x, c[:3])
    with pytest.raises(ValueError, match="expected one for each row, or one for all"):
        vae.given(c[:3]).encode(x)
    with pytest.raises(TypeError, match="expected one whose pseudo-inputs have covariates"):
        ConditionalVAE(encoder(), vae.decoder, VampPrior(torch.randn(3, 5))).given(c)
    with pytest.raises(TypeError, match=r"ConditionalMixturePrior: expected a context, because it gives p\(z \| c\)"):
        PRIORS["weights of mog"]()()
    for below in (
        lambda prior: ResampledPrior(prior, mlp(2, [8], 1)),
        lambda prior: HierarchicalPrior(prior, NormalEncoder(mlp(2, [8], 4))),
    ):
        with pytest.raises(TypeError, match=r"expected a prior p\(z\), got a ConditionalMixturePrior"):
            below(PRIORS["vamp"]())
    assert isinstance(with_context(x, c), RowsWithContext)


def test_integers_with_missing_cells_are_the_same_categories():
    conditions = Conditions.from_columns({"kind": np.array([0, 2, 2])})
    assert torch.equal(conditions.encode({"kind": np.array([2.0, 0.0])}), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="expected a category in each row, got no value in 1 of 2 rows"):
        conditions.encode({"kind": np.array([2.0, np.nan])})
    with pytest.raises(ValueError, match=r"got '1', '2\.5'"):
        conditions.encode({"kind": np.array([1.0, 2.5])})
