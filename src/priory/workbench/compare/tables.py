"""The comparison as text: means over seeds, differences from the baseline, failures."""

import math

from priory.evaluation import Estimate
from priory.workbench.compare.differences import Difference
from priory.workbench.compare.results import Comparison, better_by
from priory.workbench.report import Table

SHOWN = ("nll", "elbo", "distortion", "rate", "active_units", "effective_components")
DIFFERENCES = ("prior", "seeds", "nll", "s.e. over rows", "elbo", "s.e. over rows")
_NOTES = (  # for 0, 1 and more seeds in common of a prior and the baseline
    "no seed has finished runs of both, so there is nothing to compare",
    "one seed: the only standard error is over rows; it does not include the variation between trainings",
    "±: 95 % interval over seeds (trainings), by Student's t; s.e. over rows: standard error, variation of rows",
)


def means_table(comparison: Comparison) -> Table:
    """Return the table of means ± standard errors over seeds."""
    rows = []
    for prior in comparison.priors:
        means = comparison.means(prior)
        rows.append((prior, _seeds(comparison, prior), *(_mean(means.get(name)) for name in SHOWN)))
    several = len(comparison.seeds) > 1
    error = "mean ± standard error over seeds" if several else "one seed, so no standard error over seeds"
    names = (name.replace("_", " ") for name in SHOWN)
    return Table(f"{comparison.num_rows or 'no'} rows, nats per row; {error}", ("prior", "seeds", *names), rows)


def _seeds(comparison: Comparison, prior: str) -> str:
    finished, planned = len(comparison.seeds_of(prior)), len(comparison.seeds)
    return str(planned) if finished == planned else f"{finished} of {planned} seeds" if finished else "failed"


def _mean(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate.value:.2f}" + ("" if math.isnan(estimate.se) else f" ± {estimate.se:.2f}")


def differences_table(comparison: Comparison) -> Table | None:
    """Return the table of differences from the baseline on the same seeds and rows; None without another prior."""
    others = [prior for prior in comparison.priors if prior != comparison.baseline]
    if not others:
        return None
    rows = []
    for prior in others:
        row = [prior, str(len(comparison.common_seeds(prior)) or "none in common")]
        for name, difference in comparison.differences(prior).items():
            row += [in_words(name, difference), f"{difference.se_rows:.3f}"]
        rows.append(tuple(row + [""] * (len(DIFFERENCES) - len(row))))
    most_seeds = max(len(comparison.common_seeds(prior)) for prior in others)
    interval = "; ± 95 % interval over seeds" if most_seeds > 1 else ""
    title = f"against {comparison.baseline}, same seeds and same rows, nats per row{interval}"
    return Table(title, DIFFERENCES, rows, _NOTES[min(most_seeds, 2)])


def in_words(name: str, difference: Difference) -> str:
    """Describe a difference, with half of its 95 % interval over seeds if there are several.

    >>> in_words("nll", Difference(-1.5, 0.25, 0.125, (-1.25, -1.75)))
    'better by 1.500 ± 3.177'
    >>> in_words("elbo", Difference(-1.5, math.nan, 0.125, (-1.5,)))
    'worse by 1.500'
    """
    gain = better_by(name, difference)
    interval = "" if math.isnan(difference.half_interval) else f" ± {difference.half_interval:.3f}"
    return f"{'worse' if gain < 0 else 'better'} by {abs(gain):.3f}{interval}"


def failure_lines(comparison: Comparison) -> list[str]:
    """List the failed runs with their errors; runs with the same error share a line."""
    cells: dict[str, list[str]] = {}
    for cell, message in comparison.failures.items():
        cells.setdefault(message, []).append(str(cell))
    return [f"{'; '.join(names)}: {message}" for message, names in cells.items()]


def aligned(text: Table) -> str:
    """Format the table with aligned columns: the first to the left, the others to the right.

    >>> print(aligned(Table("a table", ("prior", "nll"), (("standard", "9.25"), ("flow", "10.50")))))
    a table
    prior       nll
    standard   9.25
    flow      10.50
    """
    lines = (text.header, *text.rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        shown.append("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join([text.title, *shown, *filter(None, [text.note])])
