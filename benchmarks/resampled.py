"""What a learned acceptance is worth: resampled priors in training, and both resampled kinds after it.

    python benchmarks/resampled.py [--runs DIR] [--seeds N] [--quick]

`priory fit` trains VAEs with eight latent dimensions on scikit-learn's digits, with a standard normal prior, a mixture
of Gaussians, and a resampled prior on top of each; all with its defaults. `priory refit` then fits priors on top of the
runs with the standard normal and the mixture. Test rows, 512 importance samples. Means over seeds and their standard
errors, of differences too: a seed's runs have the same rows, and a refit has its run's encoder and decoder.

The run folders go to DIR, where what is finished is not done again, or to a temporary place. Results go to
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

from priory._support.files import replacing

RESULTS = Path(__file__).parent / "results" / "resampled.json"
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
METRICS = ("nll", "elbo", "marginal_kl", "prior_in_aggregate", "log_normalizer")


def priory(*arguments: str) -> None:
    """The command line in a process of its own, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "priory", *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)


def finished(out: Path, *command: str) -> dict[str, dict[str, float]]:
    """The metrics of a run, which the command makes unless it is there."""
    if not (out / "metrics.json").exists() or not (out / "config.json").exists():
        priory(*command, "--out", str(out))
    return json.loads((out / "metrics.json").read_text())


def measured(folder: Path, seed: int, quick: tuple[str, ...]) -> dict[str, dict[str, dict[str, float]]]:
    """The metrics of all runs of one seed."""
    places = {name: folder / f"{name.replace(' ', '-')}-{seed}" for name in FITS}
    own = ("--seed", str(seed), *quick)
    found = {
        name: finished(places[name], "fit", "digits", "--latent-dim", "8", "--prior", *prior, *own)
        for name, (prior, _) in FITS.items()
    }
    for name, (run, prior) in REFITS.items():
        out = folder / f"{run}-then-{prior}-{seed}"
        found[name] = finished(out, "refit", str(places[run]), "--prior", prior, *own)
    return found


def cell(values: list[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else "")


def table(results: list[dict[str, dict[str, dict[str, float]]]]) -> str:
    """The results in Markdown."""
    lines = [
        "# Resampled and noise-contrastive priors",
        "",
        f"`python benchmarks/resampled.py --seeds {len(results)}`: digits, L = 8, test rows, nats; means over seeds,",
        "± s.e. of the mean. Differences are those of the same seed: to the prior below, or to the run that was",
        "refitted. `prior_in_aggregate` is the share of the prior where codes of data lie, 0.95 at best.",
        "",
        "| prior | NLL | difference | ELBO | difference | marginal KL | prior_in_aggregate | log Z |",
        "|---|---|---|---|---|---|---|---|",
    ]
    against = {name: below for name, (_, below) in FITS.items()} | {name: run for name, (run, _) in REFITS.items()}
    for name, other in against.items():
        cells = []
        for metric in METRICS[:2]:
            values = [found[name][metric]["value"] for found in results]
            gains = [found[name][metric]["value"] - found[other][metric]["value"] for found in results] if other else []
            cells += [cell(values), cell(gains) if gains else ""]
        cells += [cell([found[name][metric]["value"] for found in results]) for metric in METRICS[2:4]]
        logs = [found[name]["log_normalizer"] for found in results if "log_normalizer" in found[name]]
        error = f" (error {max(each['se'] for each in logs):.4f})" if logs else ""
        cells.append(cell([each["value"] for each in logs]) + error if logs else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="where the run folders go")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--quick", action="store_true", help="few epochs and samples, to see that it runs")
    arguments = parser.parse_args()
    quick = QUICK if arguments.quick else ()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.runs or Path(name)
        found = [measured(folder, seed, quick) for seed in range(arguments.seeds)]
    results = [{name: {m: run[m] for m in METRICS if m in run} for name, run in each.items()} for each in found]
    print(table(results))
    if not quick:
        with replacing(RESULTS) as temporary:
            temporary.write_text(json.dumps(results, indent=2) + "\n")
        with replacing(RESULTS.with_suffix(".md")) as temporary:
            temporary.write_text(table(results))


if __name__ == "__main__":
    main()
