"""The mixture against torch's own, against a loop, and in cases that a wrong one passes by chance."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, Laplace, MixtureSameFamily, MultivariateNormal, Normal

from oracles import mixture_log_prob_loop
from priory import Mixture, diagonal_normal
from priory.density import _by_differences, diagonal_normal_log_prob
from priory.distributions import sample_index


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def corners(distance: float = 5.0) -> Mixture:
    loc = torch.tensor([[-distance, -distance], [distance, distance]])
    return Mixture(torch.zeros(2), diagonal_normal(loc, torch.ones(2, 2)))


def test_density_is_joint_so_the_empty_corner_is_empty():
    mode, empty = corners().log_prob(torch.tensor([[5.0, 5.0], [-5.0, 5.0]]))
    assert mode == pytest.approx(-math.log(2) - math.log(2 * math.pi), abs=1e-5)
    assert empty == pytest.approx(-math.log(2 * math.pi) - 50, abs=1e-4)  # two terms of exp(-50), halved


def test_samples_stay_out_of_the_empty_corners():
    z = corners().sample((5000,))
    assert (z[:, 0].sign() == z[:, 1].sign()).all()


FAMILIES = {
    "diagonal": lambda shape: Independent(Normal(torch.randn(*shape, 3), torch.rand(*shape, 3) + 0.1), 1),
    "full": lambda shape: MultivariateNormal(torch.randn(*shape, 3), torch.eye(3) * 0.7),
    "laplace": lambda shape: Independent(Laplace(torch.randn(*shape, 3), torch.rand(*shape, 3) + 0.1), 1),
    "scalar": lambda shape: Normal(torch.randn(*shape), torch.rand(*shape) + 0.1),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
def test_agrees_with_mixture_same_family(family, batch):
    logits, components = torch.randn(*batch, 5), family((*batch, 5))
    ours, torchs = Mixture(logits, components), MixtureSameFamily(Categorical(logits=logits), components)
    z = ours.sample((7,))
    assert z.shape == (7, *ours.batch_shape, *ours.event_shape) == torchs.sample((7,)).shape
    torch.testing.assert_close(ours.log_prob(z), torchs.log_prob(z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.mean, torchs.mean)
    torch.testing.assert_close(ours.variance, torchs.variance)
    wide = ours.expand(torch.Size((3, *batch)))
    assert wide.batch_shape == (3, *batch)
    assert wide.sample((2,)).shape == (2, 3, *batch, *ours.event_shape)
    assert ours.sample((0,)).shape == (0, *ours.batch_shape, *ours.event_shape)


def test_sample_moments_agree_with_mean_and_variance():
    p_z = Mixture(torch.randn(5), FAMILIES["diagonal"]((5,)))
    z = p_z.sample((200_000,))
    torch.testing.assert_close(z.mean(0), p_z.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(z.var(0), p_z.variance, rtol=0.03, atol=0)


def test_responsibilities_are_bayes_rule():
    loc, scale = torch.randn(5, 3).double(), torch.rand(5, 3).double() + 0.5
    p_z = Mixture(torch.randn(5).double(), diagonal_normal(loc, scale))
    z = torch.randn(6, 3).double()
    joint = p_z.mixing_weights * p_z.components.log_prob(z.unsqueeze(-2)).exp()
    torch.testing.assert_close(p_z.responsibilities(z), joint / joint.sum(-1, keepdim=True))
    torch.testing.assert_close(p_z.component_log_prob(z), joint.log())


@pytest.mark.parametrize("scale", [1e-2, 0.1, 1.0, 1e3])
@pytest.mark.parametrize("distance", [0.0, 1.0, 100.0])
def test_kernel_is_exact_where_the_float32_expansion_cancels(scale, distance):
    loc = distance * torch.randn(20, 8)
    scales = scale * (0.5 + torch.rand(20, 8))
    z = torch.cat([loc[:5] + scales[:5] * torch.randn(5, 8), distance * torch.randn(5, 8)])
    weights = torch.log_softmax(torch.randn(20), -1)
    expected = mixture_log_prob_loop(z, weights, loc, scales)
    result = Mixture(weights, diagonal_normal(loc, scales)).log_prob(z).double()
    assert ((result - expected).abs() <= 1e-4 * expected.abs().clamp_min(1)).all()


def test_both_forms_of_the_kernel_agree():
    z, loc, scale = torch.randn(3, 4, 5).double(), torch.randn(4, 6, 5).double(), torch.rand(4, 6, 5).double() + 0.1
    torch.testing.assert_close(_by_differences(z, loc, scale), diagonal_normal_log_prob(z, loc, scale))


def test_components_of_weight_zero_are_neither_seen_nor_drawn():
    p_z = Mixture(torch.tensor([-math.inf, 0.0, -math.inf]), diagonal_normal(torch.randn(3, 2), torch.ones(3, 2)))
    z = torch.randn(4, 2)
    torch.testing.assert_close(p_z.log_prob(z), p_z.components.log_prob(z.unsqueeze(-2))[:, 1])
    assert (sample_index(p_z.log_weights, torch.Size((1000,))) == 1).all()


def test_tiny_weights_keep_their_logarithm():
    p_z = Mixture(torch.tensor([0.0, -200.0]), diagonal_normal(torch.tensor([[0.0], [1e3]]), torch.ones(2, 1)))
    expected = -200 - 0.5 * math.log(2 * math.pi)  # exp(-200) is zero in float32
    assert p_z.log_prob(torch.tensor([1e3])) == pytest.approx(expected, rel=1e-6)


def test_far_tails_are_finite_with_finite_gradients():
    z = torch.tensor([[1e6, -1e6], [1e15, 0.0]], requires_grad=True)
    log_prob = corners().log_prob(z)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(z.grad).all()


def test_sampled_components_have_their_weights():
    log_weights = torch.log_softmax(torch.randn(3, 6), -1)
    index = sample_index(log_weights, torch.Size((50_000,)))
    share = torch.stack([(index == k).double().mean(0) for k in range(6)], -1)
    weights = log_weights.exp()
    assert ((share - weights).abs() < 5 * (weights * (1 - weights) / 50_000).sqrt()).all()


def test_generator_makes_samples_repeatable_and_leaves_the_global_one():
    state = torch.get_rng_state()
    first, second = (corners().sample((4,), generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="global generator only"):
        Mixture(torch.zeros(5), FAMILIES["laplace"]((5,))).sample((2,), generator=torch.Generator())


def test_permuting_components_changes_nothing():
    logits, loc, scale = torch.randn(7), torch.randn(7, 3), torch.rand(7, 3) + 0.1
    order, z = torch.randperm(7), torch.randn(10, 3)
    one, other = (
        Mixture(logits, diagonal_normal(loc, scale)),
        Mixture(logits[order], diagonal_normal(loc[order], scale[order])),
    )
    torch.testing.assert_close(one.log_prob(z), other.log_prob(z))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Mixture(torch.zeros(3), torch.zeros(3, 2)), TypeError, "expected a torch Distribution"),
        (lambda: Mixture(torch.zeros(3), FAMILIES["diagonal"]((4,))), ValueError, r"one per component \(4\), got 3"),
        (lambda: Mixture(torch.zeros(()), FAMILIES["diagonal"]((4,))), ValueError, "wrap one component"),
        (lambda: corners().log_prob(torch.zeros(3)), ValueError, r"expected shape \(..., 2\), got \(3,\)"),
    ],
)
def test_bad_input_says_what_was_expected(make, error, message):
    with pytest.raises(error, match=message):
        make()
