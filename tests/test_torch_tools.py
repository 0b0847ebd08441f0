"""torch's tools on models of the package: programs, ONNX, compiled losses, ensembles, half precision."""

import copy
import io
import subprocess
import sys
from functools import partial

import pytest
import torch
from packaging.version import Version
from torch import nn
from torch.distributions import Distribution, Independent, Laplace
from torch.func import functional_call, grad, stack_module_state, vmap

from family import DECODERS, MEMBERS, OTHERS, L, slow_if, small_vae
from oracles import mixture_log_prob_loop
from priory import (
    VAE,
    StandardNormal,
    TopographicMap,
    as_model,
    diagonal_normal,
    elbo,
    evaluate,
    fit,
    importance_weighted_bound,
    log_likelihood,
)
from priory.density import mixture_log_prob
from priory.distributions import DiscretizedLogistic, NegativeBinomial
from priory.distributions.binary import BinaryVector
from priory.distributions.normal import Normal
from priory.export import Encoding, LatentDensity, Placer, Scorer, unvalidated

ROWS = [{0: torch.export.Dim.DYNAMIC}]
ALL = [*MEMBERS, *OTHERS]
GRIDS = ["gtm", "gtm-vamp"]
BATCHES = (1, 7, 5000)
NO_ONNX = {  # operators that ONNX lacks
    "family:StudentMixture": "log-gamma",
    "student": "log-gamma",
    "normal": "triangular solve",
    "low rank": "triangular solve",
    "plain flow": "matrix inverse",
}
LOSSES = {
    "elbo": lambda vae, x: elbo(vae, x).value().mean(),
    "importance-weighted": lambda vae, x: importance_weighted_bound(vae, x, num_samples=4).mean(),
}


def slow_but(names, quick):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


NEEDS_TORCH_2_8 = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.8"),
    reason="torch before 2.8 checks values inside of a vmap, and does not compile a context manager",
)


@pytest.fixture(autouse=True)
def checks_of_values_stay():
    """Restore torch's checks of values, which the first `torch.compile` switches off for the whole process."""
    validate = Distribution._validate_args
    yield
    Distribution.set_default_validate_args(validate)


@pytest.fixture
def compiled():
    """Return `torch.compile` in the state of a new process."""
    torch.compiler.reset()
    Distribution.set_default_validate_args(False)
    return partial(torch.compile, fullgraph=True, backend="aot_eager")


def inputs_of(module, x, count):
    return torch.randn(count, L) if isinstance(module, LatentDensity) else x[torch.randint(len(x), (count,))]


def needs_programs():
    if not hasattr(torch.compiler, "is_exporting"):
        pytest.skip("torch before 2.7 does not report that it exports")


def exported(module, *example):
    needs_programs()
    return torch.export.export(module, example, dynamic_shapes=ROWS)


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_same_numbers(program, module, x, **tolerances):
    for count in BATCHES:
        rows = inputs_of(module, x, count)
        with torch.no_grad():
            for got, expected in zip(as_tuple(program(rows)), as_tuple(module(rows)), strict=True):
                torch.testing.assert_close(torch.as_tensor(got), expected, **tolerances)


def check_program(module, x):
    """Check that a saved and loaded program gives the numbers of eager mode and uses no operator of the package."""
    program = exported(module, inputs_of(module, x, 6))
    assert not [node for node in program.graph.nodes if "priory" in str(node.target)]
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert_same_numbers(torch.export.load(file).module(), module, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prior", slow_but(ALL, {"vamp"}))
@pytest.mark.parametrize("kind", [Encoding, LatentDensity, Scorer])
def test_a_program_accepts_any_number_of_rows(kind, prior):
    vae, x = small_vae(prior)
    check_program(kind(vae.train()), x)


@pytest.mark.parametrize("decoder", slow_but(DECODERS, {"bernoulli"}))
def test_a_scorer_of_every_likelihood_accepts_any_number_of_rows(decoder):
    vae, x = small_vae("gtm-vamp", decoder)
    check_program(Scorer(vae), x)


@pytest.mark.parametrize("prior", GRIDS)
def test_an_exported_map_accepts_any_number_of_rows(prior):
    vae, x = small_vae(prior)
    check_program(Placer(vae), x)


def test_a_program_of_functions_is_in_evaluation_mode():
    encoder, decoder = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 2 * L)), nn.Linear(L, 6)
    model = as_model(
        encode=lambda x: diagonal_normal(*encoder(x).exp().chunk(2, -1)),
        decode=lambda z: BinaryVector(decoder(z)),
        prior=StandardNormal(L),
        modules=[encoder, decoder],
    )
    check_program(Scorer(model), torch.rand(9, 6).round())
    assert encoder.training


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_mixture_accepts_any_number_of_points(strict):
    """For 49 nodes in 16 dimensions, eager mode uses another method above 1337 points."""
    module = OfMixture(mixture_log_prob, *random_mixture(49, 16))
    program = torch.export.export(module, (torch.randn(3, 16),), dynamic_shapes=ROWS, strict=strict).module()
    for count in BATCHES:
        z = torch.randn(count, 16)
        torch.testing.assert_close(program(z), module(z))


