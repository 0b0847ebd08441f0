"""Training on several processes, with components of a VampPrior divided among them: cost of K, and rows per second.

`measure()` returns the curves. Each point is trained in its own processes, with one thread each, by gloo on one
machine. The VAE has 50 columns, one hidden layer of 64 and L = 16; a step has 128 rows on all processes together.
Seconds are medians of the steps after the first, of the clock and of the processor (which a busy machine changes less).
Megabytes are the largest peak of a process's resident memory, including about 400 MB of Python, torch and Lightning.

    python benchmarks/_scale_ranks.py        # all points, to benchmarks/results/scale_ranks.json
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

import priory
from priory.training import fit, process_rank

COLUMNS, HIDDEN, LATENTS, ROWS = 50, 64, 16, 128
COMPONENTS = (10**4, 10**5, 10**6)
STEPS = {10**4: 20, 10**5: 8, 10**6: 4}


class Clock(pl.Callback):
    """Record the seconds of each step: of the clock, and of the processor."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.began = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.steps.append((time.perf_counter() - self.began[0], time.process_time() - self.began[1]))


def train(ranks: int, components: int, rows: int, steps: int, hidden: int) -> dict[str, float]:
    """Train on one of `ranks` processes, and return the seconds of a step and the megabytes of this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(rows * steps, COLUMNS)
    encoder = priory.NormalEncoder(priory.mlp(COLUMNS, [hidden], 2 * LATENTS))
    decoder = priory.GaussianDecoder(priory.mlp(LATENTS, [hidden], COLUMNS))
    clock = Clock()
    distributed = {"devices": ranks, "strategy": "ddp", "shard_components": True} if ranks > 1 else {}
    vae = priory.VAE(encoder, decoder, priory.VampPrior(torch.randn(components, COLUMNS)))
    fit(vae, x, epochs=1, batch_size=rows // ranks, accelerator="cpu", callbacks=clock, **distributed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds, processor = map(statistics.median, zip(*clock.steps[1:], strict=True))
    return {"seconds": seconds, "processor_seconds": processor, "megabytes": peak}


def in_processes(ranks: int, **point: int) -> dict[str, Any]:
    """Train a point in new processes."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder, json.dumps(point | {"ranks": ranks})]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, __file__, *arguments], check=True, env=environment)
        files = [Path(folder) / f"{rank}.json" for rank in range(ranks)]
        while not all(file.exists() for file in files):
            time.sleep(0.1)
        results = [json.loads(file.read_text()) for file in files]
    return {"ranks": ranks, **point} | {name: max(each[name] for each in results) for name in results[0]}


def measure() -> dict[str, Any]:
    """Return curves over K, and over the rows of a step for a larger network, on one and two processes."""
    components = [
        in_processes(ranks, components=number, rows=ROWS, steps=STEPS[number], hidden=HIDDEN)
        for number in COMPONENTS
        for ranks in (1, 2)
    ]
    throughput = [
        in_processes(ranks, components=500, rows=rows, steps=20, hidden=1024)
        for rows in (256, 1024, 4096)
        for ranks in (1, 2)
    ]
    for point in throughput:
        point["rows_per_second"] = point["rows"] / point["seconds"]
    return {"torch": torch.__version__, "components": components, "throughput": throughput}


if __name__ == "__main__":
    if len(sys.argv) == 1:
        curves = measure()
        target = Path(__file__).parent / "results" / "scale_ranks.json"
        target.write_text(json.dumps(curves, indent=2) + "\n", encoding="utf-8")
    else:
        result = train(**json.loads(sys.argv[2]))
        (Path(sys.argv[1]) / f"{process_rank()}.json").write_text(json.dumps(result))
