"""The exemplar prior: its likelihood on digits, the time of a step with 50 000 exemplars, and data augmentation.

    python benchmarks/exemplar.py [--quick]

All on one thread. Digits: `priory fit digits --latent-dim 16` with defaults and seeds 0 to 2; 447 test rows, 512
importance samples, nats. Step: 50 000 random binary rows of 784 columns, L = 40, gated 300-300 networks, a batch of
100, Adam; the median of interleaved steps in processor time. Augmentation: binarized digits, 1000 training rows. A VAE
with an exemplar prior is trained on them without labels. A classifier (one hidden layer of 200, SGD with momentum) is
trained on each row and, for a share of its loss, on E[x | z] with z ~ N(c_n, scale^2 I) around the row's own code c_n.

Results are written to `benchmarks/results/exemplar.json`, and to `.md`.

Reference: Norouzi, Fleet & Norouzi 2020, arXiv:2004.04795, sections 4.1 and 4.4.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from _results import RESULTS, write_results
from priory import (
    VAE,
    BernoulliDecoder,
    ExemplarPrior,
    NormalEncoder,
    StandardNormal,
    VampPrior,
    elbo,
    evaluate,
    fit,
    gated_mlp,
    load_dataset,
    mlp,
)

FILE = RESULTS / "exemplar.json"
SEEDS = (0, 1, 2)
FITS = {
    "standard": ("--prior", "standard"),
    "vamp": ("--prior", "vamp"),
    "exemplar": ("--prior", "exemplar"),
    "exemplar, 500 a step": ("--prior", "exemplar", "--set", "model.exemplars=500"),
}
SHOWN = ("nll", "elbo", "rate", "distortion")
NUM_ROWS, NUM_COLUMNS, LATENT_DIM, BATCH = 50_000, 784, 40, 100
LAMBDAS = (1.0, 0.5)  # share of the original rows in the loss


def digits(quick: bool) -> dict[str, dict[str, float]]:
    """Return means and standard deviations over seeds of the test rows' metrics."""
    options = ("--epochs", "2", "--samples", "4") if quick else ()
    results = {}
    for name, flags in FITS.items():
        runs = []
        for seed in SEEDS[: 1 if quick else None]:
            with tempfile.TemporaryDirectory() as folder:
                line = ["fit", "digits", "--latent-dim", "16", *flags, "--seed", str(seed), "--out", f"{folder}/run"]
                began = time.perf_counter()
                command = [sys.executable, "-m", "priory", *line, *options]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
                seconds = time.perf_counter() - began
                runs.append({name: metrics[name]["value"] for name in SHOWN} | {"seconds": seconds})
        results[name] = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        results[name]["nll_sd"] = statistics.stdev(run["nll"] for run in runs) if len(runs) > 1 else 0.0
        print(name, results[name], flush=True)
    return results


def step_times(quick: bool) -> dict[str, float]:
    """Return the milliseconds of a step by prior, and of encoding all exemplars once."""
    torch.manual_seed(0)
    x = (torch.rand(NUM_ROWS, NUM_COLUMNS) < 0.2).float()
    priors = {
        "standard": StandardNormal(LATENT_DIM),
        "vamp, K = 500": VampPrior.from_data(x, 500, low=0.0, high=1.0),
        "exemplar, 500 a step": ExemplarPrior(LATENT_DIM, exemplars=500, neighbors=None),
        "exemplar, 5000 a step": ExemplarPrior(LATENT_DIM, exemplars=5000),
        "exemplar, all 50 000": ExemplarPrior(LATENT_DIM),
    }
    steps, refresh = {}, 0.0
    for name, prior in priors.items():
        encoder = NormalEncoder(gated_mlp(NUM_COLUMNS, [300, 300], 2 * LATENT_DIM))
        vae = VAE(encoder, BernoulliDecoder(gated_mlp(LATENT_DIM, [300, 300], NUM_COLUMNS)), prior)
        if isinstance(prior, ExemplarPrior):
            prior.attach(x)
            began = time.process_time()
            prior.refresh(encoder)
            refresh = time.process_time() - began
        steps[name] = _steps(vae, x)
    times: dict[str, list[float]] = {name: [] for name in priors}
    for _ in range(2 if quick else 15):
        for name, step in steps.items():
            times[name].append(next(step))
    milliseconds = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    return milliseconds | {"encoding all 50 000 once": 1e3 * refresh}