@pytest.mark.parametrize("smallest_scale", slow_but([1e-9, 1e-3, 1.0, 1e3], {1e-9}))
def test_the_density_of_a_program_is_exact_at_any_scale_and_distance(smallest_scale):
    log_weights, loc, scale = random_mixture(5, 4)
    scale[1:] *= smallest_scale
    z = torch.cat([30 * torch.randn(7, 4), loc + scale * torch.randn(5, 4), torch.full((1, 4), 1e8)])
    program = exported(OfMixture(mixture_log_prob, log_weights, loc, scale), z[:3]).module()
    expected = mixture_log_prob_loop(z, log_weights, loc, scale)
    torch.testing.assert_close(program(z).double(), expected, rtol=1e-6, atol=1e-4)


class OfMixture(nn.Module):
    """A function of points and of the arrays of a mixture."""

    def __init__(self, function, *arrays):
        super().__init__()
        self.function, self.arrays = function, nn.ParameterList(arrays)

    def forward(self, z):
        return self.function(z, *self.arrays)


def random_mixture(num_components, latent_dim):
    torch.manual_seed(0)
    shape = (num_components, latent_dim)
    return torch.log_softmax(torch.randn(num_components), -1), torch.randn(shape), torch.rand(shape) + 0.1


class OfGrid(nn.Module):
    """Densities of a family, with two parameters on a grid."""

    def __init__(self, family, first, second):
        super().__init__()
        self.family, self.parameters_of = family, (first.unsqueeze(-1), second)

    def forward(self, x):
        with unvalidated():
            return self.family(*self.parameters_of).log_prob(x)


EXTREMES = {  # ONNX lacks or rounds functions that these densities need, so programs take other formulas
    "counts": (NegativeBinomial, torch.linspace(-12, 12, 9), torch.linspace(-6, 12, 7)),
    "levels": (DiscretizedLogistic, torch.linspace(-300, 600, 7), torch.linspace(-4, 12, 9)),
}
COUNTS = torch.tensor([0.0, 1.0, 2.0, 5.0, 20.0, 255.0]).reshape(-1, 1, 1)


@pytest.mark.parametrize("family", EXTREMES)
def test_counts_and_levels_have_the_same_density_in_a_program(family):
    kind, first, second = EXTREMES[family]
    module, x = OfGrid(kind, first.double(), second.double()), COUNTS.double()
    torch.testing.assert_close(exported(module, x[:3]).module()(x), module(x), rtol=1e-7, atol=1e-7)


EXPORT_THEN_COMPILE = """
import torch
from priory import *
from priory.export import Scorer
x = torch.randn(9, 5)
decoder = GaussianDecoder.from_data(mlp(3, [8], 5), x)
vae = VAE(NormalEncoder(mlp(5, [8], 6)), decoder, MixtureOfGaussians(3, 4))
torch.export.export(Scorer(vae), (x,), dynamic_shapes=[{0: torch.export.Dim.DYNAMIC}])
loss = torch.compile(lambda x: elbo(vae, x).value().mean(), fullgraph=True, backend="aot_eager")
loss(x).backward()
"""


