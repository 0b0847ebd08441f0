"""What another prior is worth to a trained encoder and decoder.

    python benchmarks/refit.py [--runs DIR] [--quick]

A VAE with a standard normal prior and eight latent dimensions is trained on scikit-learn's digits with `priory fit`'s
defaults, and `priory refit` fits each prior of the family to it: all by the command line, with its defaults and seed 0.
ELBO and NLL (512 importance samples) of the 447 test rows, in nats, with standard errors over rows; differences are
those of the same rows under the two priors.

The run folders go to DIR, where what is finished is not done again, or to a temporary place. Results go to
`benchmarks/results/refit.json`, and to `.md`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _results import RESULTS, write_results
from priory.workbench.settings.priors import PRIORS

FILE = RESULTS / "refit.json"
FIT = ("fit", "digits", "--latent-dim", "8")
QUICK = ("--epochs", "2", "--samples", "8")


def priory(*arguments: str) -> None:
    """The command line in a process of its own, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "priory", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def measured(folder: Path, prior: str, quick: tuple[str, ...]) -> dict[str, Any]:
    """One prior."""
    out = folder / f"refit-{prior}"
    if not (out / "config.json").exists():
        priory("refit", str(folder / "run"), "--prior", prior, "--out", str(out), *quick)
    found = json.loads((out / "refit.json").read_text())
    found["epochs"] = len(found.pop("valid_log_prior")) - 1
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = [
        "# Priors fitted after training",
        "",
        f"`python benchmarks/refit.py`: digits, L = 8, a VAE trained with `priory {' '.join(FIT)}`; test rows, nats.",
        "Differences are after - before: positive is better for the ELBO, negative for the NLL.",
        "",
        "| prior | ELBO before | ELBO after | difference | NLL before | NLL after | difference | EM | epochs (best) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for prior, found in results.items():
        parts = [cell(found[which][name]) for name in ("elbo", "nll") for which in ("before", "after", "difference")]
        course = f"{found['epochs']} ({found['best']})"
        lines.append(f"| {prior} | {' | '.join(parts)} | {'yes' if found['by_em'] else 'no'} | {course} |")
    return "\n".join(lines) + "\n"


def cell(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.2f} ± {estimate['se']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="where the run folders go")
    parser.add_argument("--quick", action="store_true", help="few epochs and samples, to see that it runs")
    arguments = parser.parse_args()
    quick = QUICK if arguments.quick else ()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.runs or Path(name)
        if not (folder / "run" / "metrics.json").exists():
            priory(*FIT, "--prior", "standard", "--out", str(folder / "run"), *quick)
        results = {prior: measured(folder, prior, quick) for prior in PRIORS}
    print(table(results))
    if not quick:
        write_results(FILE, results, table(results))


if __name__ == "__main__":
    main()
