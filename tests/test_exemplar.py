"""The exemplar prior: leaving one out compared with loops in float64, bounds by enumeration, codes in training."""

import copy
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from oracles import mixture_log_prob_loop, quadrature_grid, small_encoder
from priory import (
    VAE,
    BernoulliDecoder,
    ConditionalDecoder,
    ConditionalEncoder,
    ConditionalVAE,
    ExemplarPrior,
    GaussianDecoder,
    HierarchicalEncoder,
    HierarchicalPrior,
    Mixture,
    NormalEncoder,
    ResampledPrior,
    Rescale,
    StandardNormal,
    diagonal_normal,
    elbo,
    fit,
    importance_weighted_bound,
    load_dataset,
    mlp,
    refit,
    with_context,
)
from priory.distributions.leave_one_out import LeaveOneOut
from priory.workbench.data import DatasetRows

D, L = 6, 2


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def vae_with(prior: ExemplarPrior) -> VAE:
    encoder = small_encoder(D, L)
    for parameter in encoder.parameters():
        parameter.data.mul_(3.0)
    return VAE(encoder, BernoulliDecoder(mlp(L, [8], D)), prior)


def left_out_loop(z: Tensor, loc: Tensor, scale: float, own: list[int], log_weights: Tensor | None = None) -> Tensor:
    """log p_-n(z_n) of rows (..., B, L), one row and one component at a time."""
    weights = torch.zeros(len(loc)) if log_weights is None else log_weights
    columns = []
    for n, k in enumerate(own):
        rest = [j for j in range(len(loc)) if j != k]
        log_rest = torch.log_softmax(weights[rest].double(), 0)
        columns.append(mixture_log_prob_loop(z[..., n, :], log_rest, loc[rest], torch.full_like(loc[rest], scale)))
    return torch.stack(columns, -1)


@pytest.mark.parametrize("scale", [0.01, 0.5])
@pytest.mark.parametrize("own", [[0, 3, -1, 3], [0, 1, 2, 3, 4, 5], [5]], ids=["repeated", "all", "one"])
def test_leaving_one_out_equals_a_loop_in_float64(own, scale):
    """Also at the center of the row's own component, which makes up nearly all of p(z)."""
    loc, logits = torch.randn(6, L), torch.randn(6)
    p_z = LeaveOneOut(Mixture(logits, diagonal_normal(loc, torch.full_like(loc, scale))), torch.tensor(own))
    z = torch.stack([loc[own], loc[own] + 0.3 * torch.randn(len(own), L)])
    torch.testing.assert_close(
        p_z.log_prob(z).double(), left_out_loop(z, loc, scale, own, logits), rtol=1e-5, atol=1e-4
    )


def test_leaving_one_out_has_correct_gradients():
    own = torch.tensor([0, 2, -1])

    def log_prob(z, logits, loc, log_scale):
        return LeaveOneOut(Mixture(logits, diagonal_normal(loc, log_scale.exp().expand_as(loc))), own).log_prob(z)

    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, L), (4,), (4, L), ())]
    assert torch.autograd.gradcheck(log_prob, inputs)


@pytest.mark.parametrize("neighbors", [1, 3, None])
def test_a_step_has_the_density_and_the_gradient_of_encoding_all_rows_again(neighbors):
    x, numbers = torch.rand(12, D), torch.tensor([4, 0, 7])
    prior = ExemplarPrior(L, neighbors=neighbors, scale=0.7).double()
    encoder = small_encoder(D, L).double()
    prior.attach(x.double())
    z = torch.randn(5, 3, L, dtype=torch.float64)
    with prior.leave_out(numbers):
        log_prob = prior(encoder).log_prob(z)
    loc = encoder(x.double()).mean
    torch.testing.assert_close(log_prob, left_out_loop(z, loc, 0.7, numbers.tolist()))
    if neighbors is None:
        parameters = [*encoder.parameters(), prior.log_scale]
        distance = torch.cdist(z, loc).square()
        joint = -0.5 * distance / prior.log_scale.exp() ** 2 - L * prior.log_scale
        mask = torch.nn.functional.one_hot(numbers, 12).bool()
        expected = joint.masked_fill(mask, -math.inf).logsumexp(-1)
        for ours, theirs in zip(
            *(torch.autograd.grad(value.sum(), parameters, allow_unused=True) for value in (log_prob, expected)),
            strict=True,
        ):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("left_out", [0, 5])
