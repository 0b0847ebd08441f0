"""The density kernel, compared with scipy in float64, and its gradients, compared with autograd's."""

import itertools
import math
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from priory.density import (
    Components,
    blocks,
    expected_value,
    joint_log_prob,
    log_prob,
    mixture_log_prob,
    small,
    top_responsibilities,
)
from priory.density.blocks import ComponentBlock, prepare_points
from priory.density.components import TOLERANCE, UNIT_ROUNDOFF, Differences, Products, point_features

TOLERATED = 1e-4  # of max(1, |log p|)


def no_path_but_blocks(numbers=256):
    """Use tiny blocks for all mixtures; large mixtures use blocks anyway."""
    stack = ExitStack()
    stack.enter_context(patch.object(small, "SMALL", 0))
    stack.enter_context(patch.object(blocks, "SMALL", 0))
    stack.enter_context(patch.object(blocks, "BLOCK_ON_CPU", numbers))
    stack.enter_context(patch.object(blocks, "POINTS_AT_ONCE", 16))
    stack.enter_context(patch.object(log_prob, "SOME", 1))
    return stack


# torch's forward mode uses torch.jit.script, which torch itself has deprecated.
forward_mode = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

PATHS = {"as it is": ExitStack, "blocks": no_path_but_blocks}


def scipy_log_prob(z, log_weights, loc, scale):
    """log sum_k pi_k prod_l N(z_l | loc_kl, scale_kl^2) in float64."""
    z, log_weights, loc, scale = (x.detach().double().numpy() for x in (z, log_weights, loc, scale))
    joint = log_weights + scipy.stats.norm.logpdf(z[:, None], loc, scale).sum(-1)
    return torch.from_numpy(scipy.special.logsumexp(joint, axis=-1))


def recorded_log_prob(z, log_weights, loc, scale):
    """The same, with operations that autograd records."""
    squares = ((z.unsqueeze(-2) - loc) / scale).square()
    normal = -0.5 * squares.sum(-1) - scale.log().sum(-1) - 0.5 * math.log(2 * math.pi) * z.shape[-1]
    return torch.logsumexp(log_weights + normal, -1)


def assert_exact(result, expected):
    error = (result.double() - expected).abs() / expected.abs().clamp_min(1)
    assert error.max() <= TOLERATED


