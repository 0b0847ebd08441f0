"""The mixture, compared with torch's mixture, with loops, and in cases that detect common errors."""

import math

import pytest
import torch
from torch import distributions
from torch.distributions import Categorical, Independent, Laplace, MixtureSameFamily, MultivariateNormal, Normal

from oracles import mixture_log_prob_loop, quadrature_grid
from priory import Mixture, diagonal_normal
from priory.distributions.mixture import sample_index


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


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_properties_equal_those_of_mixture_same_family(family):
    logits, components = torch.randn(4, 5), family((4, 5))
    ours, torchs = Mixture(logits, components), MixtureSameFamily(Categorical(logits=logits), components)
    assert ours.component_distribution is torchs.component_distribution
    assert isinstance(ours.mixture_distribution, Categorical)
    torch.testing.assert_close(ours.mixture_distribution.probs, torchs.mixture_distribution.probs)
    assert ours.mixture_distribution.batch_shape == torchs.mixture_distribution.batch_shape == (4,)
    assert torch.equal(ours.mixture_distribution.probs.argmax(-1), ours.mixing_weights.argmax(-1))


def test_a_component_with_weight_zero_has_no_probability():
    mixture = Mixture(torch.tensor([0.0, -torch.inf]), FAMILIES["diagonal"]((2,)))
    assert mixture.mixture_distribution.probs.tolist() == [1.0, 0.0]


def uniforms(low, width):
    return distributions.Uniform(low, low + width)


def scaled_beta(low, width):
    """A beta distribution on another interval; torch reports the real line as its support."""
    shape = distributions.Beta(torch.full_like(low, 2.0), torch.full_like(low, 3.0))
    return distributions.TransformedDistribution(shape, [distributions.AffineTransform(low, width)])


def pairs_of(low, width):
    """torch's mixtures without their check of values, which rejects values in only one of the two supports."""
    low, width = (torch.stack([x, x + 0.5], -1) for x in (low, width))
    pairs = distributions.Uniform(low, low + width, validate_args=False)
    return MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7]).expand_as(low)), pairs, validate_args=False)


# Components by two parameters in (0.5, 2); the first nine have supports that depend on them.
SUPPORTS = {
    "uniform": uniforms,
    "uniform vectors": lambda low, width: Independent(uniforms(low[..., None] + torch.zeros(2), width[..., None]), 1),
    "binomial": lambda count, odds: distributions.Binomial((5 * count).round(), odds / 3),
    "binomial of one count": lambda count, odds: distributions.Binomial(5, odds / 3),
    "binomial vectors": lambda count, odds: Independent(
        distributions.Binomial((5 * count).round()[..., None], (odds / 3)[..., None].expand(*odds.shape, 2)), 1
    ),
    "pareto": distributions.Pareto,
    "scaled beta": scaled_beta,
    "mixtures of uniforms": pairs_of,
    "our mixtures of uniforms": lambda low, width: Mixture(
        torch.zeros(*low.shape, 1), uniforms(low[..., None], width[..., None])
    ),
    "poisson": lambda rate, _: distributions.Poisson(rate),
    "log-normal": distributions.LogNormal,
    "gamma": distributions.Gamma,
    "inverse gamma": distributions.InverseGamma,
    "beta": distributions.Beta,
    "von Mises": distributions.VonMises,
    "student": lambda loc, scale: distributions.StudentT(3.0, loc, scale),
    "categorical": lambda a, b: Categorical(torch.stack([a, b, a + b], -1)),
    "one-hot": lambda a, b: distributions.OneHotCategorical(torch.stack([a, b, a + b], -1)),
    "dirichlet": lambda a, b: distributions.Dirichlet(torch.stack([a, b, a + b], -1)),
    "multinomial": lambda a, b: distributions.Multinomial(5, torch.stack([a, b, a + b], -1)),
    "LKJ": lambda a, b: distributions.LKJCholesky(3, a),
}


def log_prob_of_one(component, value):
    """Return the log-density; -inf if the component's own check rejects the value."""
    try:
        return component.log_prob(value)
    except ValueError:
        return torch.tensor(-math.inf)


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("family", SUPPORTS.values(), ids=SUPPORTS)
def test_components_have_zero_density_outside_of_their_supports(family, batch, validate):
    """Compare with single components, whose own checks of values define their supports."""
    parameters = 0.5 + 1.5 * torch.rand(2, *batch, 4)
    p_z = Mixture(torch.randn(*batch, 4), family(*parameters), validate_args=validate).expand((2, *batch))
    z = p_z.sample((6,))
    ones = [family(a, b) for a, b in parameters.unsqueeze(1).expand(2, 2, *batch, 4).flatten(1).unbind(1)]
    values = z.unsqueeze(-1 - len(p_z.event_shape)).expand(6, 2, *batch, 4, *p_z.event_shape)
    expected = torch.stack(
        [
            torch.stack([log_prob_of_one(one, value) for one, value in zip(ones, draw, strict=True)])
            for draw in values.flatten(1, 2 + len(batch))
        ]
    )
    joint = p_z.log_weights + expected.reshape(6, 2, *batch, 4)
    torch.testing.assert_close(p_z.component_log_prob(z), joint)
    torch.testing.assert_close(p_z.log_prob(z), torch.logsumexp(joint, -1))
    torch.testing.assert_close(p_z.responsibilities(z), torch.softmax(joint, -1))


