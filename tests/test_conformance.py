"""The conformance suite detects known errors with the right checks, and passes correct priors."""

import math
import random
import re
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
)

import mutants
from family import MEMBERS, MIXTURES
from priory import (
    DensityPrior,
    FlowPrior,
    Mixture,
    MixtureOfGaussians,
    StandardNormal,
    diagonal_normal,
    importance_weighted_bound,
)
from priory.priors.flow import import_zuko
from priory.testing import (
    CHECKS,
    ConformanceError,
    Report,
    Subject,
    check_bound,
    check_prior,
    parametrize_with_checks,
    run_check,
)
from priory.testing.density_checks import _mass_far_out
from priory.testing.exchange import excess, limit
from priory.testing.subject import NUM_DRAWS
from priory.workbench.cli import main as cli
from test_priors import make_prior, spread_encoder

ENCODER = mutants.unit_encoder()


def failed(report: Report) -> set[str]:
    return {check.name for check in report.failures}


# For each error: the mutant, its twin without the error, the arguments of check_prior, and the checks that must fail.
PLANTED = {
    "per-dimension mixture": (
        mutants.PerDimension,
        mutants.PlainMixture,
        {},
        {"joint_not_per_dimension", "density_and_sampler_agree"},
    ),
    "squared scale in samples": (
        mutants.SquaredScaleInSamples,
        mutants.PlainMixture,
        {},
        # Samples with other scales also have another dependence between coordinates.
        {"density_and_sampler_agree", "joint_not_per_dimension"},
    ),
    # Without access to the components, mass is missing near the draws. With access, their mass is complete, but the
    # sampler is wrong.
    "first component instead of a random one": (
        mutants.FirstComponent,
        mutants.PlainMixture,
        {},
        {"integrates_to_one"},
    ),
    "first component, components seen": (
        mutants.FirstOfSeenComponents,
        mutants.PlainMixture,
        {},
        {"density_and_sampler_agree"},
    ),
    "unnormalized weights": (mutants.UnnormalizedWeights, mutants.PlainMixture, {}, {"integrates_to_one"}),
    "constant added to the density": (mutants.ConstantAdded, mutants.PlainMixture, {}, {"integrates_to_one"}),
    "encoder registered inside the prior": (
        lambda: mutants.EncoderInside(ENCODER),
        mutants.PlainVamp,
        {"encoder": ENCODER},
        {"state_dict_clean"},
    ),
    "parameter without gradient": (mutants.ParameterWithoutGradient, mutants.PlainMixture, {}, {"gradients_exist"}),
    "argument validation switched off globally": (
        mutants.ValidationSwitchedOff,
        mutants.PlainMixture,
        {},
        {"global_state_untouched"},
    ),
    "seed set by the sampler": (mutants.SeedInSampler, mutants.PlainMixture, {}, {"global_state_untouched"}),
    "grid not a buffer": (
        mutants.GridNotBuffer,
        mutants.PlainGrid,
        {},
        {"state_dict_complete", "moves", "float64_agreement", "gradients_right"},
    ),
    "variance used as scale at initialization": (
        mutants.VarianceAsScale,
        mutants.PlainNormal,
        {"reference": mutants.named_start},
        {"equals_reference"},
    ),
    "log-determinant counted L times": (
        mutants.LogDeterminantCountedLTimes,
        mutants.PlainFlow,
        {},
        {"integrates_to_one"},
    ),
}


@pytest.mark.parametrize("error", PLANTED)
def test_planted_errors_fail_exactly_their_checks(error):
    mutant, _, arguments, expected = PLANTED[error]
    assert failed(check_prior(mutant, **arguments)) == expected


@pytest.mark.parametrize("error", [error for error, row in PLANTED.items() if row[1] is not mutants.PlainMixture])
def test_twins_without_the_error_pass(error):
    _, twin, arguments, _ = PLANTED[error]
    report = check_prior(twin, **arguments)
    assert report.passed, str(report)