def test_densities_of_drawn_exemplars_average_to_a_lower_bound(left_out, monkeypatch):
    """Over all draws of 3 of 6, the mean density is p_-n(z), the mean log-density is lower; each density has mass 1."""
    prior, encoder = ExemplarPrior(L, exemplars=3, scale=0.8).double(), small_encoder(D, L).double()
    prior.attach(torch.rand(6, D).double())
    z, cell = quadrature_grid(-6, 6, 40)
    log_probs = []
    with torch.no_grad(), prior.leave_out(torch.tensor([left_out])):
        for order in itertools.permutations(range(6), 3):
            monkeypatch.setattr(torch, "randperm", lambda *_, order=order, **__: torch.tensor(order))
            log_probs.append(prior(encoder).log_prob(z.unsqueeze(-2)).squeeze(-1))
    log_p = left_out_loop(z.unsqueeze(-2), prior.codes, 0.8, [left_out]).squeeze(-1)
    every = torch.stack(log_probs)
    torch.testing.assert_close(every.exp().mean(0), log_p.exp())
    assert (every.mean(0) < log_p).all()
    torch.testing.assert_close(
        every.exp().sum(-1) * cell, torch.ones(len(every), dtype=torch.float64), rtol=0, atol=1e-3
    )


class Watched(ExemplarPrior):
    """Stores the codes that the last step left out."""

    def forward(self, encoder=None):
        p_z = super().forward(encoder)
        if isinstance(p_z, LeaveOneOut):
            self.__dict__["left_out_codes"] = p_z.mixture.components.mean[p_z.own]
        return p_z


def test_training_leaves_out_the_rows_of_the_batch_by_their_number_in_the_file():
    digits = load_dataset("digits")
    rows, prior, same = DatasetRows(digits, np.arange(300, 40, -3)), Watched(L, neighbors=2), []
    preprocess = Rescale(0.0, 16.0)
    vae = VAE(small_encoder(64, L), GaussianDecoder(mlp(L, [8], 64)), prior, preprocess)

    def objective(model, x):
        terms = elbo(model, x)
        if torch.is_grad_enabled():
            same.append(torch.allclose(prior.left_out_codes, model.encode(x).mean, atol=1e-5))
        return terms

    fit(vae, rows, rows, objective=objective, seed=0, epochs=2, batch_size=20)
    assert same == [True] * 10


CASES = {"validation": {}, "no validation": {"valid": None}, "average": {"ema_decay": 0.9}}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_training_ends_with_codes_of_the_final_weights_and_no_attached_rows(case):
    x = torch.rand(40, D).round()
    prior = ExemplarPrior(L, exemplars=20)
    vae = vae_with(prior)
    options = {"valid": x[30:]} | case
    fit(vae, x[:30], options.pop("valid"), seed=0, epochs=6, batch_size=10, learning_rate=0.03, **options)
    with torch.no_grad():
        torch.testing.assert_close(prior.codes, vae.encode(x[:30]).mean)
    assert prior.num_components == 30
    assert prior._source is None
    assert vae.latent_prior().num_components == 30


@pytest.mark.parametrize("case", [{}, {"ema_decay": 0.9}], ids=["plain", "average"])
def test_resuming_gives_the_same_bits(case, tmp_path):
    x = torch.rand(50, D).round()
    train = partial(fit, train=x[:30], valid=x[30:], seed=3, batch_size=8, warmup=0, schedule="constant", **case)
    models = [vae_with(ExemplarPrior(L, exemplars=12)) for _ in range(2)]
    models[1].load_state_dict(copy.deepcopy(models[0].state_dict()))
    train(models[0], epochs=5, out=tmp_path / "whole")
    train(models[1], epochs=2, out=tmp_path / "parts")
    again = vae_with(ExemplarPrior(L, exemplars=12))
    train(again, epochs=5, out=tmp_path / "parts", resume=True)
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_handwritten_training_loop_learns():
    x = (torch.rand(60, D) < torch.tensor([[0.1], [0.9]]).repeat(30, 1)).float()
    prior = ExemplarPrior(L)
    vae = vae_with(prior)
    optimizer = torch.optim.Adam(vae.parameters(), 0.01)
    before = importance_weighted_bound(vae, x, num_samples=20).mean()
    prior.attach(x, vae.preprocess)
    for _ in range(30):
        prior.refresh(vae.encoder)
        for positions in torch.randperm(60).split(20):
            with prior.leave_out(positions):
                loss = -elbo(vae, x[positions]).value().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert importance_weighted_bound(vae, x, num_samples=20).mean() > before + 0.5
    prior.detach()
    torch.testing.assert_close(prior.codes, vae.encode(x).mean.detach())


