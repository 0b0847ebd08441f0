"""How long the runs that are left will take."""

from collections.abc import Sequence

from priory.workbench.compare.cells import Cell


class Pace:
    """The seconds that runs took, and what follows for others: runs of one prior take about as long as each other."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, cell: Cell, seconds: float) -> None:
        """A run has ended."""
        self._seconds.setdefault(cell.prior, []).append(seconds)

    def seconds(self, left: Sequence[Cell]) -> float | None:
        """For all of these; of a prior that has not been seen, as long as the others on average. None: not known.

        >>> pace = Pace()
        >>> pace.add(Cell("standard", 0), 10.0)
        >>> pace.add(Cell("flow", 0), 40.0)
        >>> pace.seconds([Cell("flow", 1), Cell("vamp", 0)])
        65.0
        """
        means = {prior: sum(seen) / len(seen) for prior, seen in self._seconds.items()}
        if not means:
            return None
        usual = sum(means.values()) / len(means)
        return sum(means.get(cell.prior, usual) for cell in left)

    def estimate(self, left: Sequence[Cell]) -> str:
        """The same for a message; empty before the first run has ended."""
        seconds = self.seconds(left)
        return "" if seconds is None else f"; about {in_words(seconds)} left"


def in_words(seconds: float) -> str:
    """A duration, as roughly as an estimate deserves.

    >>> in_words(8.2), in_words(400.0), in_words(20000.0)
    ('8 s', '7 min', '5.6 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