@pytest.mark.parametrize(
    ("family", "value"),
    [("uniform", 9.0), ("binomial", 40.0), ("pareto", 0.1), ("scaled beta", 9.0), ("mixtures of uniforms", 9.0)],
)
def test_a_value_outside_of_all_supports_is_refused_or_has_zero_density(family, value):
    arguments = torch.zeros(4), SUPPORTS[family](*(0.5 + 1.5 * torch.rand(2, 4)))
    with pytest.raises(ValueError, match="within the support"):
        Mixture(*arguments, validate_args=True).expand((2,)).log_prob(torch.tensor(value))
    assert Mixture(*arguments).log_prob(torch.tensor(value)) == -math.inf


class WithoutSupport(Normal):
    @property
    def support(self):
        raise NotImplementedError


def test_components_may_lack_a_support():
    components = WithoutSupport(torch.zeros(3), torch.ones(3), validate_args=False)
    log_prob = Mixture(torch.zeros(3), components).log_prob(torch.tensor(1.0))
    torch.testing.assert_close(log_prob, Normal(0.0, 1.0).log_prob(torch.tensor(1.0)))


@pytest.mark.parametrize("validate", [True, False])
def test_expanding_keeps_the_check_of_values(validate):
    assert Mixture(torch.zeros(3), FAMILIES["diagonal"]((3,)), validate).expand((2,))._validate_args == validate


def test_components_without_the_value_in_their_support_have_zero_gradients():
    high = torch.tensor([1.0, 3.0], requires_grad=True)
    Mixture(torch.zeros(2), distributions.Uniform(torch.zeros(2), high)).log_prob(torch.tensor(2.0)).backward()
    torch.testing.assert_close(high.grad, torch.tensor([0.0, -1 / 3]))


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


def test_components_with_weight_zero_affect_neither_density_nor_draws():
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


def test_components_are_sampled_by_their_weights():
    log_weights = torch.log_softmax(torch.randn(3, 6), -1)
    index = sample_index(log_weights, torch.Size((50_000,)))
    share = torch.stack([(index == k).double().mean(0) for k in range(6)], -1)
    weights = log_weights.exp()
    assert ((share - weights).abs() < 5 * (weights * (1 - weights) / 50_000).sqrt()).all()


def test_samples_of_a_generator_are_reproducible_and_leave_the_global_one_unchanged():
    state = torch.get_rng_state()
    first, second = (corners().sample((4,), generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="global generator only"):
        Mixture(torch.zeros(5), FAMILIES["laplace"]((5,))).sample((2,), generator=torch.Generator())


def test_density_does_not_depend_on_the_order_of_components():
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
def test_invalid_arguments_raise_clear_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def three_components(dtype=torch.float64):
    logits = torch.tensor([0.3, -0.4, 0.1], dtype=dtype)
    loc = torch.tensor([[-0.6, 0.2], [0.5, 0.9], [0.1, -0.8]], dtype=dtype)
    scale = torch.tensor([[0.9, 0.6], [0.7, 1.1], [0.8, 0.5]], dtype=dtype)
    return [x.requires_grad_() for x in (logits, loc, scale)]


def mixture_of(logits, loc, scale):
    return Mixture(logits, diagonal_normal(loc, scale))


def test_rsample_of_one_dimension_moves_along_the_quantile():
    """dz/dtheta at fixed F(z) equals finite differences of the quantile, which bisection computes."""
    parameters = [x.detach()[..., :1].squeeze() for x in three_components()]
    parameters[0] = three_components()[0].detach()

    def quantile(level, logits, loc, scale):
        low, high = -20.0, 20.0
        for _ in range(200):
            middle = (low + high) / 2
            value = (torch.softmax(logits, -1) * torch.special.ndtr((middle - loc) / scale)).sum()
            low, high = (middle, high) if value < level else (low, middle)
        return low

    torch.manual_seed(0)
    arguments = [x.clone().requires_grad_() for x in parameters]
    logits, loc, scale = arguments
    z = mixture_of(logits, loc.unsqueeze(-1), scale.unsqueeze(-1)).rsample((4,)).squeeze(-1)
    for value in z:
        level = (torch.softmax(logits, -1) * torch.special.ndtr((value - loc) / scale)).sum().detach()
        gradients = torch.autograd.grad(value, arguments, retain_graph=True)
        for which, gradient in enumerate(gradients):
            for k in range(3):
                moved = [[x.detach().clone() for x in parameters] for _ in range(2)]
                moved[0][which][k] += 1e-5
                moved[1][which][k] -= 1e-5
                slope = (quantile(level, *moved[0]) - quantile(level, *moved[1])) / 2e-5
                assert gradient[k] == pytest.approx(float(slope), rel=1e-4, abs=1e-6)


def test_rsample_gradients_of_expectations_are_finite_differences_of_quadrature():
    """The function z_1 z_2 + cos(z_1 + 2 z_2) couples the coordinates; all parameters are tested, also the weights."""
    parameters = three_components()

    def function(z):
        return z[..., 0] * z[..., 1] + torch.cos(z[..., 0] + 2 * z[..., 1])

    grid, area = quadrature_grid(-8, 8, 400)

    def expectation(*moved):
        with torch.no_grad():
            return float((mixture_of(*moved).log_prob(grid).exp() * function(grid)).sum() * area)

    batches = []
    for _ in range(20):
        value = function(mixture_of(*parameters).rsample((10_000,))).mean()
        batches.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)]))
    estimates = torch.stack(batches)
    mean, error = estimates.mean(0), estimates.std(0) / math.sqrt(len(estimates))
    index = 0
    for which, parameter in enumerate(parameters):
        for position in range(parameter.numel()):
            slopes = []
            for step in (1e-4, -1e-4):
                moved = [x.detach().clone() for x in parameters]
                moved[which].view(-1)[position] += step
                slopes.append(expectation(*moved))
            slope = (slopes[0] - slopes[1]) / 2e-4
            assert abs(mean[index] - slope) <= 5 * error[index] + 1e-4
            assert error[index] < 0.02
            index += 1


