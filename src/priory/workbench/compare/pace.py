"""How long the runs that are left will take."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from priory.workbench.compare.cells import Cell


def seconds_left(took: Mapping[str, Sequence[float]], left: Sequence[Cell]) -> float:
    """The time that these runs will take, given the seconds that finished runs took, by prior.

    A run takes as long as others of its prior on average; without others, as long as those of the other priors.

    >>> seconds_left({"standard": [10.0], "flow": [40.0]}, [Cell("flow", 1), Cell("vamp", 0)])
    65.0
    """
    means = {prior: fmean(seconds) for prior, seconds in took.items()}
    return sum(means.get(cell.prior, fmean(means.values())) for cell in left)
