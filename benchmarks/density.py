"""The mixture density against other implementations and against the floor of the hardware, in one run.

    python benchmarks/density.py [--quick]

All implementations take turns in each round (the floors in separate rounds); times and ratios are medians over rounds.
Inputs are float32. "floor" is the time of only the float64 matrix products and exponentials that a gradient of log sum
exp needs if it stores the B x K matrix (three products, one exponential of it). "blocked floor" is the same for a
gradient that recomputes the matrix block by block (four products, two exponentials).

- forward + backward: `priory.Mixture`, `torch.distributions.MixtureSameFamily`, the floors;
- forward: `priory.density.mixture_log_prob`, pykeops' LogSumExp, scikit-learn's `GaussianMixture.score_samples`
  (the last two if they are installed: `pip install '.[benchmarks]'`);
- growth in K at B = 1000, L = 40: time, and the peak memory above inputs and gradients (one process for each K);
- drawing 1 000 000 samples; E[u|z] of 1 000 000 points.

Results are written to `benchmarks/results/density.json` after each part; at the end, tables to `.md` and the growth to
`.png`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from _results import write_results
from priory import Mixture, diagonal_normal
from priory._support.files import replacing
from priory.density import Components, mixture_log_prob
from priory.density.blocks import block_sizes

RESULTS = Path(__file__).parent / "results" / "density.json"
SIZES = [(64, 16, 2), (1000, 16, 2), (250, 500, 40), (1000, 500, 40), (10_000, 400, 2), (1000, 5000, 40)]
GROWTH = [1000, 10_000, 100_000, 1_000_000]
SECONDS = 6.0  # of a comparison, about; it has at least its smallest number of rounds


def draw_mixture(num_points: int, num_components: int, latent_dim: int) -> list[Tensor]:
    """Return z, logits, loc, log_scale like those of a trained prior; z is drawn from the mixture."""
    torch.manual_seed(0)
    loc, log_scale = torch.randn(num_components, latent_dim), 0.3 * torch.randn(num_components, latent_dim) - 1
    logits = torch.randn(num_components)
    z = Mixture(logits, diagonal_normal(loc, log_scale.exp())).sample((num_points,))
    return [x.requires_grad_() for x in (z, logits, loc, log_scale)]


def interleaved(functions: dict[str, Callable[[], Any]], least: int = 5) -> dict[str, list[float]]:
    """Return the seconds of each function; the functions are called in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS or len(next(iter(seconds.values()))) < least:
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
        if len(next(iter(seconds.values()))) >= 2000:
            break
    return seconds


def summary(seconds: dict[str, list[float]], ours: str) -> dict[str, float]:
    """Return medians in milliseconds, and the median ratio of each implementation to ours."""
    result = {f"{name} ms": round(statistics.median(values) * 1e3, 4) for name, values in seconds.items()}
    for name, values in seconds.items():
        if name != ours:
            ratios = [other / own for other, own in zip(values, seconds[ours], strict=True)]
            result[f"{name} / {ours}"] = round(statistics.median(ratios), 3)
    return result


def floors(num_points: int, num_components: int, latent_dim: int) -> dict[str, Callable[[], Any]]:
    """Return functions of only the products and exponentials, on whole matrices and on the kernel's blocks."""
    features = torch.randn(num_points, 2 * latent_dim, dtype=torch.float64)
    weights = torch.randn(num_components, 2 * latent_dim, dtype=torch.float64)
    joint = -300 * torch.rand(num_points, num_components, dtype=torch.float64)
    sizes = block_sizes(num_points, Components(weights[:, 0], weights[:, :latent_dim], weights[:, :latent_dim]))

    def whole() -> None:
        features @ weights.mT
        torch.exp(joint)
        joint @ weights
        features.mT @ joint

    def blocks() -> None:
        for part in weights.split(sizes.components):
            for points in features.split(sizes.points):
                block = joint[: len(points), : len(part)]
                points @ part.mT
                torch.exp(block)
                points @ part.mT
                torch.exp(block)
                block @ part
                points.mT @ block

    return {"floor": whole, "blocked floor": blocks}


def forward_and_backward(sizes: tuple[int, int, int]) -> dict[str, float]:
    """Compare priory with the floors; separately with torch, which frees so much memory that it slows the next call."""
    arguments = draw_mixture(*sizes)
    z, logits, loc, log_scale = arguments

    def ours() -> None:
        p_z = Mixture(logits, diagonal_normal(loc, log_scale.exp()))
        torch.autograd.grad(p_z.log_prob(z).sum(), arguments)

    def same_family(validate_args: bool | None) -> None:
        components = Independent(Normal(loc, log_scale.exp(), validate_args=validate_args), 1)
        weights = Categorical(logits=logits, validate_args=validate_args)
        p_z = MixtureSameFamily(weights, components, validate_args=validate_args)
        torch.autograd.grad(p_z.log_prob(z).sum(), arguments)

    functions: dict[str, Callable[[], Any]] = {"priory": ours, "MixtureSameFamily": lambda: same_family(None)}
    if z.numel() * len(loc) < 2**20:  # for larger sizes the check of arguments does not matter
        functions["MixtureSameFamily unchecked"] = lambda: same_family(False)
    beside_torch = summary(interleaved(functions), "priory")
    return beside_torch | summary(interleaved({"priory": ours} | floors(*sizes)), "priory")


