"""Free memory, and an error for anything that needs more."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


class NotEnoughMemoryError(MemoryError, ValueError):
    """An operation would need more memory than is available; nothing was allocated."""


def require_memory(needed: int, what: str, cure: str = "give fewer rows or columns") -> None:
    """Raise an error if an operation needs more memory than is free; do nothing if the free memory is unknown.

    Args:
        needed: bytes.
        what: the operation or object that needs them; the subject of the message.
        cure: advice at the end of the message.

    Raises:
        NotEnoughMemoryError: `needed` is more than `available_memory()`.

    >>> require_memory(10**30, "table.npy", "drop columns")
    Traceback (most recent call last):
    priory._support.memory.NotEnoughMemoryError: table.npy: would take about 1e+12 EB of memory, this machine has ...
    """
    free = available_memory()
    if free is not None and needed > free:
        raise NotEnoughMemoryError(
            f"{what}: would take about {readable(needed)} of memory, this machine has {readable(free)} free; {cure}"
        )


@contextmanager
def limited_to_available_memory() -> Iterator[None]:
    """Make an allocation beyond the available memory fail, so that it can be reported.

    Without a limit, Linux grants the memory and kills the process when it is used. Other systems ignore this function.
    """
    free = available_memory()
    try:
        import resource

        used = 1024 * int(re.findall(r"VmData:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])
    except (ImportError, OSError, IndexError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([*limits, used + (free or 2**62)]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def available_memory() -> int | None:
    """Return the bytes that can be used without swapping, within the limit of a container; None if unknown."""
    known = [free for free in (_of_the_system(), *(_of_a_container(*paths) for paths in _CGROUPS)) if free is not None]
    return min(known, default=None)


def readable(size: int) -> str:
    """Return a number of bytes with a unit.

    >>> readable(24_300_000_000), readable(512)
    ('24 GB', '512 bytes')
    """
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{3 if value >= 99.5 else 2}g} {_UNITS[unit]}"


def _of_the_system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS does not report how much is free
    except (AttributeError, ValueError, OSError):
        return None


def _of_a_container(limit: str, used: str) -> int | None:
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()))
    except (OSError, ValueError):  # no such control group, or no limit: "max"
        return None
