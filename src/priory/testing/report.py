"""The report of all checks of an object: one line for each check."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Status = Literal["passed", "failed", "skipped"]


class ConformanceError(AssertionError):
    """A check failed; the message is the report, or the check's line of it."""


class SkippedError(Exception):
    """Raised inside a check that does not apply or cannot decide; the message is the reason."""


class BrokenError(Exception):
    """Raised inside a check that ends early; the message describes the failure."""


class Outcome(NamedTuple):
    passed: bool  # whether the object passed the check
    seen: str  # the measurement, in words


@dataclass(frozen=True)
class Check:
    """One check and its result.

    Attributes:
        name: name of the check, as in `priory.testing.CHECKS`.
        status: "passed", "failed" or "skipped".
        seen: the measurement; for a skipped check, the reason.
        expected: the measurement of a correct prior.
    """

    name: str
    status: Status
    seen: str
    expected: str

    def __str__(self) -> str:
        line = f"{self.status:<8} {self.name:<27} {self.seen}"
        return f"{line}\n{'':<36} expected: {self.expected}" if self.status == "failed" else line


@dataclass(frozen=True)
class Report:
    """All checks of one object.

    Attributes:
        subject: the object under test, in words.
        checks: in the order in which they ran.

    >>> report = Report("a prior", (Check("integrates_to_one", "failed", "mass 9.0", "mass 1"),))
    >>> report.passed, [check.name for check in report.failures]
    (False, ['integrates_to_one'])
    >>> print(report)
    a prior: 0 passed, 1 failed, 0 skipped
    failed   integrates_to_one           mass 9.0
                                         expected: mass 1
    """

    subject: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether at least one check ran and none failed."""
        return not self.failures and any(check.status == "passed" for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def raise_on_failure(self) -> None:
        """Raise an exception if checks failed.

        Raises:
            ConformanceError: a check failed, or none could be run.
        """
        if not self.passed:
            raise ConformanceError(str(self))

    def __str__(self) -> str:
        statuses = [check.status for check in self.checks]
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in ("passed", "failed", "skipped"))
        return "\n".join([f"{self.subject}: {counts}", *map(str, self.checks)])