@NEEDS_TORCH_2_8
@pytest.mark.slow
def test_losses_compile_after_an_export_in_the_same_process():
    done = subprocess.run([sys.executable, "-c", EXPORT_THEN_COMPILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WITHOUT_PRIORY = """
import sys
sys.modules["priory"] = None
import torch
for name in sys.argv[1:]:
    x, expected = torch.load(name + ".pt")
    torch.testing.assert_close(torch.export.load(name + ".pt2").module()(x), expected, rtol=1e-5, atol=1e-5)
assert not [name for name in sys.modules if name.startswith("priory.")]
"""


@pytest.mark.slow
def test_programs_run_in_a_process_without_this_package(tmp_path):
    vae, x = small_vae("gtm-vamp")
    names = []
    for kind in (Encoding, LatentDensity, Scorer, Placer):
        module = kind(vae)
        names.append(str(tmp_path / kind.__name__))
        torch.export.save(exported(module, inputs_of(module, x, 6)), names[-1] + ".pt2")
        rows = inputs_of(module, x, 300)
        with torch.no_grad():
            torch.save((rows, module(rows)), names[-1] + ".pt")
    done = subprocess.run([sys.executable, "-c", WITHOUT_PRIORY, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_onnx(module, x, path, rtol=1e-4, atol=1e-4):
    needs_programs()
    onnxruntime = pytest.importorskip("onnxruntime", reason="tests of ONNX need onnx, onnxscript and onnxruntime")
    torch.onnx.export(module, (inputs_of(module, x, 6),), path, dynamic_shapes=ROWS, verbose=False)
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    assert_same_numbers(lambda rows: tuple(session.run(None, {name: rows.numpy()})), module, x, rtol=rtol, atol=atol)


ignore_warnings_of_onnx = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


@pytest.mark.slow
@ignore_warnings_of_onnx
@pytest.mark.parametrize("kind", [Encoding, LatentDensity, Scorer])
@pytest.mark.parametrize("prior", [name for name in ALL if name not in NO_ONNX])
def test_onnx_gives_the_same_numbers(prior, kind, tmp_path):
    vae, x = small_vae(prior)
    check_onnx(kind(vae), x, tmp_path / "model.onnx")


@pytest.mark.slow
@ignore_warnings_of_onnx
@pytest.mark.parametrize("prior", GRIDS)
def test_onnx_gives_the_same_map(prior, tmp_path):
    vae, x = small_vae(prior)
    check_onnx(Placer(vae), x, tmp_path / "model.onnx")


@pytest.mark.slow
@ignore_warnings_of_onnx
@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "poisson"])  # torch's Poisson has log-gamma
def test_onnx_gives_the_same_scores(decoder, tmp_path):
    vae, x = small_vae("vamp", decoder)
    check_onnx(Scorer(vae), x, tmp_path / "model.onnx")


@pytest.mark.slow
@ignore_warnings_of_onnx
@pytest.mark.parametrize("family", EXTREMES)
def test_onnx_gives_the_same_density_of_counts_and_levels(family, tmp_path):
    module = OfGrid(*EXTREMES[family])
    check_onnx(module, COUNTS, tmp_path / "model.onnx", rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prior", GRIDS)
def test_a_placer_gives_the_positions_of_the_map(prior):
    vae, x = small_vae(prior)
    torch.testing.assert_close(Placer(vae)(x).double(), TopographicMap(vae, x).places.place, rtol=1e-5, atol=1e-5)


def test_a_placer_of_infinite_reach_gives_the_mean_of_the_grid():
    vae, x = small_vae("gtm")
    expected = vae.prior.coordinates(vae.latent_prior(), vae.encode(x).mean)
    torch.testing.assert_close(Placer(vae, reach=float("inf"))(x), expected)


def test_a_placer_gives_nan_for_a_row_whose_code_overflows():
    vae, x = small_vae("gtm")
    places = Placer(vae)(torch.cat([x[:1], torch.full_like(x[:1], 3e38)]))
    assert places.isfinite().all(-1).tolist() == [True, False]


def test_a_scorer_equals_a_loop_over_rows_and_noise():
    vae, x = small_vae("vamp")
    scorer = Scorer(vae, num_samples=3)
    for row, score in zip(x, scorer(x), strict=True):
        q = vae.encode(row)
        terms = []
        for noise in scorer.noise:
            z = q.mean + q.stddev * noise
            terms.append(vae.latent_prior().log_prob(z) + vae.decode(z).log_prob(row) - q.log_prob(z))
        torch.testing.assert_close(score, torch.stack(terms).exp().mean().log())


def test_a_scorer_needs_a_normal_posterior_and_samples():
    encoder = nn.Module()
    encoder.forward = lambda x: Independent(Laplace(x[..., :2], torch.ones(2)), 1)
    decoder = nn.Module()
    decoder.forward = lambda z: diagonal_normal(z, torch.ones_like(z))
    vae = VAE(encoder, decoder, StandardNormal(2))
    with pytest.raises(TypeError, match=r"encode: expected a diagonal normal, as priory\.diagonal_normal makes it"):
        Scorer(vae)(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="num_samples: expected a positive number of draws, got 0"):
        Scorer(vae, num_samples=0)


def test_a_placer_needs_a_grid():
    with pytest.raises(ValueError, match=r"model: expected one whose prior has a grid .* got a VampPrior"):
        Placer(small_vae("vamp")[0])


def test_checks_of_values_are_restored_after_an_error():
    Distribution.set_default_validate_args(True)
    with pytest.raises(ZeroDivisionError), unvalidated():
        1 / Distribution._validate_args  # False
    assert Distribution._validate_args


def losses_and_gradients(loss, vae, x):
    torch.manual_seed(1)
    value = loss(vae, x)
    parameters = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    return value, torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)


@NEEDS_TORCH_2_8
@pytest.mark.parametrize("objective", slow_but(LOSSES, {"elbo"}))
@pytest.mark.parametrize("prior", slow_but(ALL, {"gtm-vamp"}))
def test_a_loss_compiles_without_a_graph_break_with_the_same_gradients(prior, objective, compiled):
    vae, x = small_vae(prior)
    expected = losses_and_gradients(LOSSES[objective], vae.train(), x)
    torch.testing.assert_close(
        losses_and_gradients(compiled(LOSSES[objective]), vae, x), expected, rtol=1e-4, atol=1e-5
    )


@NEEDS_TORCH_2_8
@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_loss_of_every_likelihood_compiles(decoder, compiled):
    vae, x = small_vae("vamp", decoder)
    expected = losses_and_gradients(LOSSES["elbo"], vae.train(), x)
    torch.testing.assert_close(losses_and_gradients(compiled(LOSSES["elbo"]), vae, x), expected, rtol=1e-4, atol=1e-5)


class Loss(nn.Module):
    def __init__(self, vae, objective):
        super().__init__()
        self.vae, self.objective = vae, LOSSES[objective]

    def forward(self, x):
        return self.objective(self.vae, x)


def ensemble(prior, objective="elbo"):
    """Return losses of three models with different parameters, and rows."""
    losses = []
    for seed in range(3):
        vae, x = small_vae(prior)
        torch.manual_seed(seed)
        for parameter in vae.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        losses.append(Loss(vae, objective))
    return losses, x


def stacked(losses):
    """Return a loss as a function of one model's parameters, and the stacked parameters; all models share buffers."""
    parameters, _ = stack_module_state(losses)
    buffers = dict(losses[0].named_buffers())
    return lambda own, x: functional_call(losses[0], (own, buffers), (x,)), parameters


@NEEDS_TORCH_2_8
@pytest.mark.parametrize("objective", slow_but(LOSSES, {"elbo"}))
@pytest.mark.parametrize("prior", slow_if(ALL, {"noise-contrastive"}))
def test_the_losses_and_gradients_of_an_ensemble_equal_those_of_a_loop(prior, objective):
    losses, x = ensemble(prior, objective)
    of_one, parameters = stacked(losses)
    torch.manual_seed(1)
    values = vmap(of_one, in_dims=(0, None), randomness="same")(parameters, x)
    gradients = torch.autograd.grad(values.sum(), [*parameters.values()], allow_unused=True, materialize_grads=True)
    for k, loss in enumerate(losses):
        value, expected = losses_and_gradients(lambda vae, x, loss=loss: loss(x), loss.vae, x)
        torch.testing.assert_close(values[k], value)
        torch.testing.assert_close([gradient[k] for gradient in gradients], [*expected], rtol=1e-4, atol=1e-5)


@NEEDS_TORCH_2_8
@pytest.mark.parametrize("prior", slow_if(ALL, {"noise-contrastive"}))
def test_the_gradients_of_each_row_equal_those_of_a_loop(prior):
    vae, x = small_vae(prior)
    loss = Loss(vae, "elbo")
    of_one, _ = stacked([loss])
    parameters = {name: parameter.detach() for name, parameter in loss.named_parameters()}
    torch.manual_seed(1)
    of_rows = vmap(grad(of_one), in_dims=(None, 0), randomness="same")(parameters, x.unsqueeze(1))
    for k, row in enumerate(x[:3]):
        _, expected = losses_and_gradients(lambda vae, row: loss(row), vae, row.unsqueeze(0))
        torch.testing.assert_close([each[k] for each in of_rows.values()], [*expected], rtol=1e-4, atol=1e-5)


@NEEDS_TORCH_2_8
def test_the_members_of_an_ensemble_may_have_different_noise():
    losses, x = ensemble("vamp")
    of_one, parameters = stacked([losses[0], copy.deepcopy(losses[0])])
    different, same = (
        vmap(of_one, in_dims=(0, None), randomness=randomness)(parameters, x) for randomness in ("different", "same")
    )
    assert different[0] != different[1]
    assert same[0] == same[1]


def test_draws_of_a_normal_equal_those_of_torch():
    loc, scale = torch.randn(5, 3), torch.rand(5, 3)
    torch.manual_seed(0)
    draws = Normal(loc, scale).rsample((7,))
    torch.manual_seed(0)
    assert torch.equal(draws, torch.distributions.Normal(loc, scale).rsample((7,)))


@NEEDS_TORCH_2_8
def test_values_of_binary_data_are_checked_in_a_vmap():
    Distribution.set_default_validate_args(True)
    x = torch.tensor([[0.0, 1.0], [1.0, 0.5]])
    with pytest.raises(ValueError, match="within the support"):
        vmap(lambda row: BinaryVector(torch.zeros(2)).log_prob(row))(x)
    log_prob = vmap(lambda row: BinaryVector(torch.zeros(2)).log_prob(row))(x.round())
    torch.testing.assert_close(log_prob, torch.full((2,), 0.25).log())


HALVES = [torch.bfloat16, torch.float16]
NEAR = {"rtol": 0.05, "atol": 0.1, "check_dtype": False}


def check_precision(vae, x, dtype):
    """Check that a cast model gives nearly the same results, with densities at least in float32."""
    cast = copy.deepcopy(vae).to(dtype)
    widest = torch.promote_types(dtype, torch.float32)
    rows, z = x.to(widest), vae.encode(x).mean.to(widest)
    log_prob = cast.latent_prior().log_prob(z)
    assert log_prob.dtype == cast.encode(rows.to(dtype)).mean.dtype == widest
    torch.testing.assert_close(log_prob, vae.latent_prior().log_prob(z.float()), **NEAR)
    torch.testing.assert_close(cast.reconstruct(rows), vae.reconstruct(x), **NEAR)
    for loss in LOSSES.values():
        value, gradients = losses_and_gradients(loss, cast, rows)
        assert value.dtype == widest
        assert all(gradient.isfinite().all() for gradient in gradients)
        if dtype in HALVES:  # float64 has other draws
            torch.testing.assert_close((value, gradients), losses_and_gradients(loss, vae, x), **NEAR)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float64])