HIGH = {
    mutants.PerDimension: "joint_not_per_dimension",
    mutants.SquaredScaleInSamples: "density_and_sampler_agree",
    mutants.FirstComponent: "integrates_to_one",
    mutants.FirstOfSeenComponents: "density_and_sampler_agree",
    mutants.UnnormalizedWeights: "integrates_to_one",
    mutants.ConstantAdded: "integrates_to_one",
    mutants.LogDeterminantCountedLTimes: "integrates_to_one",
}


@pytest.mark.slow
@pytest.mark.parametrize("latent_dim", [5, 40])
@pytest.mark.parametrize("mutant", HIGH)
def test_errors_are_detected_in_many_dimensions(mutant, latent_dim):
    assert run_check(HIGH[mutant], Subject(partial(mutant, latent_dim))).status == "failed"


class _TinyConstantAdded(mutants.ConstantAdded):
    constant = 1e-20


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("kind", [mutants.ConstantAdded, _TinyConstantAdded])
def test_a_constant_added_to_the_density_is_detected_far_from_the_draws(kind, latent_dim):
    check = run_check("integrates_to_one", Subject(partial(kind, latent_dim)))
    assert check.status == "failed"
    assert "far away from its draws, where log_prob does not fall as a density must" in check.seen


def wide_component() -> MixtureSameFamily:
    normals = Independent(Normal(torch.zeros(2, 1), torch.tensor([[1.0], [1000.0]])), 1)
    return MixtureSameFamily(Categorical(torch.tensor([1 - 1e-6, 1e-6])), normals)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
@pytest.mark.parametrize("kind", [*[partial(StudentT, df) for df in (1.0, 1.1, 3.0)], Laplace])
def test_heavy_tails_pass_the_check_of_mass(kind, latent_dim):
    density = Independent(kind(torch.zeros(latent_dim), torch.ones(latent_dim)), 1)
    for name in ("integrates_to_one", "far_tails_finite"):
        assert run_check(name, Subject(density)).status == "passed"


def test_a_wide_component_without_draws_passes_the_check_of_mass():
    assert run_check("integrates_to_one", Subject(wide_component())).status == "passed"


def test_draws_with_an_overflowing_variance_pass_the_check_of_mass():
    draws = 1e200 * torch.randn(NUM_DRAWS, 1).double()
    subject = Subject((lambda z: -z.abs().sum(-1), lambda shape: draws[: math.prod(shape)].reshape(*shape, 1)))
    assert _mass_far_out(subject) is None


@pytest.mark.parametrize("distance", [0.5, 1.0])
def test_a_product_of_marginals_is_detected_if_components_overlap(distance):
    subject = Subject(lambda: mutants.PerDimension(2, distance))
    assert run_check("joint_not_per_dimension", subject).status == "failed"


def test_a_product_of_marginals_passes_the_check_of_mass():
    """In two dimensions, only `joint_not_per_dimension` detects the product."""
    assert run_check("integrates_to_one", Subject(mutants.PerDimension)).status == "passed"


@parametrize_with_checks({"plain mixture": Subject(mutants.PlainMixture, single=lambda: MixtureOfGaussians(2, 1))})
def test_parametrize_with_checks_makes_one_item_per_check(check):
    check()


@pytest.mark.parametrize("name", MEMBERS)
def test_all_priors_pass_all_checks(name):
    prior = make_prior(name)
    encoder = spread_encoder() if prior.needs_encoder else None
    single = make_prior(name, components=1, points_per_side=1) if name in MIXTURES else None
    torch.manual_seed(0)
    report = check_prior(make_prior(name), encoder=encoder, single=single)
    assert report.passed, str(report)
    skipped = {check.name for check in report.checks if check.status == "skipped"}
    expected = {"equals_reference"}
    expected |= set() if single else {"single_component"}
    expected |= set() if isinstance(prior(encoder), Mixture) else {"permutation_of_components"}
    assert skipped == expected


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("latent_dim", [1, 5, 40])
@pytest.mark.parametrize("name", MEMBERS)
def test_all_priors_pass_in_other_dimensions_and_precisions(name, latent_dim, dtype):
    for seed in range(3):
        torch.manual_seed(seed)
        prior = make_prior(name, latent_dim).to(dtype)
        encoder = spread_encoder(latent_dim).to(dtype) if prior.needs_encoder else None
        report = check_prior(prior, encoder=encoder, seed=seed)
        assert report.passed, str(report)


