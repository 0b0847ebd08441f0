"""The report of a conformance run: one line for each promise."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Status = Literal["passed", "failed", "skipped"]


class ConformanceError(AssertionError):
    """A promise was not kept; the message is the report, or the check's line of it."""


class SkippedError(Exception):
    """Raised inside a check that does not apply or cannot decide; the message is the reason."""


class BrokenError(Exception):
    """Raised inside a check that ends early; the message describes the failure."""


class Outcome(NamedTuple):
    kept: bool  # whether the promise was kept
    seen: str  # the measurement, in words


@dataclass(frozen=True)
class Check:
    """One promise and its result.

    Attributes:
        name: of the promise, as in `priory.testing.CHECKS`.
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
        """Whether some promise was tested and none was broken."""
        return not self.failures and any(check.status == "passed" for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def raise_on_failure(self) -> None:
        """Turn failures into an exception.

        Raises:
            ConformanceError: a check failed, or none could be run.
        """
        if not self.passed:
            raise ConformanceError(str(self))

    def __str__(self) -> str:
        statuses = [check.status for check in self.checks]
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in ("passed", "failed", "skipped"))
        return "\n".join([f"{self.subject}: {counts}", *map(str, self.checks)])
