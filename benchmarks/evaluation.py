"""The estimate of the likelihood: its time against the floor of the hardware, and the error of each proposal.

    python benchmarks/evaluation.py [--data-dir DIR] [--parts speed proposals] [--quick]

- speed: 5000 importance samples for each of 200 test images of static MNIST (without the folder: noise of the same
  size), under a VampPrior with K = 500, L = 40 and gated 300-300 networks with initial weights. The weights only decide
  whether rows pool their draws from the prior, and both cases are measured. (The rows of a trained model do not: its
  codes have 25 nats.) Groups of 16 images take turns with the floors: only the decoder's matrix products and the
  exponentials of its gates and pixels, in chunks of the size that is decoded: (a) for the draws that priory decodes,
  (b) for all 5000 draws of each image, which an estimate without shared draws must decode. Ratios are medians.
- proposals: VAEs on scikit-learn's digits, L = 2; the mean NLL of the test rows from q alone and from the half-and-half
  mixture of q and prior, against quadrature; five seeds of noise.
- pooling: the same in more latent dimensions, for which quadrature is impossible: the NLL from q alone, from the
  mixture with each row's own draws from the prior, and with draws that sixteen rows pool. The lowest is nearest to the
  truth.

Results are written to `benchmarks/results/evaluation.json` after each part, and to `.md`.
"""

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from _book_quadrature import exact_nll, latent_window
from _results import RESULTS, write_results
from priory import VAE, BernoulliDecoder, NormalEncoder, VampPrior, fit, gated_mlp, load_dataset, log_likelihood
from priory.evaluation import importance
from priory.evaluation.importance import ROWS_TOGETHER, VALUES_AT_ONCE
from priory.training import TrainingSettings
from priory.workbench.models.building import build_vae
from priory.workbench.models.facts import facts_of
from priory.workbench.settings.model import ModelSettings

FILE = RESULTS / "evaluation.json"
NUM_INPUTS, LATENT_DIM, HIDDEN, COMPONENTS = 784, 40, 300, 500
POINTS_PER_SIDE = 600  # quadrature
IMAGES, SAMPLES = 200, 5000
PARTS = ["speed", "proposals", "pooling"]
PRIORS_COMPARED, SAMPLE_SIZES, NOISE_SEEDS = ("standard", "vamp", "gtm-vamp"), (64, 512), 5
LATENT_DIMS_COMPARED = (2, 8, 32)


