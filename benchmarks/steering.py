"""Measure the NLL and the time of a step of each objective, and of averaged weights, on digits, on one thread.

A VampPrior with 50 components, 10 latent dimensions, one hidden layer of 100. Each objective starts from the same
weights, seeds 0 to 2. ELBO and NLL (512 importance samples) of test rows; the time of a step is processor time.

    python benchmarks/steering.py
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from priory import VAE, BernoulliDecoder, NormalEncoder, VampPrior, evaluate, fit, mlp
from priory.objectives import (
    BetaElbo,
    DoublyReparameterized,
    EvidenceLowerBound,
    FreeBits,
    ImportanceWeighted,
    Objective,
    StickingTheLanding,
)

SEEDS = (0, 1, 2)
EPOCHS, BATCH = 60, 50
OBJECTIVES = (
    EvidenceLowerBound(),
    EvidenceLowerBound(num_samples=8),
    StickingTheLanding(),
    ImportanceWeighted(num_samples=8),
    DoublyReparameterized(num_samples=8),
    BetaElbo(kl_weight=0.5),
    FreeBits(free_bits=8.0),
)
AVERAGES = (
    {"learning_rate": 3e-3},
    {"learning_rate": 3e-3, "ema_decay": 0.99},
    {"learning_rate": 3e-3, "schedule": "one-cycle"},
    {"learning_rate": 3e-3, "schedule": "one-cycle", "ema_decay": 0.99},
)
RESULTS = Path(__file__).parent / "results" / "steering.json"


def digits() -> tuple[Tensor, Tensor, Tensor]:
    """Return binarized digits: 1000 training rows, 397 validation rows, 400 test rows."""
    x = torch.from_numpy(load_digits().data > 7.5).float()
    return x[:1000], x[1000:1397], x[1397:]


def run(objective: Objective, seed: int, **settings: Any) -> dict[str, float]:
    """Return test ELBO and NLL in nats, and milliseconds of processor time per step, including validation."""
    train, valid, test = digits()
    torch.manual_seed(seed)
    vae = VAE(NormalEncoder(mlp(64, [100], 20)), BernoulliDecoder(mlp(10, [100], 64)), VampPrior(train[:50].clone()))
    began = time.process_time()
    fit(vae, train, valid, objective=objective, seed=seed, epochs=EPOCHS, batch_size=BATCH, patience=None, **settings)
    seconds = time.process_time() - began
    torch.manual_seed(0)
    metrics = evaluate(vae, test, num_samples=512)
    steps = EPOCHS * len(train) / BATCH
    return {"elbo": metrics["elbo"].value, "nll": metrics["nll"].value, "ms": 1e3 * seconds / steps}


def main() -> None:
    torch.set_num_threads(1)
    cases = [(objective, {"learning_rate": 3e-3, "schedule": "one-cycle"}) for objective in OBJECTIVES]
    cases += [(EvidenceLowerBound(), settings) for settings in AVERAGES]
    results = []
    for objective, settings in cases:
        runs = [run(objective, seed, **settings) for seed in SEEDS]
        means = {name: round(statistics.mean(each[name] for each in runs), 3) for name in runs[0]}
        spread = round(statistics.stdev(each["nll"] for each in runs), 3)
        results.append({"objective": repr(objective), **settings, **means, "nll_sd_of_seeds": spread})
        print(json.dumps(results[-1]), flush=True)
    RESULTS.write_text(
        json.dumps({"torch": torch.__version__, "seeds": len(SEEDS), "results": results}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
