"""Likelihoods, compared with sums over all values, scipy, mpmath and finite differences; samplers, with densities."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.distributions import Normal

from priory._support.imports import located
from priory.distributions import CategoricalLevels, DiscretizedLogistic, NegativeBinomial
from priory.nn.decoders import (
    BernoulliDecoder,
    CategoricalDecoder,
    Decoder,
    DiscretizedLogisticDecoder,
    GaussianDecoder,
    NegativeBinomialDecoder,
)
from priory.nn.networks import ConvolutionalDecoderNetwork, mlp
from priory.workbench.settings.likelihoods import LIKELIHOODS

LATENT, COLUMNS = 3, 5
LIBRARY_SIZES = torch.tensor([10.0, 400.0, 90.0, 5000.0])
LOC, SCALE = torch.arange(5.0), torch.tensor([1.0, 10.0, 1e3, 1e-2, 1.0])

OPTIONS = {
    "bernoulli": {},
    "categorical": {"num_levels": 17},
    "gaussian": {"loc": LOC, "scale": SCALE},
    "discretized-logistic": {"num_levels": 17},
    "negative-binomial": {"library_sizes": LIBRARY_SIZES},
}
CASES = [*OPTIONS.items(), ("gaussian", {"loc": LOC, "scale": SCALE, "learn_scale": "per-datum"})]


class Fixed(nn.Module):
    """A network that ignores z and returns the same row for each."""

    def __init__(self, row):
        super().__init__()
        self.row = nn.Parameter(torch.as_tensor(row).detach().clone())
        self.out_features = len(self.row)

    def forward(self, z):
        return self.row.expand(*z.shape[:-1], -1)


def decoder_of(name):
    return located(LIKELIHOODS[name].decoder)


def build(name, options):
    torch.manual_seed(0)
    family = decoder_of(name)
    return family(mlp(LATENT, [8], COLUMNS * family.outputs_per_dimension(**options)), **options)


def log_prob_and_gradients(distribution, parameters, x):
    log_prob = distribution.log_prob(x)
    return log_prob, *torch.autograd.grad(log_prob.sum(), parameters)


def chi_square_p_value(samples, probabilities):
    """Return the p-value of counts in cells with an expected count of at least 5; the other cells are pooled."""
    observed = np.bincount(samples.long().numpy(), minlength=len(probabilities)).astype(float)
    expected = probabilities.double().numpy() * len(samples)
    enough = expected >= 5
    observed, expected = ([*v[enough], v.sum() - v[enough].sum()] for v in (observed[: len(expected)], expected))
    observed[-1], expected[-1] = len(samples) - sum(observed[:-1]), len(samples) - sum(expected[:-1])
    cells = slice(None) if expected[-1] >= 5 else slice(-1)
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed[cells], expected[cells], strict=True))
    return scipy.stats.chi2.sf(statistic, len(observed[cells]) - 1)


# -- all decoders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), (4,), (2, 4), (3, 2, 4)])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_decoder_has_the_required_shapes_and_moments(name, options, leading):
    decoder = build(name, options)
    p_x = decoder(torch.randn(*leading, LATENT))
    assert isinstance(decoder, Decoder)
    assert (p_x.batch_shape, p_x.event_shape) == (leading, (COLUMNS,))
    x = p_x.sample((7,))
    assert (x.shape, x.dtype) == ((7, *leading, COLUMNS), torch.float32)
    assert p_x.support.check(x).all()
    assert (p_x.log_prob(x).shape, p_x.log_prob(x).isfinite().all()) == ((7, *leading), True)
    for moment in (p_x.mean, p_x.variance):
        assert (moment.shape, moment.isfinite().all()) == ((*leading, COLUMNS), True)
    assert (p_x.variance >= 0).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_parameter_receives_a_gradient(name, options):
    decoder = build(name, options)
    p_x = decoder(torch.randn(20, LATENT))
    p_x.log_prob(p_x.sample()).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in decoder.parameters())
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_dict_restores_the_density(name, options):
    decoder = build(name, options)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter)
    changed = {key: value + 1 if isinstance(value, torch.Tensor) else value for key, value in options.items()}
    restored = build(name, changed)
    restored.load_state_dict(decoder.state_dict())
    z = torch.randn(4, LATENT)
    densities = []
    for member in (decoder, restored):
        torch.manual_seed(1)  # the negative binomial draws library sizes
        p_x = member(z)
        torch.manual_seed(2)
        x = p_x.sample()
        densities.append(p_x.log_prob(x))
    torch.testing.assert_close(densities[0], densities[1])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_float64_gives_the_same_density(name, options):
    decoder = build(name, options)
    z = torch.randn(4, LATENT)
    covariates = {"library_size": LIBRARY_SIZES} if name == "negative-binomial" else {}
    single = decoder(z, **covariates)
    x = single.sample()
    single_log_prob = single.log_prob(x)
    double = decoder.double()(z.double(), **covariates)
    assert double.mean.dtype == double.sample().dtype == torch.float64
    torch.testing.assert_close(double.log_prob(x.double()), single_log_prob.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_autocast_gives_float32_distributions(name, options):
    decoder = build(name, options)
    z = torch.randn(4, LATENT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert decoder.network(z).dtype == torch.bfloat16
        p_x = decoder(z)
        x = p_x.sample()
        assert x.dtype == p_x.mean.dtype == p_x.variance.dtype == p_x.log_prob(x).dtype == torch.float32
        inside = p_x.log_prob(x)
    torch.testing.assert_close(inside, p_x.log_prob(x))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_mean_and_variance_agree_with_samples(name, options):
    decoder = build(name, options)
    covariates = {"library_size": torch.tensor(100.0)} if name == "negative-binomial" else {}
    p_x = decoder(torch.randn(LATENT), **covariates)
    count = 20_000
    x = p_x.sample((count,)).double()
    mean, variance = p_x.mean.double(), p_x.variance.double()
    fourth_moment = ((x - mean) ** 4).mean(0)
    assert ((x.mean(0) - mean).abs() < 5 * (variance / count).sqrt()).all()
    assert (((x - mean) ** 2).mean(0) - variance).abs().lt(5 * ((fourth_moment - variance**2) / count).sqrt()).all()


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("family", [NegativeBinomial, DiscretizedLogistic])
def test_expanding_keeps_the_check_of_values(family, validate):
    assert family(torch.zeros(2), torch.zeros(2), validate_args=validate).expand((3, 2))._validate_args == validate


@pytest.mark.parametrize(("name", "options"), CASES)
def test_distributions_can_be_expanded(name, options):
    p_x = build(name, options)(torch.randn(2, LATENT))
    wide = p_x.expand((3, 2))
    x = p_x.sample()
    assert wide.batch_shape == (3, 2)
    torch.testing.assert_close(wide.log_prob(x), p_x.log_prob(x).expand(3, 2))
    assert wide.sample().shape == (3, 2, COLUMNS)


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "discretized-logistic"])
def test_convolutional_networks_have_the_right_number_of_outputs(name):
    family, options = decoder_of(name), OPTIONS[name]
    network = ConvolutionalDecoderNetwork((7, 6), LATENT, family.outputs_per_dimension(**options), channels=(4, 4))
    assert family(network, **options)(torch.randn(2, LATENT)).event_shape == (42,)


@pytest.mark.parametrize("name", ["categorical", "discretized-logistic"])
def test_outputs_of_one_dimension_are_adjacent(name):
    """A change of the outputs of one dimension changes only the mean of this dimension."""
    family, options = decoder_of(name), OPTIONS[name]
    per_dimension = family.outputs_per_dimension(**options)
    rows = torch.zeros(4, per_dimension)
    before = family(Fixed(rows.flatten()), **options)(torch.zeros(LATENT)).mean
    rows[2, 0] = 1.0
    after = family(Fixed(rows.flatten()), **options)(torch.zeros(LATENT)).mean
    assert (before != after).tolist() == [False, False, True, False]


# -- formulas of simple likelihoods ------------------------------------------------------------------------------------


def test_bernoulli_equals_its_formula_and_refuses_gray_values():
    logits = torch.tensor([-2.0, 0.5, 60.0, -60.0])
    p_x = BernoulliDecoder(Fixed(logits))(torch.zeros(LATENT))
    x = torch.tensor([0.0, 1.0, 1.0, 0.0])
    for value in (x, 1 - x):
        signs = 2 * value.numpy() - 1
        expected = -np.logaddexp(0, -signs * logits.numpy()).sum()  # log sigmoid(l) at one, log sigmoid(-l) at zero
        assert p_x.log_prob(value).item() == pytest.approx(expected, rel=1e-6)
    for wrong in (0.5, -1.0, 2.0, math.nan, 1e-30):
        with pytest.raises(ValueError, match="support"):
            p_x.log_prob(torch.tensor([0.0, 1.0, wrong, 0.0]))


def test_moments_of_categorical_levels_equal_sums_over_levels():
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]])
    levels = CategoricalLevels(probs=probabilities)
    for row, distribution in enumerate(probabilities.tolist()):
        mean = sum(k * p for k, p in enumerate(distribution))
        variance = sum((k - mean) ** 2 * p for k, p in enumerate(distribution))
        assert levels.mean[row].item() == pytest.approx(mean)
        assert levels.variance[row].item() == pytest.approx(variance, abs=1e-7)


def test_categorical_sums_to_one_and_accepts_float_levels():
    decoder = CategoricalDecoder(Fixed(torch.randn(17).double() * 20), num_levels=17)
    p_x = decoder(torch.zeros(LATENT))
    total = sum(p_x.log_prob(torch.tensor([float(k)])).exp() for k in range(17))
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), rtol=1e-12, atol=0)


def test_gaussian_density_is_in_the_units_of_the_data():
    row = torch.tensor([0.5, -1.0])
    loc, scale = torch.tensor([100.0, 0.0]), torch.tensor([20.0, 1e-3])
    decoder = GaussianDecoder(Fixed(row), loc=loc, scale=scale, min_scale=0.01)
    decoder.free_scale.data = torch.tensor([0.7, -9.0])
    p_x = decoder(torch.zeros(LATENT))
    x = torch.tensor([103.0, 0.002])
    expected = 0.0
    for column, free in enumerate([0.7, -9.0]):
        noise = 0.01 + math.log1p(math.exp(math.log(math.expm1(0.99)) + free))
        mean = (loc + scale * row)[column].item()
        expected += scipy.stats.norm(mean, scale[column].item() * noise).logpdf(x[column].item())
    assert p_x.log_prob(x).item() == pytest.approx(expected, rel=1e-5)


def test_gaussian_starts_with_the_standard_deviation_of_the_data():
    for learn_scale, row in (("per-column", [0.0, 0.0]), ("per-datum", [0.0, 0.0, 0.0, 0.0])):
        decoder = GaussianDecoder(Fixed(row), LOC[:2], SCALE[:2], learn_scale=learn_scale)
        torch.testing.assert_close(decoder(torch.zeros(LATENT)).stddev, SCALE[:2])


@pytest.mark.parametrize("free", [-1e4, -50.0, 50.0, 1e4])
def test_gaussian_scale_is_bounded_below_and_finite(free):
    decoder = GaussianDecoder(Fixed([0.0, free]), LOC[1:2], SCALE[1:2], learn_scale="per-datum")
    stddev = decoder(torch.zeros(LATENT)).stddev
    assert 0.999e-3 * SCALE[1] <= stddev < float("inf")


# -- discretized logistic ----------------------------------------------------------------------------------------------

LOGISTIC_LOCS = (-1e4, -300.0, -0.5, 0.0, 0.3, 100.0, 127.49, 255.0, 255.5, 1e4)
LOGISTIC_LOG_SCALES = tuple(math.log(scale) for scale in (1e-3, 1e-1, 1.0, 30.0, 1e3, 1e6))


@pytest.mark.parametrize(("loc", "log_scale"), list(itertools.product(LOGISTIC_LOCS, LOGISTIC_LOG_SCALES)))
def test_discretized_logistic_sums_to_one(loc, log_scale):
    loc, log_scale = torch.tensor([loc, log_scale], dtype=torch.float64)
    levels = torch.arange(256.0, dtype=torch.float64)
    total = DiscretizedLogistic(loc, log_scale).log_prob(levels).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), rtol=1e-10, atol=0)


@pytest.mark.parametrize("num_levels", [2, 17])
def test_discretized_logistic_agrees_with_scipy(num_levels):
    for loc, scale in itertools.product((-3.0, 0.2, 7.7, 20.0), (0.5, 2.0, 40.0)):
        distribution = DiscretizedLogistic(
            torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64).log(), num_levels
        )
        edges = np.concatenate([[-np.inf], np.arange(num_levels - 1) + 0.5, [np.inf]])
        expected = np.diff(scipy.stats.logistic(loc, scale).cdf(edges))
        actual = distribution.log_prob(torch.arange(num_levels)).exp()
        np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize(("loc", "log_scale"), list(itertools.product(LOGISTIC_LOCS, LOGISTIC_LOG_SCALES)))
def test_discretized_logistic_is_precise_in_float32_far_in_the_tails(loc, log_scale):
    parameters = torch.tensor([loc, log_scale], requires_grad=True)
    levels = torch.tensor([0.0, 1.0, 99.0, 100.0, 128.0, 254.0, 255.0])
    actual = DiscretizedLogistic(parameters[0], parameters[1]).log_prob(levels)
    with mpmath.workdps(60):
        center, scale = mpmath.mpf(parameters[0].item()), mpmath.exp(parameters[1].item())
        for level, value in zip(levels.tolist(), actual.tolist(), strict=True):
            # The upper tail has its own formula, because a difference of numbers near 1 needs more than 60 digits.
            sign = 1 if level < center else -1
            below = 1 / (1 + mpmath.exp(-sign * (level + sign * 0.5 - center) / scale))
            beyond = 1 / (1 + mpmath.exp(-sign * (level - sign * 0.5 - center) / scale))
            if level == (0 if sign > 0 else 255):
                beyond = mpmath.mpf(0)
            if level == (255 if sign > 0 else 0):
                below = mpmath.mpf(1)
            assert value == pytest.approx(float(mpmath.log(below - beyond)), rel=3e-5, abs=3e-6)
    (gradient,) = torch.autograd.grad(actual.sum(), parameters)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 1.0, 7.0, 15.0, 16.0])
def test_discretized_logistic_gradients_agree_with_finite_differences(level):
    loc = torch.tensor([-4.0, 6.8, 30.0], dtype=torch.float64, requires_grad=True)
    log_scale = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: DiscretizedLogistic(a, b, 17).log_prob(torch.tensor(level)), (loc, log_scale)
    )


@pytest.mark.parametrize(("loc", "scale"), [(8.3, 1.5), (-2.0, 3.0), (15.6, 0.1), (8.0, 1e4)])
def test_discretized_logistic_moments_and_sampler_agree_with_the_density(loc, scale):
    distribution = DiscretizedLogistic(torch.tensor(loc), torch.tensor(scale).log(), num_levels=17)
    levels = torch.arange(17.0)
    probabilities = distribution.log_prob(levels).exp()
    mean = (probabilities * levels).sum()
    torch.testing.assert_close(distribution.mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        distribution.variance, (probabilities * (levels - mean) ** 2).sum(), rtol=1e-4, atol=1e-5
    )
    torch.manual_seed(0)
    assert chi_square_p_value(distribution.sample((20_000,)), probabilities) > 1e-4


def test_discretized_logistic_decoder_scales_loc_to_levels():
    decoder = DiscretizedLogisticDecoder(Fixed([0.5, 0.3]), num_levels=17)
    levels = decoder(torch.zeros(LATENT)).base_dist
    assert levels.loc.item() == pytest.approx(8.0)
    assert levels.log_scale.item() == pytest.approx(
        math.log(1.6) + 0.3, rel=1e-2
    )  # the soft bound is nearly the identity


@pytest.mark.parametrize("outputs", list(itertools.product((-1e6, 0.0, 1e6), (-1e6, -30.0, 0.0, 30.0, 1e6))))
def test_discretized_logistic_decoder_is_finite_for_any_network(outputs):
    network = Fixed(list(outputs))
    p_x = DiscretizedLogisticDecoder(network)(torch.zeros(LATENT))
    log_prob = p_x.log_prob(torch.tensor([[0.0], [3.0], [255.0]]))
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert network.row.grad.isfinite().all()
    assert p_x.support.check(p_x.sample((10,))).all()


# -- negative binomial -------------------------------------------------------------------------------------------------

MEANS = (1e-8, 1e-4, 1e-1, 1.0, 30.0, 1e4, 1e8)
TOTAL_COUNTS = (1e-4, 1e-1, 1.0, 50.0, 1e4, 1e8)


def reference_log_prob(x, log_mean, log_total_count):
    """Return the log-probability and its two derivatives by the definition, with 60 digits."""
    with mpmath.workdps(60):
        m, r = mpmath.exp(log_mean), mpmath.exp(log_total_count)
        log_prob = mpmath.loggamma(x + r) - mpmath.loggamma(r) - mpmath.loggamma(x + 1)
        log_prob += r * mpmath.log(r / (r + m)) + x * mpmath.log(m / (r + m))
        by_log_total_count = mpmath.digamma(x + r) - mpmath.digamma(r) + mpmath.log(r / (r + m)) + (m - x) / (r + m)
        return float(log_prob), float(r * (x - m) / (r + m)), float(r * by_log_total_count)


def counts_around(mean, total_count):
    spread = math.sqrt(mean + mean**2 / total_count)
    around = {round(max(0, mean + step * spread)) for step in (-3, -0.5, 0, 0.5, 3)}
    return sorted({0, 1, 2, 7, 8, 1000, *(min(count, 10**9) for count in around)})


@pytest.mark.parametrize(("mean", "total_count"), list(itertools.product(MEANS, TOTAL_COUNTS)))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_negative_binomial_is_exact_at_extreme_parameters(mean, total_count, dtype):
    parameters = [torch.tensor(math.log(value), dtype=dtype, requires_grad=True) for value in (mean, total_count)]
    distribution = NegativeBinomial(*parameters)
    eps = torch.finfo(dtype).eps
    for count in counts_around(mean, total_count):
        x = torch.tensor(float(count), dtype=dtype)
        actual = [v.item() for v in log_prob_and_gradients(distribution, parameters, x)]
        expected = reference_log_prob(int(x), *(parameter.item() for parameter in parameters))
        # m = exp(log_mean) is rounded. This changes log P by |d log P / d log m| times a few eps, and the derivatives
        # by at most the curvature m r / (r + m) times a few eps.
        assert actual[0] == pytest.approx(expected[0], rel=1e3 * eps, abs=eps * (1e3 + 10 * abs(expected[1])))
        curvature = mean * total_count / (mean + total_count)
        for value, reference in zip(actual[1:], expected[1:], strict=True):
            assert value == pytest.approx(reference, rel=1e3 * eps, abs=eps * (1e3 + 10 * curvature))


def test_negative_binomial_agrees_with_scipy():
    for mean, total_count in itertools.product((0.01, 3.0, 200.0), (0.05, 1.0, 70.0)):
        x = np.array([0, 1, 2, 5, 30, 400])
        parameters = torch.tensor([mean, total_count], dtype=torch.float64).log()
        actual = NegativeBinomial(*parameters)
        expected = scipy.stats.nbinom(total_count, total_count / (total_count + mean))
        np.testing.assert_allclose(actual.log_prob(torch.from_numpy(x)), expected.logpmf(x), rtol=1e-11)
        assert actual.mean.item() == pytest.approx(expected.mean())
        assert actual.variance.item() == pytest.approx(expected.var())


def test_negative_binomial_is_poisson_in_the_limit():
    x = torch.tensor([0.0, 1.0, 4.0, 20.0], dtype=torch.float64)
    log_mean = torch.tensor(4.0, dtype=torch.float64).log()
    limit = NegativeBinomial(log_mean, torch.full_like(log_mean, 30.0))
    torch.testing.assert_close(
        limit.log_prob(x), torch.distributions.Poisson(log_mean.exp()).log_prob(x), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize(("mean", "total_count"), [(0.3, 0.1), (20.0, 1.0), (100.0, 1e6)])
def test_negative_binomial_sums_to_one(mean, total_count):
    distribution = NegativeBinomial(torch.tensor(mean).double().log(), torch.tensor(total_count).double().log())
    total = distribution.log_prob(torch.arange(3000)).exp().sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), rtol=1e-11, atol=0)


def test_negative_binomial_gradients_agree_with_finite_differences():
    x = torch.tensor([0.0, 1.0, 9.0, 40.0, 40.0]).double()
    log_mean = torch.tensor([0.5, -3.0, 2.0, 3.7, 6.0]).double().requires_grad_()
    log_total_count = torch.tensor([1.0, -4.0, 3.0, 8.0, 0.0]).double().requires_grad_()

    def log_prob(a, b):
        return NegativeBinomial(a, b).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, (log_mean, log_total_count))
    assert torch.autograd.gradgradcheck(log_prob, (log_mean, log_total_count))


@pytest.mark.parametrize(("mean", "total_count"), [(3.0, 0.5), (3.0, 1e6), (0.2, 1e-2)])
def test_negative_binomial_sampler_agrees_with_the_density(mean, total_count):
    distribution = NegativeBinomial(torch.tensor(mean).log(), torch.tensor(total_count).log())
    torch.manual_seed(0)
    samples = distribution.sample((20_000,))
    assert chi_square_p_value(samples, distribution.log_prob(torch.arange(200.0)).exp()) > 1e-4


def test_negative_binomial_samples_at_extreme_parameters_are_counts():
    for mean, total_count in itertools.product(MEANS, TOTAL_COUNTS):
        samples = NegativeBinomial(torch.tensor(mean).log(), torch.tensor(total_count).log()).sample((100,))
        assert ((samples >= 0) & (samples == samples.round()) & samples.isfinite()).all()


def test_negative_binomial_with_mean_zero_is_a_point_mass_at_zero():
    log_total_count = torch.zeros((), requires_grad=True)
    distribution = NegativeBinomial(torch.tensor(-torch.inf), log_total_count)
    log_prob = distribution.log_prob(torch.tensor([0.0, 1.0]))
    assert log_prob.tolist() == [0.0, -math.inf]
    assert (distribution.sample((50,)) == 0).all()
    (gradient,) = torch.autograd.grad(log_prob[0], log_total_count)
    assert gradient == 0


def test_shares_times_library_size_is_the_mean():
    logits = torch.tensor([0.0, 1.0, -2.0])
    decoder = NegativeBinomialDecoder(Fixed(logits), LIBRARY_SIZES)
    decoder.free_log_total_count.data = torch.tensor([0.5, 0.0, -0.5])
    x = torch.tensor([[3.0, 1.0, 0.0], [20.0, 70.0, 2.0]])
    p_x = decoder(torch.zeros(4, 2, LATENT), **decoder.covariates(x))
    shares = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum()
    for row, total in enumerate([4.0, 92.0]):
        means, r = total * shares, decoder.log_total_count.exp().detach().numpy()
        np.testing.assert_allclose(p_x.mean[3, row].detach(), means, rtol=1e-5)
        expected = scipy.stats.nbinom(r, r / (r + means)).logpmf(x[row].numpy()).sum()
        np.testing.assert_allclose(p_x.log_prob(x)[:, row].detach(), np.full(4, expected), rtol=1e-5)


def test_library_sizes_are_drawn_from_the_training_rows():
    decoder = NegativeBinomialDecoder(Fixed([0.0, 0.0]), LIBRARY_SIZES)
    torch.manual_seed(0)
    totals = decoder(torch.zeros(4000, LATENT)).mean.sum(-1).round()
    counts = torch.tensor([(totals == size).sum() for size in LIBRARY_SIZES])
    assert counts.sum() == 4000
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_a_row_without_counts_has_probability_one_and_a_finite_gradient():
    decoder = build("negative-binomial", OPTIONS["negative-binomial"])
    x = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0, 9.0]])
    log_prob = decoder(torch.randn(2, LATENT), **decoder.covariates(x)).log_prob(x)
    log_prob.sum().backward()
    assert log_prob[0] == 0
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())


@pytest.mark.parametrize("free", [-1e6, 1e6])
def test_total_count_stays_in_the_range_in_which_the_density_is_precise(free):
    decoder = NegativeBinomialDecoder(Fixed([0.0, 1.0]), LIBRARY_SIZES)
    decoder.free_log_total_count.data.fill_(free)
    p_x = decoder(torch.zeros(LATENT), torch.tensor(5000.0))
    assert p_x.log_prob(torch.tensor([1000.0, 4000.0])).isfinite()
    assert p_x.mean.isfinite().all()


# -- errors ------------------------------------------------------------------------------------------------------------

ZEROS, ONES = torch.zeros(2), torch.ones(2)
UNKNOWN_WIDTH = nn.Sequential(nn.Linear(LATENT, 10), nn.GLU())


@pytest.mark.parametrize(
    ("build_or_call", "message"),
    [
        (lambda: DiscretizedLogistic(ZEROS, ZEROS, num_levels=1), "num_levels: expected at least 2, got 1"),
        (lambda: DiscretizedLogisticDecoder(nn.Linear(2, 4), num_levels=0), "num_levels: expected at least 2"),
        (lambda: CategoricalDecoder(nn.Linear(2, 4), num_levels=1), "num_levels: expected at least 2"),
        (lambda: CategoricalDecoder(nn.Linear(2, 4), num_levels=3), "a multiple of 3 per row, got 4"),
        (lambda: DiscretizedLogisticDecoder(nn.Linear(2, 3)), "2 outputs per data dimension"),
        (lambda: CategoricalDecoder(UNKNOWN_WIDTH, 3)(torch.zeros(LATENT)), "got 5"),
        (lambda: GaussianDecoder(nn.Linear(2, 2), ZEROS, torch.ones(3)), "two vectors with one number per column"),
        (lambda: GaussianDecoder(nn.Linear(2, 2), ZEROS, ZEROS), "got a scale of 0"),
        (
            lambda: GaussianDecoder(nn.Linear(2, 2), ZEROS, ONES, min_scale=0.0),
            "min_scale: expected a number between 0 and 1",
        ),
        (lambda: GaussianDecoder(nn.Linear(2, 3), ZEROS, ONES), "2 columns .* a network with 3 outputs"),
        (
            lambda: GaussianDecoder(nn.Linear(2, 2), ZEROS, ONES, learn_scale="per-row"),
            "learn_scale: expected 'per-column' or 'per-datum', got 'per-row'",
        ),
        (lambda: NegativeBinomialDecoder(nn.Linear(2, 2), torch.zeros(2, 2)), "library_sizes: expected a vector"),
        (lambda: NegativeBinomialDecoder(nn.Linear(2, 2), torch.zeros(0)), "at least one row total"),
        (lambda: NegativeBinomialDecoder(nn.Linear(2, 2), -ONES), "got numbers from -1 to -1"),
        (
            lambda: NegativeBinomialDecoder(nn.Linear(2, 2), ONES, num_columns=3),
            "num_columns: expected as many columns as",
        ),
        (lambda: NegativeBinomialDecoder(UNKNOWN_WIDTH, ONES), "num_columns: expected a number"),
        (
            lambda: NegativeBinomialDecoder(nn.Linear(2, 2), ONES)(torch.zeros(3, 2), torch.ones(4)),
            r"library_size: expected a shape that broadcasts to the batch shape of z, \(3,\), got \(4,\)",
        ),
        (
            lambda: NegativeBinomialDecoder(nn.Linear(2, 2), ONES)(torch.zeros(3, 2), torch.ones(2, 3)),
            "library_size: expected a shape",
        ),
    ],
)
def test_invalid_arguments_raise_clear_errors(build_or_call, message):
    with pytest.raises(ValueError, match=message):
        build_or_call()


def test_num_columns_replaces_the_unknown_width_of_a_network():
    decoder = NegativeBinomialDecoder(UNKNOWN_WIDTH, LIBRARY_SIZES, num_columns=5)
    assert decoder(torch.zeros(2, LATENT)).event_shape == (5,)


@pytest.mark.parametrize("family", [DiscretizedLogistic, NegativeBinomial])
def test_values_and_parameters_are_validated(family):
    with pytest.raises(ValueError, match="support"):
        family(ZEROS, ZEROS, validate_args=True).log_prob(torch.tensor([0.5, 1.0]))
    with pytest.raises(ValueError, match="Expected parameter"):
        family(torch.tensor([math.nan]), ZEROS, validate_args=True)


def test_gaussian_decoder_returns_torchs_normal():
    p_x = build("gaussian", OPTIONS["gaussian"])(torch.zeros(LATENT))
    assert isinstance(p_x.base_dist, Normal)