def correlated(latent_dim: int = 3) -> MultivariateNormal:
    return MultivariateNormal(torch.ones(latent_dim), 0.5 * torch.eye(latent_dim) + 0.5)


def uneven_mixture() -> MixtureSameFamily:
    scale = torch.tensor([[1e-2, 1.0], [1.0, 2.0], [0.1, 0.1]])
    normals = Independent(Normal(torch.tensor([[0.0, 0.0], [5.0, -5.0], [1.0, 1.0]]), scale), 1)
    return MixtureSameFamily(Categorical(torch.tensor([0.2, 0.79, 0.01])), normals)


def pair() -> tuple:
    return (lambda z: -0.5 * z.square().sum(-1) - math.log(2 * math.pi), lambda shape: torch.randn(*shape, 2))


def zuko_flow(name: str, latent_dim: int) -> nn.Module:
    torch.manual_seed(0)
    return getattr(import_zuko().flows, name)(latent_dim, hidden_features=(16,), transforms=2)


CORRECT = {
    "multivariate normal": correlated,
    "multivariate normal as a prior": lambda: DensityPrior(correlated()),
    "uneven mixture": uneven_mixture,
    "uneven mixture in a module": lambda: DensityPrior(uneven_mixture()),
    "heavy tails": lambda: Independent(StudentT(3.0, torch.zeros(2), torch.ones(2)), 1),
    "heavier tails": lambda: Independent(StudentT(1.0, torch.zeros(1), torch.ones(1)), 1),
    "a kink": lambda: Independent(Laplace(torch.zeros(5), torch.ones(5)), 1),
    "a pair of callables": pair,
    "many dimensions": lambda: correlated(40),
    "autoregressive flow": lambda: zuko_flow("MAF", 2),
    "spline flow": lambda: FlowPrior(zuko_flow("NSF", 3)),
    "mixture of zuko": lambda: import_zuko().mixtures.GMM(2, components=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", CORRECT)
def test_correct_densities_pass(name, seed):
    report = check_prior(CORRECT[name], seed=seed)
    assert failed(report) <= ({"global_state_untouched"} if "zuko" in name else set()), str(report)


@pytest.mark.parametrize("name", ["multivariate normal", "heavier tails", "a pair of callables"])
def test_checks_of_modules_are_skipped_for_other_densities(name):
    report = check_prior(CORRECT[name]())
    assert report.passed, str(report)
    reasons = {check.name: check.seen for check in report.checks if check.status == "skipped"}
    assert reasons["state_dict_complete"].startswith("applies to modules only; this is a ")


def test_drifts_stay_below_the_limit_for_any_tails():
    """None of 20 000 sums of symmetric numbers exceeds the limit, which one in 10^8 may exceed."""
    torch.manual_seed(0)
    shape = (200, 20_000)
    signs = torch.randint(0, 2, shape) * 2.0 - 1
    for numbers in (signs, signs / (1e-4 + torch.rand(shape)) ** 2, signs * (torch.rand(shape) < 0.01)):
        assert excess(numbers).abs().max() < limit(1)


@pytest.mark.parametrize("kind", [mutants.PlainMixture, mutants.ValidationSwitchedOff])
def test_checks_change_neither_the_process_nor_the_object(kind):
    def state() -> list:
        return [
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002  (the global generator is meant)
            Distribution._validate_args,
            torch.get_default_dtype(),
        ]

    prior = mutants.PlainMixture()
    before, weights = state(), {name: value.clone() for name, value in prior.state_dict().items()}
    first = check_prior(prior if kind is mutants.PlainMixture else kind)
    assert state() == before
    assert all(torch.equal(value, weights[name]) for name, value in prior.state_dict().items())
    assert all(parameter.grad is None for parameter in prior.parameters())
    torch.rand(3)
    assert check_prior(prior if kind is mutants.PlainMixture else kind) == first  # independent of earlier draws


class _LastAxisKept(mutants.PlainMixture):
    def log_prob(self, z):
        return Normal(self.loc[0], self.log_scale[0].exp()).log_prob(z)


class _Overflowing(mutants.PlainMixture):
    def log_prob(self, z):
        terms = Normal(self.loc, self.log_scale.exp()).log_prob(z.unsqueeze(-2)).sum(-1)
        return (torch.softmax(self.mixing_logits, -1) * terms.exp()).sum(-1).log()


class _WrongGradient(mutants.PlainMixture):
    def log_prob(self, z):
        value = super().log_prob(z)
        return value.detach() + 1.01 * (value - value.detach())


class _Caching(mutants.PlainMixture):
    cached = None

    def log_prob(self, z):
        if self.cached is None:
            weights = torch.log_softmax(self.mixing_logits, -1)
            object.__setattr__(self, "cached", lambda: weights)
        terms = Normal(self.loc, self.log_scale.exp()).log_prob(z.unsqueeze(-2)).sum(-1)
        return torch.logsumexp(self.cached() + terms, -1)


class _RandomDensity(mutants.PlainMixture):
    def log_prob(self, z):
        return super().log_prob(z + 1e-3 * torch.randn_like(z))


class _NumpySampler(mutants.PlainMixture):
    def sample(self, shape):
        return super().sample(shape) + 0.0 * float(np.random.rand())  # noqa: NPY002  (the global generator is meant)


class _ForkedSampler(mutants.PlainMixture):
    def sample(self, shape):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return super().sample(shape)


class _SeedInLogProb(mutants.PlainMixture):
    def log_prob(self, z):
        torch.manual_seed(0)
        return super().log_prob(z)


class _FlatSampler(mutants.PlainMixture):
    def sample(self, shape):
        return super().sample(torch.Size((torch.Size(shape).numel(),)))


def test_batch_norm_statistics_moved_by_pseudo_inputs_are_detected():
    encoder = nn.Sequential(nn.BatchNorm1d(6), spread_encoder())
    check = run_check("state_dict_clean", Subject(mutants.PlainVamp, encoder=encoder))
    assert "change by use: the encoder's 0.num_batches_tracked, the encoder's 0.running_mean" in check.seen
    assert run_check("state_dict_clean", Subject(mutants.PlainVamp, encoder=encoder.eval())).status == "passed"


def test_an_encoder_that_is_a_method_moves_with_its_module():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = spread_encoder()

        def encode(self, x):
            return self.network(x)

    subject = Subject(mutants.PlainVamp, encoder=Model().encode)
    assert run_check("moves", subject).status == run_check("float64_agreement", subject).status == "passed"
    plain = Subject(mutants.PlainVamp, encoder=lambda x: diagonal_normal(x[:, :2], torch.ones_like(x[:, :2])))
    assert "give a module" in run_check("moves", plain).seen


@pytest.mark.parametrize(
    ("kind", "check", "seen"),
    [
        (_LastAxisKept, "one_number_per_z", r"log_prob of shape \(64, 2\), float32 for z of shape \(64, 2\)"),
        (_Overflowing, "far_tails_finite", "log_prob is -inf at 10 standard deviations"),
        (_WrongGradient, "gradients_right", "differs from central differences by 0.0"),
        (_Caching, "state_dict_complete", "the density differs by"),
        (_RandomDensity, "global_state_untouched", r"torch's generator changed \(by log_prob\)"),
        (_RandomDensity, "one_number_per_z", "alone or repeated the same within"),
        (_NumpySampler, "global_state_untouched", r"numpy's generator changed \(by sample\)"),
        (mutants.SeedInSampler, "global_state_untouched", r"^torch's generator seeded \(by sample\); the same draws"),
        (_ForkedSampler, "global_state_untouched", r"^the same draws at every call \(by sample\)$"),
        (_SeedInLogProb, "global_state_untouched", r"torch's generator changed \(by log_prob\)"),
        (_FlatSampler, "broadcast_shapes", r"sample\(\(\)\) has shape \(1, 2\), not \(2,\)"),
    ],
)
def test_further_errors_fail_their_checks(kind, check, seen):
    result = run_check(check, Subject(kind))
    assert result.status == "failed"
    assert re.search(seen, result.seen), result.seen


@pytest.mark.parametrize("kind", [mutants.PlainMixture, mutants.PlainTriangles])
def test_the_weight_of_a_single_component_needs_no_gradient(kind):
    report = check_prior(lambda: kind(num_components=1))
    assert report.passed, str(report)
    seen = {check.name: check.seen for check in report.checks}
    assert "zero, as it should be, for mixing_logits" in seen["gradients_exist"]
    assert "rightly" not in run_check("gradients_exist", Subject(kind)).seen  # several weights have gradients


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        (mutants.ParameterWithoutGradient, "no gradient: mixing_logits"),
        (mutants.ScaleWithoutGradient, "gradient zero: log_scale"),
    ],
)
def test_parameters_of_a_single_component_without_gradient_are_detected(kind, seen, latent_dim):
    check = run_check("gradients_exist", Subject(lambda: kind(latent_dim, num_components=1)))
    assert (check.status, check.seen) == ("failed", seen)