def forward(sizes: tuple[int, int, int]) -> dict[str, float]:
    """Compare priory, pykeops and scikit-learn."""
    z, logits, loc, log_scale = (x.detach() for x in draw_mixture(*sizes))
    log_weights, scale = torch.log_softmax(logits, -1), log_scale.exp()
    functions = {"priory": lambda: mixture_log_prob(z, log_weights, loc, scale)}
    for name, make in {"pykeops": keops, "scikit-learn": scikit_learn}.items():
        try:
            function = make(z, log_weights, loc, scale)
        except ImportError:
            print(f"{name}: not installed, skipped")
            continue
        expected = functions["priory"]().double()
        error = float((function() - expected).abs().max())
        print(f"{name}: largest difference {error:.2g} nats")
        functions[name] = function
    return summary(interleaved(functions), "priory")


def keops(z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> Callable[[], Tensor]:
    """Return the same density as a symbolic reduction in float32: -1/2 |z - loc|^2_precision + constant."""
    from pykeops.torch import LazyTensor

    constant = log_weights - scale.log().sum(-1) - 0.9189385332046727 * z.shape[-1]
    root = scale.reciprocal()

    def function() -> Tensor:
        points, centers = LazyTensor(z[:, None, :].contiguous()), LazyTensor(loc[None].contiguous())
        squares = (((points - centers) * LazyTensor(root[None].contiguous())) ** 2).sum(-1)
        return (-0.5 * squares + LazyTensor(constant[None, :, None].contiguous())).logsumexp(dim=1).squeeze(-1).double()

    return function


def scikit_learn(z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> Callable[[], Tensor]:
    """Return `GaussianMixture.score_samples` in float64, with these parameters instead of a fit."""
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(len(loc), covariance_type="diag")
    model.weights_, model.means_ = log_weights.double().exp().numpy(), loc.double().numpy()
    model.covariances_ = scale.double().square().numpy()
    model.precisions_cholesky_ = 1 / scale.double().numpy()
    x = z.double().numpy()
    return lambda: torch.from_numpy(model.score_samples(x))


def growth(num_components: int, threads: int) -> dict[str, float]:
    """Measure one forward and backward in its own process: seconds, and peak memory above inputs and gradients."""
    code = f"""
import json, time, torch
from pathlib import Path
from priory.density import mixture_log_prob
torch.set_num_threads({threads})
B, K, L = 1000, {num_components}, 40
z, loc = torch.randn(B, L, requires_grad=True), torch.randn(K, L, requires_grad=True)
scale = torch.full((K, L), 0.5, requires_grad=True)
log_weights = torch.log_softmax(torch.zeros(K), -1).requires_grad_()
arguments = (z, log_weights, loc, scale)
mixture_log_prob(*(x[:600].detach() for x in arguments))
def peak():  # ru_maxrss would start at the parent's value
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
before = peak()
start = time.perf_counter()
mixture_log_prob(*arguments).sum().backward()
seconds = time.perf_counter() - start
above = peak() - before
print(json.dumps({{"seconds": seconds, "MB": (above - sum(4 * x.grad.numel() for x in arguments)) / 1e6}}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"K": num_components, **json.loads(result.stdout)}


def many_points(threads: int) -> dict[str, float]:
    """Measure draws from 500 components in 40 dimensions, and E[u|z] on a grid of 400 nodes: seconds for a million."""
    _, logits, loc, log_scale = (x.detach() for x in draw_mixture(10, 500, 40))
    p_z = Mixture(logits, diagonal_normal(loc, log_scale.exp()))
    _, logits, loc, log_scale = (x.detach() for x in draw_mixture(10, 400, 16))
    p_u = Mixture(logits, diagonal_normal(loc, log_scale.exp()))
    points, nodes = p_u.sample((1_000_000,)), torch.randn(400, 2)
    functions = {
        "draw": lambda: p_z.sample((1_000_000,)),
        "randn": lambda: torch.randn(1_000_000, 40),
        "E[u|z]": lambda: p_u.expected_value(points, nodes),
    }
    seconds = interleaved(functions, least=3)
    return {name: round(statistics.median(values), 3) for name, values in seconds.items()}


def markdown(results: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines = [f"Made by `benchmarks/density.py` on {results['processor']}, torch {results['torch']}.", ""]
    lines += ["## Forward and backward, milliseconds", ""]
    names = ["B, K, L", "threads", "priory", "MixtureSameFamily", "times faster", "than unchecked", "floor"]
    names += ["priory / floor", "priory / blocked floor"]
    lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for r in results["forward and backward"]:
        unchecked = r.get("MixtureSameFamily unchecked / priory", "")
        lines.append(
            f"| {r['sizes']} | {r['threads']} | {r['priory ms']:.2f} | {r['MixtureSameFamily ms']:.2f} | "
            f"{r['MixtureSameFamily / priory']:.1f} | {unchecked} | {r['floor ms']:.2f} "
            f"| {1 / r['floor / priory']:.2f} | {1 / r['blocked floor / priory']:.2f} |"
        )
    lines += ["", "## Forward, milliseconds", "", "| B, K, L | threads | priory | pykeops | scikit-learn |"]
    lines += ["|---|---|---|---|---|"]
    for r in results["forward"]:
        others = [f"{r[f'{name} ms']:.2f}" if f"{name} ms" in r else "" for name in ("pykeops", "scikit-learn")]
        lines.append(f"| {r['sizes']} | {r['threads']} | {r['priory ms']:.2f} | {' | '.join(others)} |")
    lines += ["", "## Growth in K: B = 1000, L = 40, forward and backward", ""]
    lines += ["| K | threads | seconds | MB above inputs and gradients |", "|---|---|---|---|"]
    lines += [f"| {r['K']:,} | {r['threads']} | {r['seconds']:.3f} | {r['MB']:.0f} |" for r in results["growth"]]
    lines += [
        "",
        "## A million points, seconds",
        "",
        "| threads | draw, K = 500, L = 40 | torch.randn of the same size | ",
    ]
    lines[-1] += "E[u given z], K = 400, L = 16 |"
    lines += ["|---|---|---|---|"]
    lines += [f"| {r['threads']} | {r['draw']} | {r['randn']} | {r['E[u|z]']} |" for r in results["many points"]]
    return "\n".join(lines) + "\n"


def draw_growth(rows: list[dict[str, float]], path: Path) -> None:
    """Plot seconds and memory against the number of components, and a line of slope one for comparison."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2), ("seconds", "MB"), ("seconds", "MB above inputs and gradients"), strict=True
    ):
        for threads in sorted({row["threads"] for row in rows}):
            chosen = [row for row in rows if row["threads"] == threads]
            axes.plot([r["K"] for r in chosen], [max(r[name], 1e-3) for r in chosen], "o-", label=f"{threads} threads")
        axes.set(xscale="log", xlabel="components K  (B = 1000, L = 40)", ylabel=label)
        if name == "seconds":
            last = chosen[-1]
            axes.plot(
                [r["K"] for r in chosen],
                [last["seconds"] * r["K"] / last["K"] for r in chosen],
                color="0.6",
                linestyle=":",
                label="linear in K",
            )
            axes.set(yscale="log")
            axes.legend(frameon=False)
        else:
            axes.set(ylim=(0, None))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def processor() -> str:
    """Return the processor that the tables were made on."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only small sizes, as a test of the script")
    parser.add_argument("--parts", nargs="+", help="parts to run: forward and backward, forward, growth, many points")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    sizes, ks = (SIZES[:2], GROWTH[:1]) if arguments.quick else (SIZES, GROWTH)
    results: dict[str, Any] = {"processor": processor(), "torch": torch.__version__}
    parts: dict[str, Callable[[Any, int], dict[str, Any]]] = {
        "forward and backward": lambda s, threads: forward_and_backward(s) | {"sizes": ", ".join(map(str, s))},
        "forward": lambda s, threads: forward(s) | {"sizes": ", ".join(map(str, s))},
        "growth": growth,
        "many points": lambda s, threads: many_points(threads),
    }
    over = {"growth": ks, "many points": [None]}
    if arguments.parts:
        parts = {part: parts[part] for part in arguments.parts}
        results = json.loads(arguments.out.read_text())
    results |= {part: [] for part in parts}
    for part, function in parts.items():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for size in over.get(part, sizes):
                results[part].append(function(size, threads) | {"threads": threads})
                print(json.dumps({part: results[part][-1]}), flush=True)
                with replacing(arguments.out) as temporary:
                    temporary.write_text(json.dumps(results, indent=2) + "\n")
    write_results(arguments.out, results, markdown(results))
    draw_growth(results["growth"], arguments.out.with_suffix(".png"))
    print(markdown(results))


if __name__ == "__main__":
    main()