class NoFloat64(TorchFunctionMode):
    """Fails if a function returns a float64 tensor, as the device `mps` does."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            assert result.dtype != torch.float64
        return result


@st.composite
def mixtures(draw):
    """(z, log_weights, loc, scale) in float32 over all magnitudes, with points near, between and far."""
    latent_dim = draw(st.sampled_from([1, 2, 3, 8, 9, 40, 512]))
    num_components = draw(st.sampled_from([1, 2, 7, 40]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    spread = draw(st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e3]))
    loc = (spread * normal(num_components, latent_dim)).clamp(-1e3, 1e3)
    loc = loc + draw(st.sampled_from([0.0, 1e3]))
    size = 10.0 ** draw(st.floats(-3, 3))
    jitter = draw(st.sampled_from([0.0, 0.5, 2.0]))
    scale = (size * torch.exp(jitter * normal(num_components, latent_dim))).clamp(1e-3, 1e3)
    logits = normal(num_components) * draw(st.sampled_from([0.0, 1.0, 30.0]))
    kind = draw(st.sampled_from(["all", "some off", "one"]))
    if kind == "some off":
        logits[1::2] = -math.inf
    if kind == "one":
        logits[:-1] = -math.inf
    near = loc + scale * normal(num_components, latent_dim)
    between = (loc + loc.flip(0)) / 2
    far = loc[:1] + 10.0 ** draw(st.integers(0, 6)) * normal(5, latent_dim)
    return torch.cat([near, between, far]), torch.log_softmax(logits, -1), loc, scale


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(arguments=mixtures())
def test_density_equals_scipys_at_any_magnitude(path, arguments):
    with path():
        result = mixture_log_prob(*arguments)
    assert result.dtype == torch.float32
    assert_exact(result, scipy_log_prob(*arguments))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("latent_dim", [1, 8, 9, 512])
@pytest.mark.parametrize("scale", [1e-3, 1e-2, 1e3])
def test_density_is_exact_if_its_terms_cancel(path, latent_dim, scale):
    """At these z, -q/2 and -sum log scale nearly cancel: log p is small, its terms are large."""
    torch.manual_seed(0)
    loc = torch.randn(20, latent_dim)
    scales = torch.full((20, latent_dim), scale)
    height = -latent_dim * math.log(scale * math.sqrt(2 * math.pi))
    direction = torch.nn.functional.normalize(torch.randn(20, latent_dim), dim=-1)
    z = loc + scales * direction * math.sqrt(max(2 * height, 0.0))
    log_weights = torch.full((20,), -math.log(20))
    for point, center, width in zip(z, loc, scales, strict=True):
        arguments = point[None], torch.zeros(1), center[None], width[None]
        with path():
            result = mixture_log_prob(*arguments)
        assert_exact(result, scipy_log_prob(*arguments))
    with path():
        assert_exact(mixture_log_prob(z, log_weights, loc, scales), scipy_log_prob(z, log_weights, loc, scales))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(arguments=mixtures())
def test_gradients_equal_those_of_a_float64_sum(path, arguments):
    arguments = [x.requires_grad_() for x in arguments]
    doubles = [x.detach().double().requires_grad_() for x in arguments]
    direction = torch.linspace(-1, 2, len(arguments[0]))
    with path():
        gradients = torch.autograd.grad(mixture_log_prob(*arguments) @ direction, arguments)
    expected = torch.autograd.grad(recorded_log_prob(*doubles) @ direction.double(), doubles)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert torch.isfinite(ours).all()
        assert (ours - theirs).abs().max() <= 1e-4 * max(1.0, theirs.abs().max())


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(arguments=mixtures())
def test_joint_log_prob_equals_scipys(path, arguments):
    z, log_weights, loc, scale = arguments
    with path():
        joint = joint_log_prob(*arguments)
    normal = scipy.stats.norm.logpdf(z.double().numpy()[:, None], loc.double().numpy(), scale.double().numpy())
    expected = log_weights.double() + torch.from_numpy(normal.sum(-1))
    on = torch.isfinite(log_weights)
    assert_exact(joint[:, on], expected[:, on])
    assert (joint[:, ~on] == -math.inf).all()


def small_arguments(dtype=torch.float64, num_points=5, num_components=7, latent_dim=3):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(num_points, latent_dim, generator=generator)
    loc = torch.randn(num_components, latent_dim, generator=generator)
    scale = torch.rand(num_components, latent_dim, generator=generator) + 0.3
    log_weights = torch.log_softmax(torch.randn(num_components, generator=generator), -1)
    return [x.to(dtype).requires_grad_() for x in (z, log_weights, loc, scale)]


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("function", [mixture_log_prob, joint_log_prob])
@forward_mode
def test_first_and_second_derivatives_equal_finite_differences(function, path):
    with path():
        assert torch.autograd.gradcheck(function, small_arguments(), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, small_arguments())


def test_second_derivatives_of_recorded_products_equal_finite_differences():
    """Large mixtures use products, because differences would need B x K x L numbers."""
    with patch("priory.density.functions.RECORDED_DIFFERENCES", 0):
        for function in (mixture_log_prob, joint_log_prob):
            assert torch.autograd.gradgradcheck(function, small_arguments())


@pytest.mark.parametrize(("points", "parameters"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_only_the_required_gradients_are_computed(points, parameters, path):
    full = small_arguments()
    with path():
        expected = torch.autograd.grad(mixture_log_prob(*full).sum(), full)
        some = [x.detach().requires_grad_(points if i == 0 else parameters) for i, x in enumerate(full)]
        mixture_log_prob(*some).sum().backward()
    for x, gradient in zip(some, expected, strict=True):
        assert (x.grad is not None) == x.requires_grad
        if x.grad is not None:
            torch.testing.assert_close(x.grad, gradient)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@forward_mode
def test_transforms_of_torch_func_agree_with_autograd(path):
    z, log_weights, loc, scale = small_arguments()
    with path():
        score = torch.func.vmap(torch.func.grad(lambda point: mixture_log_prob(point, log_weights, loc, scale)))(z)
        torch.testing.assert_close(score, torch.autograd.grad(mixture_log_prob(z, log_weights, loc, scale).sum(), z)[0])
        moved = torch.stack([loc, loc + 1])
        many = torch.func.vmap(lambda center: mixture_log_prob(z, log_weights, center, scale))(moved)
        one_by_one = [mixture_log_prob(z, log_weights, center, scale) for center in moved]
        torch.testing.assert_close(many, torch.stack(one_by_one))
        many = torch.func.vmap(lambda center: joint_log_prob(z, log_weights, center, scale))(moved)
        one_by_one = [joint_log_prob(z, log_weights, center, scale) for center in moved]
        torch.testing.assert_close(many, torch.stack(one_by_one))
        point = z[0].detach()
        hessian = torch.func.hessian(lambda x: mixture_log_prob(x, log_weights, loc, scale))(point)
    expected = torch.autograd.functional.hessian(lambda x: recorded_log_prob(x, log_weights, loc, scale), point)
    torch.testing.assert_close(hessian, expected)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_backward_outside_of_a_vmap_gives_the_same_gradients(path):
    z, *parameters = small_arguments()
    expected = torch.autograd.grad(recorded_log_prob(z, *parameters).square().sum(), [z, *parameters])
    with path():
        values = torch.func.vmap(lambda point: mixture_log_prob(point, *parameters))(z)
        gradients = torch.autograd.grad(values.square().sum(), [z, *parameters])
    torch.testing.assert_close(gradients, expected)


def test_compiled_density_has_no_graph_break_and_the_same_gradients():
    arguments = small_arguments()
    compiled = torch.compile(mixture_log_prob, fullgraph=True, backend="aot_eager")
    with no_path_but_blocks():
        expected = mixture_log_prob(*arguments)
        result = compiled(*arguments)
        torch.testing.assert_close(result, expected)
        gradients = torch.autograd.grad(result.sum(), arguments)
        torch.testing.assert_close(gradients, torch.autograd.grad(expected.sum(), arguments))


@pytest.mark.parametrize("batch", [(4,), (2, 4)])
def test_mixtures_with_a_batch_shape_equal_single_mixtures(batch):
    torch.manual_seed(0)
    loc, scale = torch.randn(*batch, 6, 3), torch.rand(*batch, 6, 3) + 0.1
    log_weights, z = torch.log_softmax(torch.randn(*batch, 6), -1), torch.randn(5, *batch, 3)
    result = mixture_log_prob(z, log_weights, loc, scale)
    assert result.shape == (5, *batch)
    for index in np.ndindex(*batch):
        alone = mixture_log_prob(z[(slice(None), *index)], log_weights[index], loc[index], scale[index])
        torch.testing.assert_close(result[(slice(None), *index)], alone)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_points_may_have_any_batch_shape(shape, path):
    _, log_weights, loc, scale = small_arguments()
    z = torch.randn(*shape, 3, dtype=torch.float64)
    with path():
        result = mixture_log_prob(z, log_weights, loc, scale)
        joint = joint_log_prob(z, log_weights, loc, scale)
    assert result.shape == shape
    assert joint.shape == (*shape, 7)
    torch.testing.assert_close(torch.logsumexp(joint, -1), result)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_half_precision_becomes_float32_and_float64_stays(dtype, path):
    arguments = [x.detach() for x in small_arguments(dtype)]
    with path():
        result = mixture_log_prob(*arguments)
    assert result.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(result.double(), scipy_log_prob(*arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_autocast_does_not_change_the_density(path):
    arguments = small_arguments(torch.float32)
    with path():
        expected = mixture_log_prob(*arguments)
        with torch.autocast("cpu", torch.bfloat16):
            result = mixture_log_prob(*arguments)
    assert torch.equal(result, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sizes", [(5, 7, 3), (1000, 5000, 40)])
def test_results_on_a_gpu_are_the_same(sizes):
    arguments = small_arguments(torch.float32, *sizes)
    on_gpu = [x.detach().cuda().requires_grad_() for x in arguments]
    results = [mixture_log_prob(*x) for x in (arguments, on_gpu)]
    torch.testing.assert_close(results[1].cpu(), results[0], rtol=1e-5, atol=1e-5)
    ours, theirs = (torch.autograd.grad(r.sum(), x) for r, x in zip(results, (arguments, on_gpu), strict=True))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=1e-4, atol=1e-5)


# -- extremes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_density_of_zero_gives_minus_infinity_and_zero_gradients(path):
    z, log_weights, loc, scale = small_arguments(torch.float32)
    infinite = torch.full_like(z, math.inf).requires_grad_()
    off = torch.full_like(log_weights, -math.inf).requires_grad_()
    for arguments in ([infinite, log_weights, loc, scale], [z, off, loc, scale]):
        with path():
            result = mixture_log_prob(*arguments)
            gradients = torch.autograd.grad(result.sum(), arguments)
        assert (result == -math.inf).all()
        assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("distance", [1e4, 1e10, 1e18])
def test_density_and_score_are_exact_in_far_tails(path, distance):
    z, log_weights, loc, scale = small_arguments(torch.float32)
    far = (distance * torch.ones_like(z)).requires_grad_()
    with path():
        result = mixture_log_prob(far, log_weights, loc, scale)
        (score,) = torch.autograd.grad(result.sum(), far)
    assert_exact(result, scipy_log_prob(far, log_weights, loc, scale))
    double = far.detach().double().requires_grad_()
    others = [x.detach().double() for x in (log_weights, loc, scale)]
    (expected,) = torch.autograd.grad(recorded_log_prob(double, *others).sum(), double)
    torch.testing.assert_close(score.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("order", list(itertools.permutations([math.nan, math.inf, 1e30])))
def test_overflow_of_one_point_does_not_affect_the_others(order, path):
    z, log_weights, loc, scale = small_arguments(torch.float32)
    spoilt = z.detach().clone()
    spoilt[1:4, 1] = torch.tensor(order)
    spoilt.requires_grad_()
    others = [0, 4]
    with path():
        result, joint = (
            mixture_log_prob(spoilt, log_weights, loc, scale),
            joint_log_prob(spoilt, log_weights, loc, scale),
        )
        (gradient,) = torch.autograd.grad(result[others].sum(), spoilt)
    assert_exact(result[others], scipy_log_prob(z[others], log_weights, loc, scale))
    for position, value in enumerate(order, 1):
        expected = math.nan if math.isnan(value) else -math.inf
        for values in (result[position], joint[position]):
            torch.testing.assert_close(values, torch.full_like(values, expected), equal_nan=True)
    exact = z.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(recorded_log_prob(exact, log_weights, loc, scale)[others].sum(), exact)
    torch.testing.assert_close(gradient[others].double(), expected[others], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_nan_in_one_point_does_not_affect_the_others(path):
    z, log_weights, loc, scale = (x.detach() for x in small_arguments(torch.float32))
    spoilt = z.clone()
    spoilt[2, 1] = math.nan
    with path():
        result, clean = (mixture_log_prob(points, log_weights, loc, scale) for points in (spoilt, z))
    assert torch.isnan(result).tolist() == [False, False, True, False, False]
    keep = [0, 1, 3, 4]
    torch.testing.assert_close(result[keep], clean[keep])


# -- the bound of the cancellation -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "spread"), list(itertools.product([1e-3, 1e-2, 0.1, 1.0, 1e3], [0.0, 1.0, 1e3])))
@pytest.mark.parametrize("latent_dim", [1, 40, 512])
def test_the_bound_of_the_cancellation_error_holds(scale, spread, latent_dim):
    torch.manual_seed(0)
    loc = spread * torch.randn(30, latent_dim)
    components = Components(torch.zeros(30), loc, scale * (0.5 + torch.rand(30, latent_dim)))
    z = loc + scale * torch.randn(30, latent_dim)
    center = loc.mean(0).double()
    products = Products(components, center)
    features = point_features(z, center)
    squared_norm = features[:, :latent_dim].sum(-1)
    error = (products.joint(features) - Differences(components).joint(z)).abs().amax(-1)
    size = squared_norm * products.precision.amax() + products._squared_lengths.amax()
    bound = (2 * latent_dim + 8) * UNIT_ROUNDOFF * size
    floor = 1e-14 * products.joint(features).abs().amax()  # differences round too
    assert (error <= bound + floor).all()
    assert torch.equal(squared_norm <= products.reach, bound <= TOLERANCE)


def test_differences_are_used_only_for_points_that_need_them():
    torch.manual_seed(0)
    components = Components(torch.zeros(20), torch.randn(20, 4), torch.full((20, 4), 1e-3))
    z = torch.randn(6, 4)
    z[[1, 4]] = 1e5
    center = components.loc.mean(0).double()
    pair = ComponentBlock(components, center).at(prepare_points(z, center))
    assert pair._direct.tolist() == [1, 4]
    torch.testing.assert_close(pair.joint(), Differences(components).joint(z), rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("gap", [10.0, 500.0, 590.0, 610.0, 5000.0])
@pytest.mark.parametrize("order", ["rising", "falling"])
def test_components_with_very_different_densities_all_count(gap, order):
    """The reference of a block is nearly right, wrong by the largest allowed amount, or by more."""
    num_components = 64
    steps = torch.linspace(0, 1, num_components) if order == "rising" else torch.linspace(1, 0, num_components)
    loc, scale = torch.zeros(num_components, 2), torch.ones(num_components, 2)
    arguments = [torch.zeros(40, 2), gap * steps, loc, scale]  # log-weights need not be normalized
    arguments[0][::3] = 1e3
    arguments = [x.requires_grad_() for x in arguments]
    with no_path_but_blocks():
        result = mixture_log_prob(*arguments)
        gradients = torch.autograd.grad(result.sum(), arguments)
    assert_exact(result, scipy_log_prob(*arguments))
    doubles = [x.detach().double().requires_grad_() for x in arguments]
    expected = torch.autograd.grad(recorded_log_prob(*doubles).sum(), doubles)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)


def test_blocks_cover_everything_once():
    for num_points, num_components, latent_dim in itertools.product([1, 1000, 10**6], [1, 500, 10**6], [1, 40, 4096]):
        components = Components(*(torch.empty(shape) for shape in [(1,), (1, 1), (1, 1)]))
        components = components._replace(loc=torch.empty(1).expand(num_components, latent_dim))
        points, size = blocks.block_sizes(num_points, components)
        assert 1 <= points <= num_points
        assert 1 <= size <= num_components
        assert points * size <= blocks.BLOCK_ON_CPU
        assert max(points, size) * latent_dim <= blocks.PREPARED_AT_ONCE


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_device_without_float64_computes_in_float32_only(path):
    arguments = [x.requires_grad_() for x in (y.detach() for y in small_arguments(torch.float32, 30, 20, 12))]
    doubles = [x.detach().double().requires_grad_() for x in arguments]
    expected = recorded_log_prob(*doubles)
    with path(), patch("priory.density.components.DEVICES_WITHOUT_FLOAT64", ("cpu",)), NoFloat64():
        result = mixture_log_prob(*arguments)
        gradients = torch.autograd.grad(result.sum(), arguments)
        values = expected_value(
            arguments[0].detach(), Components(*(x.detach() for x in arguments[1:])), torch.ones(20, 1)
        )
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected.sum(), doubles), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(values, torch.ones(30, 1))


# -- responsibilities of many points -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_streamed_responsibilities_follow_bayes_rule(path):
    torch.manual_seed(0)
    loc, scale, values = torch.randn(60, 3), torch.rand(60, 3) + 0.05, torch.randn(60, 2)
    logits = torch.randn(60)
    logits[10:30] = -math.inf
    components = Components(torch.log_softmax(logits, -1), loc, scale)
    z = torch.cat([torch.randn(40, 3), 1e4 * torch.randn(3, 3)])
    joint = logits.double() + torch.distributions.Normal(loc.double(), scale.double()).log_prob(
        z.double()[:, None]
    ).sum(-1)
    expected = torch.softmax(joint, -1)
    with path():
        mean = expected_value(z, components, values)
        shares, index = top_responsibilities(z, components, 5)
    torch.testing.assert_close(mean, expected @ values.double(), rtol=1e-6, atol=1e-6)
    top, where = expected.topk(5, -1)
    torch.testing.assert_close(shares, top, rtol=1e-5, atol=1e-8)
    assert torch.equal(index[top > 1e-12], where[top > 1e-12])


# -- memory ------------------------------------------------------------------------------------------------------------

MEMORY = """
import torch
from pathlib import Path
from priory.density import mixture_log_prob
torch.set_num_threads(1)
B, K, L = {sizes}
z = torch.randn(B, L, requires_grad=True)
loc = torch.randn(K, L, requires_grad=True)
scale = torch.full((K, L), 0.5, requires_grad=True)
log_weights = torch.full((K,), -float(torch.tensor(float(K)).log()), requires_grad=True)
arguments = (z, log_weights, loc, scale)
mixture_log_prob(*(x[:600].detach() for x in arguments))  # memory that the libraries need once
def peak():  # ru_maxrss would start at the peak of the parent process
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
before = peak()
mixture_log_prob(*arguments).sum().backward()
gradients = sum(x.grad.numel() * 4 for x in arguments)
print(peak() - before - gradients)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
@pytest.mark.parametrize(("sizes", "limit"), [((1000, 1_000_000, 40), 1.5e9), ((300_000, 500, 16), 0.5e9)])
def test_memory_does_not_grow_with_points_times_components(sizes, limit):
    code = textwrap.dedent(MEMORY.format(sizes=sizes))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout) <= limit
