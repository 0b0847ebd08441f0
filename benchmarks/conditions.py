"""Measure the gain from a condition: the NLL of digits given their class, and the batch effect left in the codes.

Digits: 16 latent dimensions, the class as the condition; the NLL of test rows (512 importance samples) without a
condition, with a prior p(z | c), and with one p(z) for all classes, over seeds 0 to 2. The difference estimates the
information that the class has about the image.

Batch effect: 600 rows of two kinds and two batches, which shift all columns. The shift of the codes is the distance
between the batches' mean codes within a kind, in standard deviations of all codes.

    python benchmarks/conditions.py
"""

import json
import statistics
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from priory import evaluate, fit, load_dataset, with_context
from priory._support.seeds import own_noise
from priory.evaluation import LowEffectiveSampleSizeWarning
from priory.rows import Conditions
from priory.workbench.data import encoded
from priory.workbench.models.building import build_vae
from priory.workbench.models.facts import DataFacts, facts_of
from priory.workbench.settings.model import ModelSettings

SEEDS = (0, 1, 2)
PRIORS = ("standard", "mog", "vamp", "gtm", "gtm-vamp", "flow")
RESULTS = Path(__file__).parent / "results" / "conditions.json"
CASES = {"no condition": None, "p(z | c)": True, "one p(z)": False}


def digits_nll(prior: str, prior_condition: bool | None, seed: int) -> float:
    """Return the NLL of the test rows in nats."""
    dataset = load_dataset("digits", conditions=() if prior_condition is None else ("digit",), binarize="static")
    if prior_condition is not None:
        dataset = encoded(dataset, Conditions.from_columns({"digit": dataset.rows("train").labels["digit"]}))
    settings = ModelSettings.of_prior(
        prior,
        latent_dim=16,
        likelihood="bernoulli",
        points_per_side=8,
        prior_condition=prior_condition is not False,
    )
    facts = facts_of(dataset.rows("train"), dataset.image_shape, seed)
    with own_noise(seed, torch.device("cpu")):
        vae = build_vae(settings, facts)
    fit(vae, dataset.rows("train"), dataset.rows("valid"), seed=seed, epochs=60, batch_size=50, learning_rate=1e-3)
    torch.manual_seed(0)
    return evaluate(vae, dataset.rows("test"), num_samples=512)["nll"].value


def shift(codes: Tensor, label: Tensor, other: Tensor) -> float:
    """Return the distance between the means of two labels within a kind, in standard deviations of the codes."""
    means = [[codes[(label == a) & (other == b)].mean(0) for a in range(2)] for b in range(2)]
    return max(float((first - second).norm()) for first, second in means) / float(codes.var(0).sum().sqrt())


def batch_shift(prior: str, seed: int, known: bool = True) -> tuple[float, float]:
    """Return the shift of the codes by the batch, and by the kind. A model with the batch as condition has one p(z)."""
    torch.manual_seed(seed)
    kind, batch = torch.randint(2, (600,)), torch.randint(2, (600,))
    signal, effect = torch.randn(2, 8), 2 * torch.randn(2, 8)
    x, c = 2 * signal[kind] + effect[batch] + 0.3 * torch.randn(600, 8), torch.eye(2)[batch]
    settings = ModelSettings.of_prior(
        prior,
        latent_dim=2,
        likelihood="gaussian",
        hidden=(32,),
        components=10,
        points_per_side=5,
        prior_condition=False,
    )
    condition = {"context_sizes": (2,), "context": c} if known else {}
    vae: Any = build_vae(settings, DataFacts(8, 600, 600, x, **condition))
    rows = with_context(x, c) if known else x
    fit(vae, rows, epochs=100, batch_size=50, seed=seed, learning_rate=0.01)
    with torch.no_grad():
        codes = (vae.given(c) if known else vae).encode(x).mean
    return shift(codes, batch, kind), shift(codes, kind, batch)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", LowEffectiveSampleSizeWarning)
    results = {}
    for prior in PRIORS:
        shifts = [batch_shift(prior, seed) for seed in SEEDS]
        unknown = [batch_shift(prior, seed, known=False)[0] for seed in SEEDS]
        entry: dict[str, object] = {
            "shift by batch": [round(each[0], 3) for each in shifts],
            "shift by an unknown batch": [round(each, 3) for each in unknown],
            "shift by kind": [round(each[1], 3) for each in shifts],
        }
        for case, prior_condition in CASES.items():
            if prior != "standard" or prior_condition is not False:
                nlls = [digits_nll(prior, prior_condition, seed) for seed in SEEDS]
                spread = statistics.stdev(nlls) / len(SEEDS) ** 0.5
                entry[case] = {"nll": round(statistics.mean(nlls), 2), "se": round(spread, 2)}
        results[prior] = entry
        print(prior, json.dumps(entry), flush=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
