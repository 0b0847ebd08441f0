"""On a GPU, in one run of a few minutes: the tests marked gpu, and the density against torch and matrix products.

    python benchmarks/gpu.py [--device cuda] [--no-tests]

- forward + backward of log sum_k: `priory.Mixture`, `torch.distributions.MixtureSameFamily`, and the floor: the three
  matrix products and one exponential of a B x K matrix, in the type that the kernel computes in on this device;
- a step of a VampPrior (784 pixels, batch 250, L = 40, gated 300-300), forward and backward, without the optimizer.

All take turns; times and ratios are medians over rounds. Results are written to `benchmarks/results/gpu.json` after
each measurement, so an interrupted run keeps its results. Without a CUDA device the script stops with a message.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from density import draw_mixture, summary
from priory import VAE, BernoulliDecoder, Mixture, NormalEncoder, VampPrior, diagonal_normal, elbo, gated_mlp
from priory._support.files import write_json
from priory.density import working_dtype

RESULTS = Path(__file__).parent / "results" / "gpu.json"
SIZES = [(250, 500, 40), (1000, 5000, 40), (1000, 100_000, 40), (100_000, 1000, 16)]
MOST_PAIRS = 2**32 // 40  # B x K x L numbers, of which torch's mixture stores several copies
ROUNDS = 20
COMPONENTS = [500, 5000]


def interleaved(functions: dict[str, Callable[[], Any]], device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each function, called in turn; each call waits until the device has finished."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for round_ in range(ROUNDS + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if round_ >= 2:  # the first rounds build kernels and workspaces
                seconds[name].append(time.perf_counter() - start)
    return seconds


def density(sizes: tuple[int, int, int], device: torch.device) -> dict[str, Any]:
    """Measure forward and backward of the log-density."""
    arguments = [x.detach().to(device).requires_grad_() for x in draw_mixture(*sizes)]
    z, logits, loc, log_scale = arguments
    dtype = working_dtype(device)
    features = torch.randn(sizes[0], 2 * sizes[2], dtype=dtype, device=device)
    weights = torch.randn(sizes[1], 2 * sizes[2], dtype=dtype, device=device)

    def ours() -> None:
        p_z = Mixture(logits, diagonal_normal(loc, log_scale.exp()))
        torch.autograd.grad(p_z.log_prob(z).sum(), arguments)

    def same_family() -> None:
        components = Independent(Normal(loc, log_scale.exp(), validate_args=False), 1, validate_args=False)
        p_z = MixtureSameFamily(Categorical(logits=logits, validate_args=False), components, validate_args=False)
        torch.autograd.grad(p_z.log_prob(z).sum(), arguments)

    def floor() -> None:
        joint = (features @ weights.mT).mul_(-1e-3).exp_()
        joint @ weights
        joint.mT @ features

    functions: dict[str, Callable[[], Any]] = {"priory": ours, "floor": floor}
    if sizes[0] * sizes[1] <= MOST_PAIRS // sizes[2]:
        functions["MixtureSameFamily"] = same_family
    return {"B, K, L": sizes, "dtype": str(dtype)} | summary(interleaved(functions, device), "priory")


def step(components: int, device: torch.device) -> dict[str, Any]:
    """Measure the ELBO of a VampPrior and its gradients, with the encoder's pass over the pseudo-inputs."""
    vae = VAE(
        NormalEncoder(gated_mlp(784, [300, 300], 80)),
        BernoulliDecoder(gated_mlp(40, [300, 300], 784)),
        VampPrior(torch.rand(components, 784), low=0.0, high=1.0),
    ).to(device)
    x = torch.rand(250, 784, device=device).round()
    parameters = list(vae.parameters())

    def ours() -> None:
        terms = elbo(vae, x)
        torch.autograd.grad((terms.kl - terms.reconstruction).mean(), parameters)

    return {"K": components} | summary(interleaved({"step": ours}, device), "step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-tests", action="store_true", help="measure, but run no tests")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch finds no CUDA device on this machine; nothing was measured")
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "density": [],
        "steps": [],
    }
    for part, sizes, measure in (("density", SIZES, density), ("steps", COMPONENTS, step)):
        for size in sizes:
            results[part].append(measure(size, device))  # type: ignore[operator]
            print(json.dumps(results[part][-1]), flush=True)
            if device.type == "cuda":
                write_json(RESULTS, results)
    if not arguments.no_tests:
        tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
        raise SystemExit(subprocess.run(tests, cwd=Path(__file__).parents[1]).returncode)


if __name__ == "__main__":
    main()
