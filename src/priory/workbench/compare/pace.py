"""An estimate of the time that the remaining runs will take."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from priory.workbench.compare.cells import Cell


def seconds_left(took: Mapping[str, Sequence[float]], left: Sequence[Cell]) -> float:
    """Estimate the seconds that the runs `left` will take from those that finished runs took, by prior.

    The estimate is the mean over runs of the same prior; if there are none, the mean over the other priors.

    >>> seconds_left({"standard": [10.0], "flow": [40.0]}, [Cell("flow", 1), Cell("vamp", 0)])
    65.0
    """
    means = {prior: fmean(seconds) for prior, seconds in took.items()}
    return sum(means.get(cell.prior, fmean(means.values())) for cell in left)
