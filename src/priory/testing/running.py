"""The checks of a prior by name, and `check_prior`, which runs them all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from priory._support.imports import RAISED, described, located
from priory.testing import density_checks, module_checks, value_checks
from priory.testing.global_state import preserved
from priory.testing.report import BrokenError, Check, Outcome, Report, SkippedError
from priory.testing.subject import Subject


class Promise(NamedTuple):
    test: Callable[[Any], Outcome]  # runs the check
    expected: str  # the measurement of a correct prior, in words


def promises(*tests: tuple[Callable[[Any], Outcome], str]) -> Mapping[str, Promise]:
    """Return checks by the names of their test functions."""
    return {test.__name__: Promise(test, expected) for test, expected in tests}


CHECKS = promises(
    (value_checks.one_number_per_z, "log_prob of shape (B,) for z of shape (B, L), one number for each row"),
    (value_checks.broadcast_shapes, "log_prob of shape (...,) for z (..., L); sample(shape) of shape (*shape, L)"),
    (density_checks.integrates_to_one, "mass 1: normalized weights, the log-determinant once, all constants"),
    (
        density_checks.joint_not_per_dimension,
        "the dependence between coordinates in the draws is the density's: sum over dimensions first, log-sum-exp over "
        "components last",
    ),
    (
        density_checks.density_and_sampler_agree,
        "draws from the density: each from a random component, with its standard deviation",
    ),
    (value_checks.permutation_of_components, "log sum_k pi_k p_k(z), whatever the order of the components"),
    (value_checks.single_component, "K = 1 works, and is its component"),
    (value_checks.equals_reference, "the reference density"),
    (value_checks.float64_agreement, "relative difference below 1e-3"),
    (module_checks.gradients_exist, "finite gradients of every parameter and of z"),
    (module_checks.gradients_right, "within 1e-4 of central differences"),
    (module_checks.state_dict_complete, "every tensor is a parameter or a buffer; loading them gives the same density"),
    (module_checks.state_dict_clean, "the prior's own tensors only; the encoder is an argument of the call"),
    (module_checks.moves, "`.to(dtype)` and `.to(device)` move all of it"),
    (
        module_checks.global_state_untouched,
        "no setting of the process changes; log_prob draws no random numbers; sample sets no seed",
    ),
    (value_checks.far_tails_finite, "finite numbers up to 1000 standard deviations"),
)


def check_prior(
    obj: Any,
    *,
    encoder: Any = None,
    reference: Any = None,
    single: Any = None,
    component_tensors: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """Check a prior: density, sampler, gradients and state. It needs no base class of this package.

    The process and the object are not changed, and a failed check raises nothing. Each randomized check rejects a
    correct prior with probability at most 1e-8. A check that cannot be run is skipped, with the reason.

    Args:
        obj: a module that returns any object with `log_prob` and `sample` (or has these methods), a distribution, a
            pair of callables (log_prob, sample), a function without arguments or a class that makes one of these, or
            the import path of such an object, "package.module:name". `sample` takes a shape.
        encoder: the argument of a module whose components are an encoder's posteriors.
        reference: a distribution, or a function z -> log p(z), that the density must equal, such as the documented
            start of a prior.
        single: the same prior with one component, in any form that `obj` can have.
        component_tensors: entries of `state_dict` with one row per component; needed only if they are ambiguous.
        seed: seed of the draws.

    Returns:
        A `Report`: `passed`, `failures`, `checks`; printed, it is a table.

    Raises:
        TypeError: obj has none of these forms, or a module that needs an encoder got none.
        ValueError: an import path does not exist or cannot be imported, a factory fails, or draws are not vectors.

    >>> from priory import MixtureOfGaussians
    >>> report = check_prior(MixtureOfGaussians(latent_dim=2, num_components=4))
    >>> report.passed, report.failures
    (True, ())
    """
    how: dict[str, Any] = {"encoder": encoder, "reference": reference, "single": single}
    subject = Subject(obj, **how, component_tensors=component_tensors, seed=seed)
    with preserved(seed):
        try:  # an object that cannot be checked at all raises here
            name = str(subject)
            located(single)  # its import path must exist; building it is one of the checks
            _ = subject.named_density
        except (TypeError, ValueError):
            raise
        except RAISED as error:  # raised by a computed attribute, such as event_shape
            raise ValueError(f"reading the prior's attributes raised {described(error)}") from error
    return Report(name, tuple(run_check(check, subject) for check in CHECKS))


def run_check(name: str, subject: Any, checks: Mapping[str, Promise] = CHECKS) -> Check:
    """Run one check; an exception in the object is a failure of the check, not of the run."""
    promise = checks[name]
    with preserved(subject.seed + 100):
        try:
            passed, seen = promise.test(subject)
        except SkippedError as reason:
            return Check(name, "skipped", str(reason), promise.expected)
        except BrokenError as broken:
            passed, seen = False, str(broken)
        except RAISED as error:
            passed, seen = False, described(error)
    return Check(name, "passed" if passed else "failed", seen, promise.expected)
