"""Estimates: numbers with their standard errors."""

import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

RESAMPLES = 200
BOOTSTRAP_SEED = 0
COUNTS_AT_ONCE = 2**22  # most pairs of a resample and a row
MOST_DECIMALS = 8  # in the text of an estimate


class Estimate(NamedTuple):
    """A number and its standard error.

    As text, the error has two significant digits and the value as many decimals. A number format applies to both, a
    width to the whole text. The error is omitted if it is zero (an exact number) or NaN (unknown).

    >>> nll = Estimate(23.1234, 0.1687)
    >>> print(nll, f"{nll:.3f}", Estimate(1234.5, 120.0), Estimate(2.5, 0.0), sep=", ")
    23.12 ± 0.17, 23.123 ± 0.169, 1230 ± 120, 2.5
    """

    value: float
    se: float

    def __str__(self) -> str:
        if not (math.isfinite(self.value) and math.isfinite(self.se) and self.se > 0):
            return f"{self.value:.6g}" if self.se == 0 or math.isnan(self.se) else f"{self.value:.6g} ± {self.se:.2g}"
        decimals = 1 - int(f"{self.se:.1e}".split("e")[1])
        if decimals > MOST_DECIMALS:
            return f"{self.value:.{MOST_DECIMALS}g} ± {self.se:.1e}"
        return " ± ".join(f"{round(number, decimals):.{max(decimals, 0)}f}" for number in self)

    def __format__(self, spec: str) -> str:
        if re.fullmatch(r"(.?[<>^])?\d*", spec):  # a width
            return format(str(self), spec)
        return " ± ".join(format(number, spec) for number in self)

    def exp(self) -> "Estimate":
        """Return the exponential; its error is correct to first order."""
        return Estimate(math.exp(self.value), math.exp(self.value) * self.se)


def mean(values: Float[Tensor, " datum"]) -> Estimate:
    """Return the mean over data and its standard error."""
    values = values.cpu().double()
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


def median(values: Float[Tensor, " datum"]) -> Estimate:
    """Return the median and its standard error, 1.25 sd / sqrt(N), with sd estimated from the quartiles of a normal."""
    low, middle, high = torch.quantile(values.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    return Estimate(middle, 1.2533 * (high - low) / 1.349 / math.sqrt(len(values)))


class Bootstrap:
    """Resampled rows, for the standard error of a statistic that is not a mean, such as a count or a perplexity.

    A resample is the number of times that each row was drawn, so averages over it are a matrix product. The draws are
    repeated when they are needed: for a million rows they would take 1.6 GB.

    Reference: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 6.
    """

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows

    def averages(self, start: int, values: Float[Tensor, "row column"]) -> Float[Tensor, "resample column"]:
        """Return, in float64, what the rows from `start` on add to the average of each column in each resample.

        The first row of the result belongs to the original rows.
        """
        values = values.cpu().double()
        counts, parts = self._counts(start, len(values)), []
        while some := list(itertools.islice(counts, max(1, COUNTS_AT_ONCE // len(values)))):
            parts.append(torch.stack(some) @ values)
        return torch.cat(parts) / self.num_rows

    def _counts(self, start: int, size: int) -> Iterator[Float[Tensor, " row"]]:
        """How often each of these rows occurs in the original rows, and in each resample."""
        yield torch.ones(size, dtype=torch.float64)
        generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
        for _ in range(RESAMPLES):
            drawn = torch.randint(self.num_rows, (self.num_rows,), generator=generator)
            here = drawn[(drawn >= start) & (drawn < start + size)] - start
            yield torch.bincount(here, minlength=size).double()

    @staticmethod
    def estimate(averages: Tensor, statistic: Callable[[Tensor], Tensor]) -> Estimate:
        """Return a statistic of the averages; its error is the standard deviation over resamples."""
        values = statistic(averages)
        return Estimate(float(values[0]), float(values[1:].std()))