def test_rsample_of_one_component_is_loc_plus_scale_times_noise():
    loc = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    scale = torch.full((1, 4), 1e-6, dtype=torch.float64, requires_grad=True)
    z = mixture_of(torch.zeros(1), loc, scale).rsample((5,))
    weights = torch.randn(5, 4, dtype=torch.float64)
    of_loc, of_scale = torch.autograd.grad((z * weights).sum(), [loc, scale])
    torch.testing.assert_close(of_loc, weights.sum(0, keepdim=True))
    noise = (z - loc) / scale
    torch.testing.assert_close(of_scale, (noise * weights).sum(0, keepdim=True), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
def test_rsample_has_the_distribution_and_the_shape_of_sample(batch):
    logits, loc, scale = torch.randn(*batch, 5), torch.randn(*batch, 5, 3), torch.rand(*batch, 5, 3) + 0.1
    p_z = mixture_of(logits.requires_grad_(), loc.requires_grad_(), scale)
    assert p_z.has_rsample
    z = p_z.rsample((20_000,))
    assert z.shape == (20_000, *batch, 3)
    assert z.dtype == loc.dtype
    torch.testing.assert_close(z.mean(0), p_z.mean, rtol=0, atol=0.06)
    z[:10].sum().backward()
    assert torch.isfinite(loc.grad).all()
    assert torch.isfinite(logits.grad).all()


def test_rsample_of_other_components_is_refused():
    p_z = Mixture(torch.zeros(5), FAMILIES["laplace"]((5,)))
    assert not p_z.has_rsample
    with pytest.raises(NotImplementedError, match=r"use sample\(\)"):
        p_z.rsample()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("batch", [(), (4,)])
@pytest.mark.parametrize("grad", [True, False])
def test_expected_value_and_top_responsibilities_agree_with_the_matrix(family, batch, grad):
    p_z = Mixture(torch.randn(*batch, 5).requires_grad_(grad), family((*batch, 5)))
    z, values = p_z.sample((7,)), torch.randn(5, 2)
    matrix = p_z.responsibilities(z)
    mean = p_z.expected_value(z, values)
    torch.testing.assert_close(mean, matrix @ values)
    assert mean.requires_grad == grad
    shares, index = p_z.top_responsibilities(z, 3)
    torch.testing.assert_close(shares, matrix.topk(3, -1).values)
    torch.testing.assert_close(matrix.gather(-1, index), shares)
    with pytest.raises(ValueError, match="from 1 to 5"):
        p_z.top_responsibilities(z, 6)


def test_more_components_than_multinomial_supports_are_drawn_by_weight():
    """`torch.multinomial` supports at most 2^24 categories; the components beyond must be drawn by their weight."""
    num_components = 2**24 + 1000
    log_weights = torch.full((num_components,), -math.log(2 * 2**24))
    log_weights[2**24 :] = -math.log(2 * 1000)  # half of the weight on the last thousand
    index = sample_index(log_weights, (20_000,))
    share = (index >= 2**24).double().mean()
    assert abs(share - 0.5) < 5 * math.sqrt(0.25 / 20_000)
    assert index.max() < num_components
    assert len(index[index >= 2**24].unique()) > 990
