"""Measure the gain from another prior for a trained encoder and decoder.

    python benchmarks/refit.py [--runs DIR] [--quick]

`priory fit` trains a VAE with a standard normal prior and eight latent dimensions on scikit-learn's digits, and `priory
refit` fits each prior of the family to it; both with defaults and seed 0. ELBO and NLL (512 importance samples) of the
447 test rows, in nats, with standard errors over rows. Differences compare the same rows under the two priors.

Run folders are written to DIR, where finished runs are not repeated, or to a temporary folder. Results are written to
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
    """Run the command line in its own process, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "priory", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def measured(folder: Path, prior: str, quick: tuple[str, ...]) -> dict[str, Any]:
    """Return the results of one prior."""
    out = folder / f"refit-{prior}"
    if not (out / "config.json").exists():
        priory("refit", str(folder / "run"), "--prior", prior, "--out", str(out), *quick)
    result = json.loads((out / "refit.json").read_text())
    result["epochs"] = len(result.pop("valid_log_prior")) - 1
    return result


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results in Markdown."""
    lines = [
        "# Priors fitted after training",
        "",
        f"`python benchmarks/refit.py`: digits, L = 8, a VAE trained with `priory {' '.join(FIT)}`; test rows, nats.",
        "Differences are after - before: positive is better for the ELBO, negative for the NLL.",
        "",
        "| prior | ELBO before | ELBO after | difference | NLL before | NLL after | difference | EM | epochs (best) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for prior, result in results.items():
        parts = [cell(result[which][name]) for name in ("elbo", "nll") for which in ("before", "after", "difference")]
        course = f"{result['epochs']} ({result['best']})"
        lines.append(f"| {prior} | {' | '.join(parts)} | {'yes' if result['by_em'] else 'no'} | {course} |")
    return "\n".join(lines) + "\n"


def cell(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.2f} ± {estimate['se']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs")
    parser.add_argument("--quick", action="store_true", help="few epochs and samples, as a test of the script")
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