def test_parameters_that_cannot_be_perturbed_are_reported():
    report = check_prior(mutants.PlainTriangles)
    assert report.passed, str(report)
    seen = {check.name: check.seen for check in report.checks}["gradients_right"]
    assert re.search(r"most in \w+; undecided for scale_tril: .* LowerCholesky\(\)", seen)


def test_the_check_of_gradients_is_skipped_if_the_density_rejects_perturbed_points():
    class Refusing(mutants.PlainMixture):
        first = None

        def log_prob(self, z):
            self.first = z.detach().clone() if self.first is None else self.first
            if not torch.equal(self.first, z):
                raise ValueError("no such point")
            return super().log_prob(z)

    check = run_check("gradients_right", Subject(Refusing().requires_grad_(False)))
    assert (check.status, check.seen) == ("skipped", "undecided for z: small changes are refused (no such point)")


def test_components_named_by_the_caller_are_reordered():
    prior = MixtureOfGaussians(2, 4)
    whole = Subject(prior, component_tensors=["loc", "log_scale", "mixing_logits"])
    assert run_check("permutation_of_components", whole).status == "passed"
    with torch.no_grad():
        prior.mixing_logits[0] = 3.0
    assert run_check("permutation_of_components", Subject(prior, component_tensors=["loc"])).status == "failed"


