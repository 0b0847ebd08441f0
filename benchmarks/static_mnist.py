"""Where a learned prior wins: static MNIST, 40 latent dimensions, gated 300-300 networks, 500 components.

    python benchmarks/static_mnist.py --data-dir DIR standard vamp gtm-vamp

Trains each prior with the library's own `fit` (Adam, one-cycle to 2e-3, batch 250, 150 epochs, warm-up over the first
fifth, log-variance in [-6, 2]) on one thread, and judges it on the 10 000 test images (ELBO) and on every tenth of
them (NLL, 500 importance samples from q). The data are `binarized_mnist.npz` in `--data-dir` or $PRIORY_DATA.

Every prior's numbers go to `benchmarks/results/static_mnist.json` when it ends; one that is there is not run again, one
that was interrupted resumes from its last epoch. Run one process per prior to use more cores. The table is printed, and
written to `benchmarks/results/static_mnist.md`.
"""

import argparse
import json
import os
import platform
import time
from functools import partial
from pathlib import Path

import torch

from priory import evaluate, fit, load_dataset
from priory._support.files import replacing
from priory.training import TrainingSettings
from priory.vae import VAE
from priory.workbench.data import Dataset
from priory.workbench.models.building import build_vae
from priory.workbench.models.facts import facts_of
from priory.workbench.settings.model import ModelSettings

RESULTS = Path(__file__).parent / "results"
NLL_STEP = 10  # not the first thousand: their ELBO is 8 nats worse than that of the second half
PAPER = {"standard": -88.56, "vamp": -85.57}  # Tomczak & Welling 2018, table 1; 5000 samples
LABELS = {"standard": "standard normal", "vamp": "VampPrior", "gtm-vamp": "GTM-VampPrior", "mog": "MoG", "gtm": "GTM"}

LATENT_DIM = 40
MODEL = partial(
    ModelSettings.of_prior,
    latent_dim=LATENT_DIM,
    likelihood="bernoulli",
    network="gated",
    hidden=(300, 300),
    log_variance_range=(-6.0, 2.0),
    components=500,
    points_per_side=22,  # 484 nodes
    grid_start="mean",  # no start, no guide and no noise, as the prior was published
    grid_network="mlp",
)
TRAINING = TrainingSettings(
    epochs=150,
    batch_size=250,
    learning_rate=2e-3,
    schedule="one-cycle",
    warmup=0.2,
    patience=None,
    validation_draws=1,
)


def train(prior: str, dataset: Dataset, epochs: int, scratch: Path) -> tuple[VAE, dict[str, float]]:
    """The trained model, and how long it took."""
    torch.manual_seed(0)
    vae = build_vae(MODEL(prior), facts_of(dataset.rows("train"), dataset.image_shape, 0))
    settings = TRAINING.model_copy(update={"epochs": epochs})
    folder = scratch / f"static_mnist_{prior}_{epochs}"
    history = fit(
        vae, dataset.rows("train"), dataset.rows("valid"), settings=settings, seed=0, out=folder, resume=folder.exists()
    )
    return vae, {"epochs": len(history["epoch"]), "minutes": sum(history["seconds"]) / 60}


def judge(vae: VAE, dataset: Dataset) -> dict[str, float]:
    """Test ELBO over all images; NLL by 500 samples from q over every tenth."""
    test = dataset.rows("test").tensor()
    bound = evaluate(vae, test, num_samples=4, prior_share=0.0, batch_size=250)
    nll = evaluate(vae, test[::NLL_STEP], num_samples=500, prior_share=0.0, batch_size=100)["nll"]
    result = {"elbo": bound["elbo"].value, "elbo_se": bound["elbo"].se, "nll": nll.value, "nll_se": nll.se}
    for name in ("rate", "active_units", "marginal_kl", "effective_components", "used_components"):
        if name in bound:
            result[name] = bound[name].value
    return result


def table(results: dict[str, dict[str, float]]) -> str:
    """The results as Markdown."""
    lines = [
        "| prior | test -ELBO | test NLL (500 samples, 1000 images) | paper (5000 samples) | active units | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for prior, r in results.items():
        paper = f"{-PAPER[prior]:.2f}" if prior in PAPER else ""
        lines.append(
            f"| {LABELS[prior]} | {-r['elbo']:.2f} ± {r['elbo_se']:.2f} | {r['nll']:.2f} ± {r['nll_se']:.2f} | "
            f"{paper} | {r['active_units']:.0f} of {LATENT_DIM} | {r['minutes']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def record(prior: str, result: dict[str, float], path: Path) -> dict[str, dict[str, float]]:
    """Add a result to the file, which other processes may have written to meanwhile."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[prior] = result
    results = {name: results[name] for name in LABELS if name in results}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(table(results))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("priors", nargs="*", default=["standard", "vamp", "gtm-vamp"])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--epochs", type=int, default=TRAINING.epochs)
    parser.add_argument("--scratch", type=Path, default=Path("runs"), help="where unfinished runs keep their state")
    parser.add_argument("--out", type=Path, default=RESULTS / "static_mnist.json")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("--data-dir: expected the folder that holds binarized_mnist.npz, or set PRIORY_DATA")
    torch.set_num_threads(1)
    dataset = load_dataset(Path(arguments.data_dir) / "binarized_mnist.npz")
    done = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for prior in arguments.priors:
        if prior in done:
            continue
        vae, effort = train(prior, dataset, arguments.epochs, arguments.scratch)
        start = time.perf_counter()
        result = judge(vae, dataset) | effort | {"evaluation_minutes": (time.perf_counter() - start) / 60}
        done = record(prior, result | {"processor": platform.processor() or platform.machine()}, arguments.out)
    print(table(done))


if __name__ == "__main__":
    main()