def _steps(vae: Any, x: Tensor) -> Iterator[float]:
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
    while True:
        positions = torch.randint(len(x), (BATCH,))
        began = time.process_time()
        if isinstance(vae.prior, ExemplarPrior):
            with vae.prior.leave_out(positions):
                loss = -elbo(vae, x[positions]).value().mean()
        else:
            loss = -elbo(vae, x[positions]).value().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield time.process_time() - began


def augmentation(quick: bool) -> dict[str, Any]:
    """Return test accuracies of classifiers with and without rows drawn around the exemplars, by seed, in percent."""
    data = load_dataset("digits")
    x, y = (data.rows("train").tensor() > 7.5).float(), torch.from_numpy(data.rows("train").labels["digit"].astype(int))
    valid = (data.rows("valid").tensor() > 7.5).float()
    test = (data.rows("test").tensor() > 7.5).float()
    truth = torch.from_numpy(data.rows("test").labels["digit"].astype(int))
    accuracies: dict[str, Any] = {f"lambda = {share:g}": [] for share in LAMBDAS}
    for seed in SEEDS[: 1 if quick else None]:
        torch.manual_seed(seed)
        vae = VAE(NormalEncoder(mlp(64, [200], 32)), BernoulliDecoder(mlp(16, [200], 64)), ExemplarPrior(16))
        fit(vae, x, valid, seed=seed, epochs=2 if quick else 300)
        for share in LAMBDAS:
            torch.manual_seed(seed)
            classifier = _classifier(vae, x, y, share, 2 if quick else 200)
            with torch.no_grad():
                accuracy = (classifier(test).argmax(-1) == truth).double().mean()
            accuracies[f"lambda = {share:g}"].append(100 * float(accuracy))
        print(accuracies, flush=True)
    return accuracies | {"nll": evaluate(vae, test, num_samples=64)["nll"].value}


def _classifier(vae: Any, x: Tensor, y: Tensor, share: float, epochs: int) -> nn.Module:
    """Train a classifier: loss = share * (of the rows) + (1 - share) * (of rows drawn around their exemplars)."""
    classifier = nn.Sequential(nn.Linear(x.shape[1], 200), nn.ReLU(), nn.Linear(200, 10))
    optimizer = torch.optim.SGD(classifier.parameters(), 0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, epochs)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    codes = vae.prior.components()
    for _ in range(epochs):
        for positions in torch.randperm(len(x)).split(100):
            with torch.no_grad():
                drawn = vae.decode(codes.sample()[positions]).mean
            loss = share * loss_of(classifier(x[positions]), y[positions])
            loss = loss + (1 - share) * loss_of(classifier(drawn), y[positions])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return classifier


def table(results: dict[str, Any]) -> str:
    """Return the results in Markdown."""
    lines = ["# Exemplar prior", "", "`python benchmarks/exemplar.py`; its first lines describe each table.", ""]
    lines += ["| digits, L = 16 | test NLL (s.d. of seeds) | ELBO | rate | distortion | seconds of a run |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {run['nll']:.2f} ± {run['nll_sd']:.2f} | {run['elbo']:.2f} | {run['rate']:.2f} | "
        f"{run['distortion']:.2f} | {run['seconds']:.0f} |"
        for name, run in results["digits"].items()
    ]
    lines += ["", "| step | ms |", "|---|---|"]
    lines += [f"| {name} | {ms:.0f} |" for name, ms in results["steps"].items()]
    lines += ["", "| classifier | test accuracy, %, by seed | mean |", "|---|---|---|"]
    for name, values in results["augmentation"].items():
        if isinstance(values, list):
            lines.append(f"| {name} | {', '.join(f'{v:.1f}' for v in values)} | {statistics.mean(values):.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few epochs, as a test of the script")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    results = {"augmentation": augmentation(quick), "steps": step_times(quick), "digits": digits(quick)}
    print(table(results))
    if not quick:
        write_results(FILE, results, table(results))


if __name__ == "__main__":
    main()