@pytest.mark.parametrize("start", [0.05, 5.0])
def test_the_maximum_likelihood_scale_equals_scipys(start):
    """scipy minimizes the loss of the same draws, each row without its own component."""
    x, prior = torch.rand(60, D), ExemplarPrior(L, scale=start)
    q = small_encoder(D, L)(x)
    z = q.sample((20,))
    prior.attach(x)
    prior.codes.copy_(q.mean.detach())
    with prior.leave_out(torch.arange(60)):
        assert prior.fit_by_em(z.flatten(0, 1))
    others = ~torch.eye(60, dtype=torch.bool)
    distance = torch.cdist(z.double(), prior.codes.double()).square()[:, others].reshape(20, 60, 59)

    def loss(log_scale: float) -> float:
        return -float((-0.5 * distance * math.exp(-2 * log_scale)).logsumexp(-1).mean()) + L * log_scale

    best = minimize_scalar(loss, bounds=(-5, 3), method="bounded").x
    assert prior.log_scale.item() == pytest.approx(best, abs=2e-3)


def test_refit_gives_the_codes_of_the_training_rows_and_a_better_scale():
    x = torch.rand(60, D).round()
    vae, prior = vae_with(ExemplarPrior(L)), ExemplarPrior(L, scale=5.0)
    result = refit(vae, prior, x[:50], x[50:], seed=0, epochs=3)
    assert result.by_em
    assert prior.log_scale < math.log(4.0)
    torch.testing.assert_close(prior.codes, vae.encode(x[:50]).mean.detach())
    assert prior._source is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExemplarPrior(0), "latent_dim, scale: expected positive numbers"),
        (lambda: ExemplarPrior(L, scale=0.0), "latent_dim, scale: expected positive numbers"),
        (lambda: ExemplarPrior(L, exemplars=1), "exemplars: expected at least two"),
        (lambda: ExemplarPrior(L, neighbors=0), "neighbors: expected a positive number"),
        (lambda: ExemplarPrior(L).attach(torch.rand(1, D)), "expected at least 2 .*own component.* got 1"),
        (lambda: ExemplarPrior(L, exemplars=9).attach(torch.rand(5, D)), "at least 9 .*got 5; .*fewer exemplars"),
        (lambda: ExemplarPrior(L).leave_out(torch.arange(3)).__enter__(), "expected attached rows, got none"),
        (lambda: attached(5).leave_out(torch.tensor([2, 5])).__enter__(), "expected numbers of attached rows, got 5"),
        (lambda: left_out_of_five().log_prob(torch.zeros(3, L)), r"expected shape \(..., 2, 2\)"),
    ],
)
def test_invalid_arguments_raise_clear_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def attached(number: int) -> ExemplarPrior:
    prior = ExemplarPrior(L)
    prior.attach(torch.rand(number, D))
    return prior


def left_out_of_five() -> LeaveOneOut:
    prior = attached(5)
    with prior.leave_out(torch.arange(2)):
        return prior(small_encoder(D, L))


def test_more_exemplars_than_rows_are_refused(refused):
    message = refused("fit", "digits", "--prior", "exemplar", "--set", "model.exemplars=2000", "--out", "x")
    assert "model.exemplars=2000: expected at most 1000, the number of training rows" in message


def test_exemplars_of_a_top_level_are_the_top_codes_of_the_rows():
    x = torch.rand(60, D).round()
    top = ExemplarPrior(L)
    encoder = HierarchicalEncoder(small_encoder(D, L), NormalEncoder(mlp(D + L, [8], 2 * 3)))
    prior = HierarchicalPrior(top, NormalEncoder(mlp(L, [8], 2 * 3)))
    vae = VAE(encoder, BernoulliDecoder(mlp(L + 3, [8], D)), prior)
    fit(vae, x, epochs=2, seed=0)
    torch.testing.assert_close(top.codes, encoder.top(x).mean.detach())
    refit(vae, HierarchicalPrior(again := ExemplarPrior(L), prior.conditional), x, epochs=1, seed=0)
    torch.testing.assert_close(again.codes, top.codes)


def test_exemplars_inside_another_prior_are_refused():
    vae = VAE(small_encoder(D, L), BernoulliDecoder(mlp(L, [8], D)), ResampledPrior(ExemplarPrior(L), mlp(L, [8], 1)))
    with pytest.raises(ValueError, match="expected no exemplars below a ResampledPrior"):
        fit(vae, torch.rand(20, D).round(), epochs=1)
    with pytest.raises(ValueError, match="expected no exemplars below a ResampledPrior"):
        refit(vae, ResampledPrior(ExemplarPrior(L), mlp(L, [8], 1)), torch.rand(20, D).round(), epochs=1)


def test_exemplars_of_a_conditional_model_are_refused():
    x, c = torch.rand(20, D).round(), torch.eye(2)[torch.arange(20) % 2]
    encoder = ConditionalEncoder(NormalEncoder(mlp(D + 2, [8], 2 * L)))
    vae = ConditionalVAE(encoder, ConditionalDecoder(BernoulliDecoder(mlp(L + 2, [8], D))), StandardNormal(L))
    with pytest.raises(TypeError, match="expected a prior without exemplars"):
        refit(vae, ExemplarPrior(L), with_context(x, c), epochs=1)