@pytest.mark.parametrize("prior", ALL)
def test_a_model_with_any_prior_can_be_cast(prior, dtype):
    check_precision(*small_vae(prior), dtype)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_model_with_any_likelihood_can_be_cast(decoder, dtype):
    check_precision(*small_vae("gtm-vamp", decoder), dtype)


@pytest.mark.parametrize("dtype", slow_but(HALVES, {torch.bfloat16}))
@pytest.mark.parametrize("prior", slow_but(["gtm-vamp", "flow", "family:StudentMixture"], {"gtm-vamp"}))
def test_a_model_in_half_precision_can_be_evaluated_and_trained(prior, dtype):
    vae, x = small_vae(prior)
    torch.manual_seed(0)
    expected = evaluate(vae, x, num_samples=8)["nll"].value
    vae.to(dtype)
    torch.manual_seed(0)
    assert evaluate(vae, x, num_samples=8)["nll"].value == pytest.approx(expected, abs=0.1)
    assert log_likelihood(vae, x, num_samples=8).isfinite().all()
    fit(vae, x, x, epochs=2)
    assert {parameter.dtype for parameter in vae.encoder.parameters()} == {dtype}
    assert evaluate(vae, x, num_samples=8)["nll"].value == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("prior", GRIDS)
def test_the_map_of_a_model_in_half_precision_agrees_with_float32(prior, dtype):
    vae, x = small_vae(prior)
    expected = TopographicMap(vae, x).places.mean
    torch.testing.assert_close(TopographicMap(vae.to(dtype), x).places.mean, expected, rtol=0, atol=0.02)


def test_a_prior_stays_in_float32_for_half_precision_and_becomes_float64():
    vae, _ = small_vae("vamp")
    pseudo_inputs = vae.prior.raw_pseudo_inputs.detach().clone()
    assert torch.equal(vae.bfloat16().prior.raw_pseudo_inputs, pseudo_inputs)
    assert vae.double().prior.raw_pseudo_inputs.dtype == torch.float64


def test_pseudo_inputs_are_cast_to_the_precision_of_a_handwritten_encoder():
    network = nn.Linear(5, 2 * L).bfloat16()
    network.forward = lambda x: diagonal_normal(*nn.functional.linear(x, network.weight).exp().chunk(2, -1))
    p_z = small_vae("vamp")[0].prior(network)
    assert p_z.log_prob(torch.zeros(L)).dtype == torch.float32