class _EndingLogProb(mutants.PlainMixture):
    def log_prob(self, z):
        sys.exit(0)


class _EndingSampler(mutants.PlainMixture):
    def sample(self, shape):
        sys.exit("bye")


class _EndingForward(nn.Module):
    def forward(self):
        sys.exit()


class _EndingAttribute(mutants.PlainMixture):
    @property
    def event_shape(self):
        sys.exit(0)


class _Interrupted(mutants.PlainMixture):
    def log_prob(self, z):
        raise KeyboardInterrupt


def ending_factory():
    sys.exit(0)


def test_an_object_that_calls_exit_fails_and_the_process_continues():
    report = check_prior(_EndingLogProb)
    assert {"one_number_per_z", "integrates_to_one", "far_tails_finite"} <= failed(report)
    assert all(check.seen == "SystemExit: 0" for check in report.failures)


def test_a_keyboard_interrupt_is_not_caught():
    with pytest.raises(KeyboardInterrupt):
        check_prior(_Interrupted)


def test_a_report_raises_an_error_only_on_request():
    report = check_prior(mutants.UnnormalizedWeights)
    assert not report.passed
    with pytest.raises(ConformanceError, match=r"integrates_to_one .* mass 2\.6"):
        report.raise_on_failure()
    check_prior(StandardNormal(1)).raise_on_failure()
    assert len(str(report).splitlines()) == 1 + len(CHECKS) + len(report.failures)


