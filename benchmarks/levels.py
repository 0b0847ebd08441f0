"""Measure the gain from a second level of latent variables, at equal total latent size.

    python benchmarks/levels.py [--data-dir DIR] [--runs DIR] [--quick]

`priory fit` with gated networks of 300 and 300 units (for two levels, the networks of Tomczak & Welling 2018), with a
standard normal prior and with a VampPrior. scikit-learn's digits over two seeds, at most 100 epochs with a KL warm-up
of ten, stopped after fifteen epochs without a better validation. (In the default warm-up of fifty epochs two levels
overfit 1000 rows, and weights are chosen only after the warm-up.) If `binarized_mnist.npz` is in `--data-dir` or
$PRIORY_DATA, also ten epochs of static MNIST with 200 components, one seed. ELBO and NLL of the test rows, in nats.

Run folders are written to `--runs`, where finished runs are not repeated, or to a temporary folder. Results are written
to `benchmarks/results/levels.json`, and to `.md`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from _results import RESULTS, write_results
from priory.workbench.runs.vae_run import Run

FILE = RESULTS / "levels.json"
QUICK = ("--epochs", "2", "--samples", "8")
PRIORS, LEVELS = ("standard", "vamp"), (1, 2)
METRICS = ("elbo", "nll", "rate", "rate_level_1", "rate_level_2", "active_units", "active_units_level_1")
DIGITS = ("--epochs", "100", "--warmup", "0.1", "--patience", "15")
MNIST = ("--epochs", "10", "--batch-size", "250", "--learning-rate", "2e-3", "--samples", "64")
STATIC_MNIST = " Static MNIST: ten epochs, 200 components, one seed."
MNIST_SETTINGS = ("training.schedule=one-cycle", "model.log_variance_range=[-6, 2]")


class Experiment(NamedTuple):
    data: str
    latent_dim: int  # sum over levels
    seeds: int
    components: int
    options: tuple[str, ...]


def fit(experiment: Experiment, prior: str, levels: int, seed: int, out: Path, quick: tuple[str, ...]) -> None:
    """Fit one run by the command line, in its own process, on one thread."""
    size = experiment.latent_dim // levels
    components = ("--components", str(experiment.components)) if prior == "vamp" else ()
    command = [sys.executable, "-m", "priory", "fit", experiment.data, "--network", "gated", "--prior", prior]
    command += [*("--latent-dim", str(size), "--levels", str(levels), "--seed", str(seed), "--out", str(out))]
    command += [*experiment.options, *components, *quick]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})


def measured(name: str, experiment: Experiment, folder: Path, quick: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a row for each prior and number of levels: the values of each metric, one for each seed."""
    rows = []
    for prior in PRIORS:
        for levels in LEVELS:
            runs = [folder / f"{name}-{prior}-{levels}-{seed}" for seed in range(experiment.seeds)]
            for seed, out in enumerate(runs):
                if not (out / "metrics.json").exists():
                    fit(experiment, prior, levels, seed, out, quick)
            metrics = [json.loads((out / "metrics.json").read_text()) for out in runs]
            values = {name: [each[name]["value"] for each in metrics] for name in METRICS if name in metrics[0]}
            dims = Run.open(runs[0]).settings.model.described_dims
            rows.append({"data": name, "prior": prior, "dims": dims} | values)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results in Markdown."""
    lines = [
        "# One level and two, at equal total latent size",
        "",
        "`python benchmarks/levels.py`: gated networks of 300 and 300; test rows, nats. Digits: mean and standard",
        "error over two seeds, a warm-up of 10 epochs, weights by validation."
        + STATIC_MNIST * any(row["data"] != "digits" for row in rows),
        "",
        "| data | prior | latent dimensions | -ELBO | NLL | rate | rate of the top | active units |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = [cell(row[name], sign) for name, sign in (("elbo", -1), ("nll", 1), ("rate", 1))]
        top = cell(row["rate_level_1"]) if "rate_level_1" in row else ""
        active = f"{np.mean(row['active_units']):.0f}"
        if "active_units_level_1" in row:
            active += f", {np.mean(row['active_units_level_1']):.0f} at the top"
        cells = (row["data"], row["prior"], row["dims"], *numbers, top, active)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(values: list[float], sign: int = 1) -> str:
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.2f}" if len(values) > 1 else ""
    return f"{sign * np.mean(values):.2f}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--runs", type=Path, help="folder of the runs")
    parser.add_argument("--quick", action="store_true", help="few epochs and samples, as a test of the script")
    arguments = parser.parse_args()
    experiments = {"digits": Experiment("digits", 16, 1 if arguments.quick else 2, 64, DIGITS)}
    if arguments.data_dir is not None:
        options = (*MNIST, *(part for setting in MNIST_SETTINGS for part in ("--set", setting)))
        file = str(Path(arguments.data_dir) / "binarized_mnist.npz")
        experiments["static MNIST"] = Experiment(file, 40, 1, 200, options)
    quick = QUICK if arguments.quick else ()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary_folder:
        folder = arguments.runs or Path(temporary_folder)
        for name, experiment in experiments.items():
            rows += measured(name, experiment, folder, quick)
    print(table(rows))
    if not quick:
        write_results(FILE, rows, table(rows))


if __name__ == "__main__":
    main()
