"""The tables of the GTM benchmark, as Markdown."""

import math
import platform
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from _map_judging import exponent

Row = dict[str, Any]
READING = "<!-- Below: written by hand; the script does not change it. -->"
TITLES = {
    "speed": "Speed: 20 iterations of EM on 8000 rows of MNIST, 16 x 16 nodes, 8 x 8 basis",
    "floor": "One iteration beside its matrix products and exponentials",
    "growth": "Growth on one thread, in processor time",
    "memory": "Peak memory of a process that fits a memory-mapped file, 3 iterations",
    "maps": "Maps, 20 x 20 nodes, measured on test rows",
    "sweep": "Settings, measured on validation rows; mean ± standard error over subsets of the training rows",
}
MEASURES = ("log-likelihood", "trustworthiness", "10-NN accuracy")


def table(rows: list[Row]) -> str:
    """Return a Markdown table of all columns that occur, with numbers to the right.

    >>> print(table([{"a": "x", "b": 1.23456}, {"a": "y", "c": None}]))
    | a | b | c |
    |:--|--:|--:|
    | x | 1.235 |  |
    | y |  |  |
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    rules = [":--" if any(isinstance(row.get(column), str) for row in rows) else "--:" for column in columns]
    lines = ["| " + " | ".join(cells) + " |" for cells in text]
    return "\n".join([lines[0], "|" + "|".join(rules) + "|", *lines[1:]])


def _cell(value: Any) -> str:
    """Return a number with four digits; whole numbers with commas from 10 000 on.

    >>> _cell(1_000_000), _cell(-52.4331), _cell(1234.5678), _cell(0.000123456), _cell(float("nan")), _cell("ugtm")
    ('1,000,000', '-52.43', '1234.6', '0.0001235', 'nan', 'ugtm')
    """
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if value >= 10_000 else str(value)
    return "" if value is None else str(value)


def exponents(rows: Iterable[Row]) -> list[str]:
    """Return the exponent of each quantity that varies, over all its rows and over the larger half of them."""
    rows, lines = list(rows), []
    for which in dict.fromkeys(row["varies"] for row in rows):
        chosen = [row for row in rows if row["varies"] == which]
        sizes, seconds = ([float(row[name]) for row in chosen] for name in (which, "s an iteration"))
        half = len(chosen) // 2
        lines.append(
            f"- seconds per iteration grow as {which}^{exponent(sizes, seconds):.2f}, "
            f"over the larger half as {which}^{exponent(sizes[-max(2, half) :], seconds[-max(2, half) :]):.2f}"
        )
    return lines


def sweep_rows(runs: Iterable[Row]) -> list[Row]:
    """Return one row per cell, sorted by data set and by trustworthiness plus accuracy, the best first."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for run in runs:
        cells.setdefault((run["data"], run["cell"]), []).append(run)
    return [
        {"data": data, "cell": cell, "subsets": len(runs_of_cell)}
        | {name: mean_se([run[name] for run in runs_of_cell]) for name in (*MEASURES, "iterations", "s")}
        for (data, cell), runs_of_cell in sorted(cells.items(), key=lambda item: (item[0][0], -_rank(item[1])))
    ]


def _rank(runs: list[Row]) -> float:
    return mean(run["trustworthiness"] + run["10-NN accuracy"] for run in runs)


def mean_se(values: list[float]) -> str:
    """Return mean and standard error, to two digits of the error.

    >>> mean_se([1.0, 2.0, 3.0]), mean_se([-165.5, -164.5]), mean_se([0.5]), mean_se([20.0, 20.0])
    ('2.00 ± 0.58', '-165.00 ± 0.50', '0.5', '20')
    """
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    if error == 0.0:
        return f"{mean(values):.4g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{mean(values):.{digits}f} ± {error:.{digits}f}"


def report(results: dict[str, Any]) -> str:
    """Return all parts that were run."""
    parts = []
    for name, title in TITLES.items():
        rows = results.get(name)
        if rows:
            rows = sweep_rows(rows) if name == "sweep" else rows
            parts += [f"## {title}", table(rows)]
        if rows and name == "growth":
            parts.append("\n".join(exponents(rows)))
    return "\n\n".join(parts)


def write_report(path: Path, results: dict[str, Any], versions: str) -> None:
    """Write the tables, without changing the text below them, which is written by hand."""
    written = path.read_text(encoding="utf-8").partition(READING)[2] if path.exists() else ""
    made = f"Made by `benchmarks/gtm.py`, which describes the runs; {platform.machine()}, {versions}."
    path.write_text(
        f"# The classical GTM\n\n{made}\n{EXPLANATION}\n{report(results)}\n\n{READING}{written or chr(10)}",
        encoding="utf-8",
    )


EXPLANATION = """
- *True*: the mean log-likelihood of the training rows in nats per row, from an explicit float64 mixture with the fitted
  images of the nodes and the fitted noise (`benchmarks/_map_judging.py`). *Its claim*: the value from the package.
- *Times as long*: the package's time divided by the mean of priory's times before and after it, in one process; median
  over repeats. *Times the processor*: the same for processor time, which other work on a shared machine hardly changes.
  Settings are equal (see `benchmarks/_gtm_packages.py`); *plain EM* is priory without annealing, the packages' EM.
"""