def wrong_sample_count(vae, x, num_samples):
    return (
        importance_weighted_bound(vae, x, num_samples=num_samples) + math.log(num_samples) - math.log(num_samples + 1)
    )


def one_sample_only(vae, x, num_samples):
    return importance_weighted_bound(vae, x, num_samples=1)


def summed(vae, x, num_samples):
    return importance_weighted_bound(vae, x, num_samples=num_samples).sum()


def mean_of_logarithms(vae, x, num_samples):
    return torch.stack([importance_weighted_bound(vae, x, num_samples=1) for _ in range(num_samples)]).mean(0)


def logarithm_of_exponentials(vae, x, num_samples):
    q = vae.encode(x)
    z = q.rsample((num_samples,))
    return torch.log(torch.exp(vae.latent_prior().log_prob(z) + vae.decode(z).log_prob(x) - q.log_prob(z)).mean(0))


def without_gradient(vae, x, num_samples):
    return importance_weighted_bound(vae, x, num_samples=num_samples).detach()


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (importance_weighted_bound, set()),
        (wrong_sample_count, {"exact_at_the_posterior", "right_on_average"}),
        (one_sample_only, {"right_on_average"}),
        (mean_of_logarithms, {"right_on_average"}),
        (summed, {"one_number_per_datum", "exact_at_the_posterior", "right_on_average"}),
        (logarithm_of_exponentials, {"far_data_finite"}),
        (without_gradient, {"gradients_exist"}),
    ],
)
def test_wrong_bounds_fail_exactly_their_checks(bound, expected):
    assert failed(check_bound(bound)) == expected


def needs_its_encoder():
    return make_prior("vamp")


def broken_factory():
    raise RuntimeError("no such file")


def vamp_encoder():
    return spread_encoder()


def good():
    return mutants.PlainMixture()