def images(data_dir: str | None) -> Tensor:
    """Return test images, or noise if there is no file."""
    path = None if data_dir is None else Path(data_dir) / "binarized_mnist.npz"
    if path is None or not path.exists():
        return (torch.rand(IMAGES, NUM_INPUTS) < 0.13).float()
    return load_dataset(path).rows("test").tensor()[:: 10_000 // IMAGES].float()


def model(x: Tensor) -> VAE:
    """Build the model of Tomczak & Welling 2018, section 5."""
    encoder = NormalEncoder(gated_mlp(NUM_INPUTS, [HIDDEN, HIDDEN], 2 * LATENT_DIM))
    decoder = BernoulliDecoder(gated_mlp(LATENT_DIM, [HIDDEN, HIDDEN], NUM_INPUTS))
    pseudo_inputs = (torch.rand(COMPONENTS, NUM_INPUTS) < 0.13).float()
    return VAE(encoder, decoder, VampPrior.from_data(pseudo_inputs, COMPONENTS, low=0.0, high=1.0)).eval()


class Floor:
    """Matrix products and exponentials of one chunk of draws."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        widths = [(LATENT_DIM, 2 * HIDDEN), (HIDDEN, 2 * HIDDEN), (HIDDEN, NUM_INPUTS)]
        self.products = [(torch.randn(rows, a), torch.randn(a, b) / a**0.5, torch.empty(rows, b)) for a, b in widths]
        self.gates = torch.randn(rows, HIDDEN)

    @torch.no_grad()
    def __call__(self, draws: int) -> None:
        for _ in range(max(1, round(draws / self.rows))):
            for inputs, weights, outputs in self.products:
                torch.mm(inputs, weights, out=outputs)
            torch.exp(self.gates)
            torch.exp(self.gates)
            torch.exp(outputs)


def seconds(function: object, *arguments: object) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    function(*arguments)  # type: ignore[operator]
    return time.perf_counter() - start


def speed(data_dir: str | None, threads: int, pooled: bool, num_images: int, num_samples: int) -> dict[str, Any]:
    """Return medians over groups of images."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x = images(data_dir)[:num_images]
    vae, floor = model(x), Floor(VALUES_AT_ONCE // NUM_INPUTS // ROWS_TOGETHER * ROWS_TOGETHER)
    p_z = vae.latent_prior()
    from_q = num_samples - num_samples // 2
    ours, own_floor, full_floor, sizes = [], [], [], []
    log_likelihood(vae, x[:2], num_samples=100, prior=p_z)
    for part in x.split(ROWS_TOGETHER):
        with patch.object(importance, "ENOUGH_HITS", 0.0 if pooled else math.inf):
            ours.append(seconds(lambda part=part: log_likelihood(vae, part, num_samples=num_samples, prior=p_z)))
        from_prior = (num_samples - from_q) * (len(part) if pooled else 1)
        own_floor.append(seconds(floor, from_q * len(part) + from_prior))
        full_floor.append(seconds(floor, num_samples * len(part)))
        sizes.append(len(part))
    return {
        "threads": threads,
        "draws of the prior": "pooled" if pooled else "the same for 16 images",
        "images": len(x),
        "samples": num_samples,
        "ms an image": 1e3 * statistics.median(a / n for a, n in zip(ours, sizes, strict=True)),
        "minutes for 10 000 images": sum(ours) / len(x) * 10_000 / 60,
        "/ floor": statistics.median(a / b for a, b in zip(ours, own_floor, strict=True)),
        "/ floor of decoding every draw": statistics.median(a / b for a, b in zip(ours, full_floor, strict=True)),
    }


def trained(prior: str, latent_dim: int, epochs: int) -> VAE:
    """Train a VAE on the digits."""
    torch.set_num_threads(1)
    data = load_dataset("digits")
    data_are = {"likelihood": "categorical", "num_levels": 17}
    grid = {"points_per_side": 8, "grid_start": "mean", "grid_network": "mlp"}
    settings = ModelSettings.of_prior(prior, latent_dim=latent_dim, **grid, **data_are)
    torch.manual_seed(0)
    vae = build_vae(settings, facts_of(data.rows("train"), data.image_shape, 0))
    with tempfile.TemporaryDirectory() as folder:
        training = TrainingSettings(epochs=epochs)
        fit(vae, data.rows("train"), data.rows("valid"), settings=training, seed=0, out=Path(folder) / "run")
    return vae.eval()


@torch.no_grad()
def mean_nlls(vae: VAE, x: Tensor, num_samples: int, prior_share: float) -> list[float]:
    """Return the mean NLL for each seed of the noise."""
    p_z, nlls = vae.latent_prior(), []
    for seed in range(NOISE_SEEDS):
        torch.manual_seed(seed)
        nlls.append(-float(log_likelihood(vae, x, num_samples=num_samples, prior_share=prior_share, prior=p_z).mean()))
    return nlls


@torch.no_grad()
def proposals(prior: str, epochs: int) -> list[dict[str, Any]]:
    """Return NLL by each proposal minus the exact NLL, in nats, of a VAE trained on digits."""
    vae, data = trained(prior, 2, epochs), load_dataset("digits")
    x = data.rows("test").tensor()
    window = latent_window(vae, torch.cat([data.rows("train").tensor(), x]), vae.latent_prior())
    exact = float(exact_nll(vae, x, POINTS_PER_SIDE, window=window).nll.mean())
    rows = []
    for num_samples in SAMPLE_SIZES:
        for share in (0.0, 0.5):
            errors = [nll - exact for nll in mean_nlls(vae, x, num_samples, share)]
            rows.append(
                {"prior": prior, "exact NLL": round(exact, 3), "samples": num_samples, "share of the prior": share}
                | {"error": round(statistics.mean(errors), 3), "s.d. of the noise": round(statistics.stdev(errors), 3)}
            )
    return rows


def pooling(prior: str, latent_dim: int, epochs: int) -> dict[str, Any]:
    """Return the NLL from q alone, with each row's own draws from the prior, and with pooled draws."""
    vae, x = trained(prior, latent_dim, epochs), load_dataset("digits").rows("test").tensor()
    row: dict[str, Any] = {"prior": prior, "latent dimensions": latent_dim, "samples": SAMPLE_SIZES[-1]}
    for name, hits, share in (("q alone", math.inf, 0.0), ("own draws", math.inf, 0.5), ("pooled", 0.0, 0.5)):
        with patch.object(importance, "ENOUGH_HITS", hits):
            start = time.perf_counter()
            nlls = mean_nlls(vae, x, SAMPLE_SIZES[-1], share)
            elapsed = (time.perf_counter() - start) / NOISE_SEEDS
        row |= {name: f"{statistics.mean(nlls):.3f} ± {statistics.stdev(nlls):.3f}", f"{name}, s": f"{elapsed:.1f}"}
    return row


def tables(results: dict[str, Any]) -> str:
    """Return all parts in Markdown."""
    lines = [f"Made by `benchmarks/evaluation.py`, {platform.machine()}, torch {torch.__version__}."]
    for part, rows in results.items():
        lines += ["", f"## {part.capitalize()}", "", "| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines += [
            "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()) + " |" for r in rows
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="few images, samples and epochs, as a test of the script")
    arguments = parser.parse_args()
    results = json.loads(FILE.read_text()) if FILE.exists() and not arguments.quick else {}
    for part in arguments.parts:
        if part == "speed":
            size = (32, 200) if arguments.quick else (IMAGES, SAMPLES)
            ways = [(threads, pooled) for threads in (1, 2) for pooled in (False, True)]
            results[part] = [speed(arguments.data_dir, *way, *size) for way in ways]
        elif part == "proposals":
            epochs = 2 if arguments.quick else 500
            results[part] = [row for prior in PRIORS_COMPARED for row in proposals(prior, epochs)]
        else:
            epochs = 2 if arguments.quick else 250
            results[part] = [pooling(p, size, epochs) for p in ("standard", "vamp") for size in LATENT_DIMS_COMPARED]
        print(tables({part: results[part]}), flush=True)
        if not arguments.quick:
            write_results(FILE, results, tables(results))


if __name__ == "__main__":
    main()
