"""The cost of a training step with a VampPrior: convolutional networks beside perceptrons.

    python benchmarks/convolutional.py [--steps N] [--compile]

Images of 28 x 28, batch 100, L = 40, Adam; networks of `priory fit` (`--network mlp`: 256-256; `conv`: 32 and 64
channels), on one thread. Milliseconds per step: the median over rounds. In each round every variant takes one step, so
that a busy machine slows all variants equally. Columns are numbers K of pseudo-inputs, or the standard normal prior.
`--compile` adds `torch.compile`, which needs a C++ compiler and minutes.
Results are written to `benchmarks/results/convolutional.json`, and to `.md`.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from _results import RESULTS, write_results
from priory import (
    VAE,
    BernoulliDecoder,
    ConvolutionalDecoderNetwork,
    ConvolutionalEncoderNetwork,
    Mixture,
    NormalEncoder,
    StandardNormal,
    VampPrior,
    elbo,
    mlp,
)

FILE = RESULTS / "convolutional.json"
L, D, BATCH = 40, 784, 100
SIZES = (0, 500)


def networks(kind: str) -> tuple[nn.Module, nn.Module]:
    if kind == "mlp":
        return mlp(D, [256, 256], 2 * L), mlp(L, [256, 256], D)
    return ConvolutionalEncoderNetwork((28, 28), 2 * L), ConvolutionalDecoderNetwork((28, 28), L)


def model(kind: str, size: int, x: Tensor, **options: Any) -> VAE:
    encoder, decoder = networks(kind)
    prior = VampPrior.from_data(x, size, low=0.0, high=1.0, **options) if size else StandardNormal(L)
    return VAE(NormalEncoder(encoder), BernoulliDecoder(decoder), prior)


def bound(vae: VAE, x: Tensor) -> Tensor:
    return elbo(vae, x).value().mean()


def step(vae: VAE, x: Tensor, bound: Callable[[VAE, Tensor], Tensor] = bound) -> Callable[[], None]:
    optimizer = torch.optim.Adam([p for p in vae.parameters() if p.requires_grad], 1e-3)

    def take() -> None:
        optimizer.zero_grad()
        (-bound(vae, x[torch.randint(len(x), (BATCH,))])).backward()
        optimizer.step()

    return take


def one_pass(vae: VAE, x: Tensor) -> Tensor:
    """Return the same bound, with the batch and the pseudo-inputs encoded together."""
    prior: Any = vae.prior
    q = vae.encoder(torch.cat([x, prior.pseudo_inputs])).base_dist
    rows, parts = (type(q)(q.loc[part], q.scale[part]) for part in (slice(len(x)), slice(len(x), None)))
    z = rows.rsample()
    p_z = Mixture(prior.mixing_logits, torch.distributions.Independent(parts, 1))
    return (vae.decode(z).log_prob(x) - rows.log_prob(z).sum(-1) + p_z.log_prob(z)).mean()


def mixed(vae: VAE, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return bound(vae, x)


def variants(x: Tensor, compiled: bool) -> dict[str, dict[int, Callable[[], None]]]:
    """Return steps by name and number of pseudo-inputs."""
    vamps = SIZES[1:]
    chosen = {
        "mlp": {k: step(model("mlp", k, x), x) for k in SIZES},
        "conv": {k: step(model("conv", k, x), x) for k in SIZES},
        "conv, channels first": {
            k: step(model("conv", k, x).to(memory_format=torch.contiguous_format), x) for k in SIZES
        },
        "conv, one pass": {k: step(model("conv", k, x), x, one_pass) for k in vamps},
        "conv, fixed pseudo-inputs": {k: step(model("conv", k, x, learn_pseudo_inputs=False), x) for k in vamps},
        "conv, bfloat16": {k: step(model("conv", k, x), x, mixed) for k in SIZES},
        "mlp, bfloat16": {k: step(model("mlp", k, x), x, mixed) for k in SIZES},
    }
    if compiled:
        chosen["conv, torch.compile"] = {k: step(model("conv", k, x), x, torch.compile(bound)) for k in vamps}
    return chosen


def measured(steps: int, compiled: bool) -> dict[str, dict[str, float]]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(2000, D).round()
    chosen = variants(x, compiled)
    taken: dict[tuple[str, int], list[float]] = {(name, k): [] for name, sizes in chosen.items() for k in sizes}
    for number in range(steps + 2):  # the first two warm up, and compile
        for (name, k), times in taken.items():
            began = time.perf_counter()
            chosen[name][k]()
            if number >= 2:
                times.append(1000 * (time.perf_counter() - began))
    return {name: {str(k): round(median(taken[name, k]), 1) for k in sizes} for name, sizes in chosen.items()}


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the results in Markdown."""
    lines = [
        "# The cost of a training step, milliseconds",
        "",
        f"`python benchmarks/convolutional.py`: 28 x 28, batch {BATCH}, L = {L}, one thread, torch {torch.__version__}",
        "",
        f"| networks | {' | '.join(f'K = {k}' if k else 'standard normal' for k in SIZES)} |",
        "|---|" + "---|" * len(SIZES),
    ]
    lines += [f"| {name} | {' | '.join(str(row.get(str(k), '')) for k in SIZES)} |" for name, row in results.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="number of rounds")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too")
    arguments = parser.parse_args()
    results = measured(arguments.steps, arguments.compile)
    print(table(results))
    write_results(FILE, results, table(results))


if __name__ == "__main__":
    main()