@pytest.fixture
def priory_check(monkeypatch, capsys):
    """Run `priory check` with these arguments; return exit code, output and error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["priory", "check", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, " ".join(captured.err.split())

    return run


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Write a module with this source where it can be imported; return its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        name = f"own_module_{len(list(tmp_path.iterdir()))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    before = set(sys.modules)
    yield write
    for name in [name for name in sys.modules if name.startswith("own_module_") and name not in before]:
        del sys.modules[name]


def test_command_prints_the_measurements(priory_check):
    code, out, _ = priory_check("test_conformance:good")
    assert code == 0
    assert "integrates_to_one           mass 1.0" in out
    code, out, _ = priory_check("mutants:UnnormalizedWeights", "--json")
    assert code == 1
    assert '"passed": false' in out
    code, out, _ = priory_check("test_conformance:needs_its_encoder", "--encoder", "test_conformance:vamp_encoder")
    assert code == 0
    assert "none of them the encoder's" in out


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing", "nothing: expected package.module:factory"),
        ("no.such:thing", "expected a module no.such that can be imported: No module named 'no'"),
        ("mutants:Missing", "expected Missing in mutants, which has no such name"),
        ("test_conformance:broken_factory", "calling it raised RuntimeError: no such file"),
        ("mutants:NUM_COMPONENTS", "mutants:NUM_COMPONENTS: expected a module"),
        ("test_conformance:needs_its_encoder", "needs the encoder"),
        ("test_conformance:ending_factory", "calling it raised SystemExit: 0"),
        ("test_conformance:_EndingForward", "calling the prior raised SystemExit"),
        ("test_conformance:_EndingSampler", "it raised SystemExit: bye"),
        ("test_conformance:_EndingAttribute", "reading the prior's attributes raised SystemExit: 0"),
    ],
)
def test_command_refuses_objects_that_cannot_be_checked(priory_check, target, message):
    code, _, error = priory_check(target)
    assert code == 2
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("option", ["target", "--encoder", "--reference", "--single"])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('no weights here')", "that raised RuntimeError: no weights here"),
        ("def broken(:", "that raised SyntaxError: "),
        ("import sys; sys.exit(0)", "that raised SystemExit: 0"),
        ("def __getattr__(name): raise RuntimeError('too late')", "that raised RuntimeError: too late"),
    ],
)
def test_command_refuses_modules_whose_import_fails(priory_check, own_module, option, source, message):
    place = f"{own_module(source)}:make"
    code, out, error = priory_check(*([place] if option == "target" else ["test_conformance:good", option, place]))
    assert (code, out) == (2, "")
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("option", ["--encoder", "--reference"])
def test_command_refuses_an_encoder_or_reference_whose_factory_fails(priory_check, option):
    code, out, error = priory_check("test_conformance:good", option, "test_conformance:broken_factory")
    assert (code, out) == (2, "")
    assert "test_conformance:broken_factory: expected a factory that works without arguments" in error


SWITCHING = "from torch.distributions import Distribution\nDistribution.set_default_validate_args(False)\n"


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("PlainMixture", ["when its module was imported"]),
        ("ValidationSwitchedOff", ["when its module was imported", "when it was built"]),
    ],
)
def test_settings_changed_by_an_import_are_reported_separately(own_module, kind, seen):
    place = f"{own_module(SWITCHING + 'import mutants')}:mutants.{kind}"
    result = run_check("global_state_untouched", Subject(place))
    assert result.status == "failed"
    change = "torch's argument validation changed from True to False"
    assert result.seen == "; ".join(f"{change} ({when})" for when in seen)
    assert Distribution._validate_args
    again = run_check("global_state_untouched", Subject(place))  # imported already
    assert again.status == ("passed" if kind == "PlainMixture" else "failed")


def test_settings_changed_by_importing_the_encoder_are_reported_as_such(own_module):
    encoder = f"{own_module(SWITCHING + 'import mutants')}:mutants.unit_encoder"
    result = run_check("global_state_untouched", Subject("mutants:PlainVamp", encoder=encoder))
    assert result.seen.endswith("(when its encoder's module was imported)")


def test_command_reports_an_object_that_calls_exit_as_failed(priory_check):
    code, out, _ = priory_check("test_conformance:_EndingLogProb")
    assert code == 1
    assert re.search("failed +one_number_per_z +SystemExit: 0", out)


class _Dead(mutants.PlainMixture):
    def sample(self, shape):
        raise RuntimeError("empty")


class _DeadForward(nn.Module):
    def forward(self):
        raise RuntimeError("no weights")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_prior(3), TypeError, "obj: expected a module .* or a function without arguments"),
        (lambda: check_prior(lambda: 3), TypeError, r"expected a module .* got a int"),
        (lambda: check_prior(nn.Identity), TypeError, "give encoder="),
        (lambda: check_prior(Normal(0.0, 1.0)), ValueError, r"sample\(\(\)\): expected a vector z of shape \(L,\)"),
        (lambda: check_prior(_Dead), ValueError, r"sample\(shape\): .* it raised RuntimeError: empty"),
        (lambda: check_prior(_DeadForward), ValueError, "calling the prior raised RuntimeError: no weights"),
        (lambda: check_prior(mutants.PlainMixture, reference="no.such:thing"), ValueError, "that can be imported"),
        (lambda: check_prior(mutants.PlainMixture, reference=3), TypeError, "reference: expected a distribution"),
        (lambda: check_prior(ending_factory), ValueError, "calling it raised SystemExit: 0"),
        (lambda: check_prior(_EndingAttribute), ValueError, "reading the prior.s attributes raised SystemExit: 0"),
        (lambda: check_bound(3), TypeError, "bound: expected a function"),
        (lambda: check_bound(importance_weighted_bound, num_samples=()), ValueError, "num_samples: expected positive"),
    ],
)
def test_invalid_arguments_raise_clear_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_references_may_be_distributions_functions_or_factories():
    start = diagonal_normal(torch.zeros(3), torch.ones(3))
    for reference in (start, start.log_prob, lambda: start):
        check = run_check("equals_reference", Subject(MixtureOfGaussians(3, 1), reference=reference))
        assert check.status == "passed", check
