"""Measure the gain from a learned acceptance probability: resampled priors in `fit`, both resampled kinds in `refit`.

    python benchmarks/resampled.py [--runs DIR] [--seeds N] [--quick]

`priory fit` trains VAEs with eight latent dimensions on scikit-learn's digits, with a standard normal prior, a mixture
of Gaussians, and a resampled prior on top of each; all with its defaults. `priory refit` then fits priors on top of the
runs with the standard normal and the mixture. Test rows, 512 importance samples.

Run folders are written to DIR, where finished runs are not repeated, or to a temporary folder. Results are written to
`benchmarks/results/resampled.json`, and to `.md`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

from _results import RESULTS, write_results

FILE = RESULTS / "resampled.json"
QUICK = ("--epochs", "2", "--samples", "8")
ON_MOG = ("--set", "model.base_prior=mog")
FITS = {  # name: the prior, and the run that it is compared with
    "standard": (("standard",), None),
    "resampled on standard": (("resampled",), "standard"),
    "mog": (("mog",), None),
    "resampled on mog": (("resampled", *ON_MOG), "mog"),
}
REFITS = {  # name: the run, and the prior
    "standard, then mog": ("standard", "mog"),
    "standard, then resampled": ("standard", "resampled"),
    "standard, then noise-contrastive": ("standard", "noise-contrastive"),
    "mog, then noise-contrastive": ("mog", "noise-contrastive"),
}
DIFFERENCES = ("nll", "elbo")
COLUMNS = (
    "nll",
    "nll difference",
    "elbo",
    "elbo difference",
    "marginal_kl",
    "prior_in_aggregate",
    "log_normalizer",
)
Run = dict[str, dict[str, float]]


def priory(*arguments: str) -> None:
    """Run the command line in its own process, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "priory", *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)


def finished(out: Path, *command: str) -> Run:
    """Return the metrics of a run; make the run if it does not exist."""
    if not (out / "metrics.json").exists() or not (out / "config.json").exists():
        priory(*command, "--out", str(out))
    return json.loads((out / "metrics.json").read_text())


def measured(folder: Path, seed: int, quick: tuple[str, ...]) -> dict[str, Run]:
    """Return the metrics of all runs of one seed, and their differences from other runs."""
    places = {name: folder / f"{name.replace(' ', '-')}-{seed}" for name in FITS}
    own = ("--seed", str(seed), *quick)
    runs = {}
    for name, (prior, below) in FITS.items():
        runs[name] = finished(places[name], "fit", "digits", "--latent-dim", "8", "--prior", *prior, *own)
        for metric in DIFFERENCES if below else ():
            gain = runs[name][metric]["value"] - runs[below][metric]["value"]
            runs[name][f"{metric} difference"] = {"value": gain}
    for name, (run, prior) in REFITS.items():
        out = folder / f"{run}-then-{prior}-{seed}"
        runs[name] = finished(out, "refit", str(places[run]), "--prior", prior, *own)
        differences = json.loads((out / "refit.json").read_text())["difference"]
        runs[name] |= {f"{metric} difference": differences[metric] for metric in DIFFERENCES}
    return {name: {key: run[key] for key in COLUMNS if key in run} for name, run in runs.items()}


def cell(estimates: list[dict[str, float]]) -> str:
    """Return the mean over seeds with its standard error; for one seed, the number with its own standard error."""
    values = [estimate["value"] for estimate in estimates]
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else estimates[0].get("se")
    return f"{mean(values):.2f}" + ("" if error is None else f" ± {error:.2g}")


def table(results: list[dict[str, Run]]) -> str:
    """Return the results in Markdown."""
    lines = [
        "# Resampled and noise-contrastive priors",
        "",
        f"`python benchmarks/resampled.py --seeds {len(results)}`: digits, L = 8, test rows, nats. Several seeds:",
        "means and their standard errors. One seed: standard errors over rows, or over draws. Differences are from",
        "the base prior with the same seed, or from the run that was refitted, on the same rows.",
        "",
        f"| prior | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name in results[0]:
        runs = [of_seed[name] for of_seed in results]
        cells = [cell([run[column] for run in runs]) if column in runs[0] else "" for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--quick", action="store_true", help="few epochs and samples, as a test of the script")
    arguments = parser.parse_args()
    quick = QUICK if arguments.quick else ()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.runs or Path(name)
        results = [measured(folder, seed, quick) for seed in range(arguments.seeds)]
    print(table(results))
    if not quick:
        write_results(FILE, results, table(results))


if __name__ == "__main__":
    main()
