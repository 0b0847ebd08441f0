"""An epoch of digits with `priory.training.fit` against a plain PyTorch loop over the same slices, in one run.

Both do the same arithmetic: shuffled slices, Adam, clipping, validation with four draws, a copy of the best weights.
The plain loop has no history file, no state to resume from and no checks for NaN. It is timed with Adam's default and
with the fused kernel that `fit` uses. `fit` is timed without and with a run folder (`out`). All take turns; an epoch's
time is the median over epochs and repeats. Results are written after each comparison.

    python benchmarks/training_loop.py [--epochs 30] [--repeats 5]
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from priory.nn.decoders import BernoulliDecoder
from priory.nn.encoders import NormalEncoder
from priory.nn.networks import mlp
from priory.objectives import elbo
from priory.priors.gaussians import MixtureOfGaussians
from priory.priors.normal import StandardNormal
from priory.training import TrainingSettings, fit
from priory.vae import VAE

LATENT_DIM = 16
HIDDEN = [300, 300]
LIMIT = 1.5
RESULTS = Path(__file__).parent / "results" / "training_loop.json"


def digits() -> tuple[Tensor, Tensor]:
    """Return binarized digits: 1000 training rows, 397 validation rows."""
    x = torch.from_numpy(load_digits().data > 7.5).float()
    return x[:1000], x[1000:1397]


def make(prior: str) -> VAE:
    torch.manual_seed(0)
    priors = {"standard": lambda: StandardNormal(LATENT_DIM), "mog": lambda: MixtureOfGaussians(LATENT_DIM, 50)}
    encoder = NormalEncoder(mlp(64, HIDDEN, 2 * LATENT_DIM))
    return VAE(encoder, BernoulliDecoder(mlp(LATENT_DIM, HIDDEN, 64)), priors[prior]())


def plain_loop(
    vae: VAE, train: Tensor, valid: Tensor, settings: TrainingSettings, *, fused: bool = False
) -> list[float]:
    """Train by a hand-written loop, and return the seconds of each epoch."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(vae.parameters(), settings.learning_rate, fused=fused)
    steps_per_epoch = -(-len(train) // settings.batch_size)
    warmup, step, best, seconds = settings.warmup_steps(steps_per_epoch), 0, -float("inf"), []
    for _ in range(settings.epochs):
        began = time.perf_counter()
        vae.train()
        for positions in torch.randperm(len(train)).split(settings.batch_size):
            loss = -elbo(vae, train[positions]).value(min(1.0, step / warmup)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), settings.gradient_clip)
            optimizer.step()
            step += 1
        vae.eval()
        with torch.no_grad():
            value = float(elbo(vae, valid, num_samples=settings.validation_draws).value().mean())
        if step >= warmup and value > best:
            best = value
            weights = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
        seconds.append(time.perf_counter() - began)
    vae.load_state_dict(weights)
    return seconds


def fit_loop(vae: VAE, train: Tensor, valid: Tensor, settings: TrainingSettings, *, write: bool) -> list[float]:
    """Train by `fit`, and return the seconds between starts of epochs, which include all work between epochs."""
    starts: list[float] = []

    class Clocked:
        """Rows that record the time when each epoch's first batch is read."""

        def __len__(self) -> int:
            return len(train)

        def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
            self.num_read = getattr(self, "num_read", 0) + len(positions)
            if self.num_read % len(train) == len(positions) % len(train):
                starts.append(time.perf_counter())
            return train[positions], positions

    with tempfile.TemporaryDirectory() as folder:
        fit(vae, Clocked(), valid, settings=settings, seed=1, out=folder if write else None)
    return [after - before for before, after in pairwise(starts)]


def compare(prior: str, threads: int, settings: TrainingSettings, repeats: int) -> dict[str, float | str | int]:
    """Return medians in milliseconds per epoch, and the ratios to the plain loop."""
    torch.set_num_threads(threads)
    train, valid = digits()
    seconds: dict[str, list[float]] = {"plain": [], "plain_fused": [], "fit": [], "fit_with_folder": []}
    for _ in range(repeats):
        seconds["plain"] += plain_loop(make(prior), train, valid, settings)[1:]
        seconds["plain_fused"] += plain_loop(make(prior), train, valid, settings, fused=True)[1:]
        seconds["fit"] += fit_loop(make(prior), train, valid, settings, write=False)[1:]
        seconds["fit_with_folder"] += fit_loop(make(prior), train, valid, settings, write=True)[1:]
    medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
    result = {f"{name}_ms": round(value, 3) for name, value in medians.items()}
    ratios = {
        f"{ours}_to_{theirs}": round(medians[ours] / medians[theirs], 3)
        for ours in ("fit", "fit_with_folder")
        for theirs in ("plain", "plain_fused")
    }
    return {"prior": prior, "threads": threads, **result, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    settings = TrainingSettings(epochs=arguments.epochs, batch_size=arguments.batch_size, patience=None)
    content = {"torch": torch.__version__, "machine": platform.machine(), "limit": LIMIT, **vars(arguments)}
    RESULTS.parent.mkdir(exist_ok=True)
    results = []
    for threads in (1, 2):
        for prior in ("standard", "mog"):
            results.append(compare(prior, threads, settings, arguments.repeats))
            print(json.dumps(results[-1]), flush=True)
            RESULTS.write_text(json.dumps(content | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
