"""One VampPrior training step against its floor: the matrix products and exponentials of the same sizes, alone.

    python benchmarks/step.py [--compile] [--pythae]

Random binary rows, D = 784, K = 500, L = 40, gated 300-300 networks, one thread. The floor is that of the networks'
format; the density's products are in float32 there, and its exponentials too (the library's are in float64). All take
turns; processor time, in milliseconds. `torch.compile` takes two minutes before its first step. Results go to
`benchmarks/results/step.json`, and to `.md`.

--pythae adds the step of pythae's VAMP model (one draw) with the same networks; `benchmarks/requirements-published.txt`
installs it. Its standard Adam is that of its trainer.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from _results import RESULTS, write_results
from priory import VAE, BernoulliDecoder, NormalEncoder, VampPrior, gated_mlp
from priory.objectives import ImportanceWeighted

NUM_COLUMNS, NUM_COMPONENTS, LATENT_DIM, HIDDEN = 784, 500, 40, 300
SIZES = {"ELBO of one draw, batch 100": (100, 1), "importance-weighted bound of five, batch 250": (250, 5)}
FORMATS = {"float32": torch.float32, "bf16": torch.bfloat16}
ROUNDS = 30
PYTHAE = "float32, step of pythae"


def step_of(batch: int, draws: int, *, bf16: bool, fused: bool = True, compiled: bool = False) -> Callable[[], None]:
    """Return a training step like those of `priory.fit`, without its checks and its history."""
    torch.manual_seed(0)
    x = (torch.rand(20 * batch, NUM_COLUMNS) < 0.2).float()
    encoder = NormalEncoder(gated_mlp(NUM_COLUMNS, [HIDDEN] * 2, 2 * LATENT_DIM), (-6.0, 2.0))
    decoder = BernoulliDecoder(gated_mlp(LATENT_DIM, [HIDDEN] * 2, NUM_COLUMNS))
    vae = VAE(encoder, decoder, VampPrior.from_data(x, NUM_COMPONENTS, low=0.0, high=1.0))
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=fused, foreach=not fused)
    bound = ImportanceWeighted(num_samples=draws)

    def loss_of(rows: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return -bound(vae, rows).bound.value().mean()

    loss = torch.compile(loss_of) if compiled else loss_of

    def step() -> None:
        value = loss(x[torch.randint(len(x), (batch,))])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def pythae_step(batch: int) -> Callable[[], None]:
    """Return a step of pythae's VAMP model with gated networks of the same sizes."""
    from pythae.models import VAMP, VAMPConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = gated_mlp(NUM_COLUMNS, [HIDDEN] * 2, 2 * LATENT_DIM)

        def forward(self, x: Tensor) -> Any:
            mean, log_variance = self.network(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_variance.clamp(-6.0, 2.0))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.network = gated_mlp(LATENT_DIM, [HIDDEN] * 2, NUM_COLUMNS)

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network(z).sigmoid())

    torch.manual_seed(0)
    x = (torch.rand(20 * batch, NUM_COLUMNS) < 0.2).float()
    config = VAMPConfig(
        input_dim=(NUM_COLUMNS,), latent_dim=LATENT_DIM, number_components=NUM_COMPONENTS, reconstruction_loss="bce"
    )
    model = VAMP(config, Encoder(), Decoder())
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> None:
        loss = model({"data": x[torch.randint(len(x), (batch,))]}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def floor_of(batch: int, draws: int, dtype: torch.dtype) -> Callable[[], None]:
    """Return a function of only the matrix products (networks: `dtype`, density: float32) and all exponentials."""
    points = batch * draws
    encoder = [(NUM_COLUMNS, 2 * HIDDEN), (HIDDEN, 2 * HIDDEN), (HIDDEN, 2 * LATENT_DIM)]
    decoder = [(LATENT_DIM, 2 * HIDDEN), (HIDDEN, 2 * HIDDEN), (HIDDEN, NUM_COLUMNS)]
    products = list(_products(batch, encoder, dtype, first=False))
    products += [*_products(NUM_COMPONENTS, encoder, dtype), *_products(points, decoder, dtype)]
    features = torch.randn(points, 2 * LATENT_DIM)
    weights, joint = torch.randn(NUM_COMPONENTS, 2 * LATENT_DIM), torch.randn(points, NUM_COMPONENTS)
    products += [lambda: features @ weights.mT, lambda: joint @ weights, lambda: joint.mT @ features]
    gates = 2 * HIDDEN * (batch + NUM_COMPONENTS + points)
    squashed = NUM_COLUMNS * (NUM_COMPONENTS + 2 * points)  # pseudo-inputs; softplus of the logits and its slope
    exponents = torch.randn(gates + squashed + points * NUM_COMPONENTS)

    def floor() -> None:
        for product in products:
            product()
        torch.exp(exponents)

    return floor


def _products(
    rows: int, layers: list[tuple[int, int]], dtype: torch.dtype, *, first: bool = True
) -> Iterator[Callable[[], Any]]:
    """Yield the products of the forward pass, of the gradient of the weights, and of the input (not of the data)."""
    for number, (width_in, width_out) in enumerate(layers):
        x, weight = torch.randn(rows, width_in).to(dtype), torch.randn(width_out, width_in).to(dtype)
        gradient = torch.randn(rows, width_out).to(dtype)
        yield lambda x=x, weight=weight: x @ weight.mT
        yield lambda x=x, gradient=gradient: gradient.mT @ x
        if first or number:
            yield lambda weight=weight, gradient=gradient: gradient @ weight


def milliseconds(functions: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median time of each function; the functions are called in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(ROUNDS + 3):
        for name, function in functions.items():
            began = time.process_time()
            function()
            if number >= 3:
                times[name].append(1e3 * (time.process_time() - began))
    return {name: statistics.median(values) for name, values in times.items()}


def page(results: dict[str, dict[str, float]]) -> str:
    """Return the results in Markdown."""
    lines = ["# A VampPrior step and its floor", "", "`python benchmarks/step.py`; its first lines say how."]
    for size, times in results.items():
        pythae = times.get(PYTHAE)
        lines += ["", f"## {size}", "", "| | ms | times its floor |" + " times faster than pythae |" * bool(pythae)]
        lines += ["|---|---|---|" + "---|" * bool(pythae)]
        for name, value in times.items():
            floor = times[f"{name.partition(',')[0]}, floor"]
            faster = f" {pythae / value:.2f} |" if pythae else ""
            lines.append(f"| {name} | {value:.1f} | {value / floor:.2f} |{faster}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compile", action="store_true", help="steps by torch.compile too")
    parser.add_argument("--pythae", action="store_true", help="a step of pythae's VAMP model too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for size, (batch, draws) in SIZES.items():
        functions = {}
        for name, dtype in FORMATS.items():
            bf16 = dtype == torch.bfloat16
            functions[f"{name}, floor"] = floor_of(batch, draws, dtype)
            functions[f"{name}, step"] = step_of(batch, draws, bf16=bf16)
            functions[f"{name}, step, Adam by foreach"] = step_of(batch, draws, bf16=bf16, fused=False)
            if arguments.compile:
                functions[f"{name}, step, compiled"] = step_of(batch, draws, bf16=bf16, compiled=True)
        if arguments.pythae and draws == 1:
            functions[PYTHAE] = pythae_step(batch)
        results[size] = milliseconds(functions)
        write_results(RESULTS / "step.json", results, page(results))
    print(page(results))


if __name__ == "__main__":
    main()
