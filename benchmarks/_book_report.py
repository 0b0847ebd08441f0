"""The tables of the book's experiment, as Markdown."""

from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

Run = dict[str, Any]

NAMES = {
    "standard": "standard",
    "mog": "MoG",
    "vamp": "VampPrior",
    "gtm": "GTM",
    "gtm-vamp": "GTM-VampPrior",
    "flow": "flow",
}
INITIALIZATION_NAMES = {"uniform": "uniform", "mean": "mean plus noise", "data": "data"}
# Exact NLL of the book's corrected code, at patience 20 and grid +-10, measured before this library existed.
EARLIER = {
    "standard": "97.5 ± 0.3",
    "mog": "97.6 ± 0.2",
    "vamp": "97.9 ± 0.2",
    "gtm": "97.6 ± 0.1",
    "gtm-vamp": "97.8 ± 0.2",
    "flow": "98.1 ± 0.1",
}
STUCK_NATS = 4.0  # a run this far above the median of its cell is stuck
READING = "<!-- Below: written by hand; the script does not change it. -->"


def report(runs: list[Run]) -> str:
    """Return every table for every patience, the longest first."""
    if not runs:
        return "No runs yet."
    parts = []
    for patience in sorted({run["patience"] for run in runs}, reverse=True):
        chosen = [run for run in runs if run["patience"] == patience]
        parts += [f"## Six priors, patience {patience}", priors_table(chosen)]
        parts += [f"## VampPrior by initialization, patience {patience}", initialization_table(chosen)]
    return "\n\n".join([*parts, "## The runs", checks(runs)])


def write_report(path: Path, runs: list[Run]) -> None:
    """Write the tables, without changing the text below them, which is written by hand."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    written = old.partition(READING)[2]
    head = (
        "# The book's experiment on digits\n\nMade by `benchmarks/book.py`, which describes the runs. Nats per datum.\n"
    )
    path.write_text(f"{head}{EXPLANATION}\n{report(runs)}\n\n{READING}{written or chr(10)}", encoding="utf-8")


EXPLANATION = f"""Mean ± standard error over seeds; the error does not include the choice of the test rows.

- NLL: exact, by 256 x 256 quadrature. *Earlier*: the same from the book's corrected code, patience 20, grid ±10.
- *Minus standard*: exact NLL minus the standard prior's with the same seed (encoder, decoder, order of rows and noise
  start equal); *minus data*: exact NLL minus that of the VampPrior whose pseudo-inputs start at training rows.
- *Train NLL*: NLL of the training rows. Test minus train contains the overfitting and the effect of the split's order.
- exp(I(k; z)): number of distinguishable components, of 16.
- *Stuck*: runs more than {STUCK_NATS:.0f} nats above the median of their cell.
"""


def priors_table(runs: list[Run]) -> str:
    """Return the table of the six priors, each with the library's default initialization."""
    rows = []
    for prior, name in NAMES.items():
        cell = _cell(runs, prior, "data")
        if cell:
            difference = mean_se(_paired(_ok(cell), _ok(_cell(runs, "standard", "data"))), signed=True)
            rows.append(
                [name, *_numbers(cell), EARLIER[prior], difference if prior != "standard" else "", *_fate(cell)]
            )
    columns = ["prior", *NUMBER_COLUMNS, "earlier NLL", "minus standard", *FATE_COLUMNS]
    return table(columns, rows)


def initialization_table(runs: list[Run]) -> str:
    """Return the table of VampPriors by the start of their pseudo-inputs, beside the GTM-VampPrior."""
    data = _ok(_cell(runs, "vamp", "data"))
    cells = [("VampPrior, " + name, _cell(runs, "vamp", key)) for key, name in INITIALIZATION_NAMES.items()]
    cells.append(("GTM-VampPrior", _cell(runs, "gtm-vamp", "data")))
    rows = []
    for name, cell in cells:
        if cell:
            is_data = cell[0]["prior"] == "vamp" and cell[0]["initialize"] == "data"
            difference = "" if is_data else mean_se(_paired(_ok(cell), data), signed=True)
            rows.append([name, *_numbers(cell), difference, _spread(_column(cell, "test_nll")), *_fate(cell)])
    return table(["prior, start", *NUMBER_COLUMNS, "minus data", "best, worst NLL", *FATE_COLUMNS], rows)


