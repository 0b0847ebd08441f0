"""One pytest item per check, as scikit-learn's `parametrize_with_checks` makes them."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from priory.testing.report import ConformanceError
from priory.testing.running import CHECKS, run_check
from priory.testing.subject import Subject


def parametrize_with_checks(priors: Mapping[str, Any] | Sequence[Any]) -> Any:
    """Make a decorator that runs a test once for every prior and check; the test takes `check` and calls it.

        @parametrize_with_checks({"mine": MyPrior, "vamp": Subject(make_vamp, encoder=encoder)})
        def test_conformance(check):
            check()

    A check that does not apply becomes a skipped test with the reason. Factories are called when the tests run, not
    when they are collected.

    Args:
        priors: a mapping by name, or a sequence: arguments of `check_prior`, or a `Subject` with further arguments.

    Returns:
        pytest's decorator.

    Raises:
        ImportError: pytest is not installed.
    """
    try:
        import pytest
    except ImportError as error:
        raise ImportError("parametrize_with_checks needs pytest: pip install pytest") from error

    def item(name: str, subject: Subject) -> None:
        check = run_check(name, subject)
        if check.status == "skipped":
            pytest.skip(check.seen)
        if check.status == "failed":
            raise ConformanceError(str(check))

    named = priors if isinstance(priors, Mapping) else {_name(prior, i): prior for i, prior in enumerate(priors)}
    subjects = {name: prior if isinstance(prior, Subject) else Subject(prior) for name, prior in named.items()}
    items = [
        pytest.param(partial(item, check, subject), id=f"{name}-{check}")
        for name, subject in subjects.items()
        for check in CHECKS
    ]
    decorate: Callable[..., Any] = pytest.mark.parametrize("check", items)
    return decorate


def _name(prior: Any, index: int) -> str:
    obj = prior.obj if isinstance(prior, Subject) else prior
    return f"{index}-{obj if isinstance(obj, str) else getattr(obj, '__name__', type(obj).__name__)}"