NUMBER_COLUMNS = ["test ELBO", "exact NLL", "train NLL", "exp(I(k; z))"]
FATE_COLUMNS = ["best epoch", "epochs", "stuck", "failed", "runs"]


def _numbers(cell: list[Run]) -> list[str]:
    return [
        mean_se(_column(cell, "test_elbo")),
        mean_se(_column(cell, "test_nll")),
        mean_se(_column(cell, "train_nll")),
        mean_se(_column(cell, "effective_components")),
    ]


def _fate(cell: list[Run]) -> list[str]:
    epochs = [f"{median(_column(cell, name)):.0f}" if _ok(cell) else "" for name in ("best_epoch", "epochs")]
    return [*epochs, str(stuck(_column(cell, "test_nll"))), str(len(cell) - len(_ok(cell))), str(len(cell))]


def _spread(values: list[float]) -> str:
    return f"{min(values):.1f}, {max(values):.1f}" if values else ""


def stuck(nlls: list[float]) -> int:
    """Return how many lie more than 4 nats above the median.

    >>> stuck([97.0, 97.5, 98.0, 103.0])
    1
    """
    return sum(nll > median(nlls) + STUCK_NATS for nll in nlls)


def mean_se(values: list[float], *, signed: bool = False) -> str:
    """Return mean and standard error as text.

    >>> mean_se([1.0, 2.0, 3.0]), mean_se([1.0]), mean_se([])
    ('2.0 ± 0.58', '1.0', '')
    """
    if not values:
        return ""
    text = f"{mean(values):+.2f}" if signed else f"{mean(values):.1f}"
    return f"{text} ± {stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else text


def checks(runs: list[Run]) -> str:
    """Return failures, the quadrature's own checks, and wall time."""
    done, failed = _ok(runs), [run for run in runs if "failure" in run]
    trained = [run for run in done if "train_seconds" in run]
    mass = _column(done, "prior_mass")
    lines = [
        f"{len(runs)} runs, of which {len(done) - len(trained)} have the same weights as a run of longer patience, and "
        f"{len(failed)} failed.",
        *(f"Failed: {_label(run)}: {run['failure']}" for run in failed),
        *(f"Not stopped by patience: {_label(run)}" for run in done if not run["stopped_early"]),
    ]
    if done:
        change = max(done, key=lambda run: run["quadrature_change"])
        lines += [
            f"Quadrature: the grid holds {min(mass):.5f} to {max(mass):.5f} of the prior's mass; between 128 and 256 "
            f"points per side, a datum's NLL changes by at most {change['quadrature_change']:.2g} nats on average "
            f"({_label(change)}); median over runs {median(_column(done, 'quadrature_change')):.1g}.",
        ]
    if trained:
        lines.append("Wall time on one thread of a shared machine: " + _wall_time(trained))
    return "\n".join(f"- {line}" for line in lines)


def _wall_time(trained: list[Run]) -> str:
    per_epoch = [run["train_seconds"] / run["epochs"] for run in trained]
    total = sum(run["seconds"] for run in trained)
    return (
        f"{total / 60:.0f} minutes in all; a run {median(_column(trained, 'seconds')):.0f} s (median), "
        f"an epoch {median(per_epoch):.2f} s (fastest run {min(per_epoch):.2f} s)."
    )


def _label(run: Run) -> str:
    start = f", {INITIALIZATION_NAMES[run['initialize']]}" if run["prior"] == "vamp" else ""
    return f"{NAMES[run['prior']]}{start}, patience {run['patience']}, seed {run['seed']}"


def _cell(runs: Iterable[Run], prior: str, initialize: str) -> list[Run]:
    return [run for run in runs if run["prior"] == prior and run["initialize"] == initialize]


def _ok(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if "failure" not in run]


def _column(runs: Iterable[Run], name: str) -> list[float]:
    return [run[name] for run in _ok(runs) if name in run]


def _paired(runs: list[Run], others: list[Run]) -> list[float]:
    reference = {run["seed"]: run["test_nll"] for run in others}
    return [run["test_nll"] - reference[run["seed"]] for run in runs if run["seed"] in reference]


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table with numbers to the right."""
    rule = [":--", *["--:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, rule, *rows])
