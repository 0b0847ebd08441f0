"""Rows that stay in their files: loss by size of the buffer, rows per second, memory by number of rows.

python benchmarks/_scale_stream.py benchmarks/results/scale_stream.json
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from pyarrow import parquet

from priory import VAE, GaussianDecoder, NormalEncoder, VampPrior, evaluate, fit, mlp
from priory.rows import as_rows
from priory.training.batches import ShuffledBatches

COLUMNS, CLASSES = 50, 10
SORTED_ROWS, GROUP, SEEDS = 20_000, 250, (0, 1)
BUFFERS = (250, 1000, 4000)
SIZES = (10**5, 10**6, 10**7)
PEAK_OF_A_CHILD = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def mixture(rows: int, seed: int, dtype: str = "float64") -> np.ndarray:
    """Draw rows sorted by class: the worst case for windows of blocks."""
    generator = np.random.default_rng(seed)
    centers = 2 * np.random.default_rng(0).normal(size=(CLASSES, COLUMNS))
    return (np.repeat(centers, rows // CLASSES, axis=0) + generator.standard_normal((rows, COLUMNS))).astype(dtype)


def write_shards(folder: Path, rows: int, group: int, files: int = 10) -> None:
    folder.mkdir()
    for number in range(files):
        x = mixture(rows // files, number + 1) if files > 1 else mixture(rows, 1)
        columns = {f"x{i}": column for i, column in enumerate(x.T)}
        parquet.write_table(
            pyarrow.table(columns), folder / f"{number}.parquet", row_group_size=group, compression="none"
        )


def model(seed: int) -> VAE:
    torch.manual_seed(seed)
    encoder, decoder = NormalEncoder(mlp(COLUMNS, [64], 8)), GaussianDecoder(mlp(4, [64], COLUMNS))
    return VAE(encoder, decoder, VampPrior(torch.randn(20, COLUMNS)))


def loss_by_buffer(folder: Path) -> list[dict[str, Any]]:
    """Return the test NLL after three epochs on rows sorted by class, in nats, for each buffer and in memory (None)."""
    write_shards(folder / "sorted", SORTED_ROWS, GROUP, files=1)
    test = torch.from_numpy(mixture(500, 99, "float32"))
    results = []
    for buffer in (*BUFFERS, None):
        losses = []
        for seed in SEEDS:
            vae = model(seed)
            fit(vae, folder / "sorted", seed=seed, epochs=3, shuffle_buffer=buffer or SORTED_ROWS)
            losses.append(evaluate(vae, test, num_samples=64)["nll"].value)
        results.append({"buffer": buffer, "blocks": (buffer or SORTED_ROWS) // GROUP, "nll": losses})
        print(results[-1], flush=True)
    return results


def speed(folder: Path) -> list[dict[str, Any]]:
    """Measure rows per second in batches of 100, for shuffled reading and for training, from shards and from memory."""
    shards = folder / "speed"
    write_shards(shards, 200_000, 20_000)
    in_memory = torch.cat([x for x, _ in as_rows(shards, "x").batches(10_000)]).float()
    results = []
    for name, source in (("shards", shards), ("memory", in_memory)):
        began = time.perf_counter()
        batches = ShuffledBatches(as_rows(source, "x"), 100, seed=0, shuffle_buffer=50_000)
        rows = sum(len(x) for x, _, _ in batches)
        read = rows / (time.perf_counter() - began)
        history = fit(model(0), source, seed=0, epochs=1, shuffle_buffer=50_000)
        results.append({"source": name, "read": read, "trained": rows / history["seconds"][0]})
        print(results[-1], flush=True)
    return results


def memory(folder: Path) -> list[dict[str, Any]]:
    """Measure `priory fit` in its own process: memory and seconds of one epoch in batches of 10 000, with pictures."""
    results = []
    for rows in SIZES:
        shards, out = folder / f"rows{rows}", folder / f"run{rows}"
        write_shards(shards, rows, min(100_000, rows // 10))
        command = [sys.executable, "-m", "priory", "fit", f"{shards}/*.parquet", "--out", str(out)]
        options = ["--stream", "yes", "--latent-dim", "2", "--epochs", "1", "--batch-size", "10000"]
        began = time.perf_counter()
        # Linux counts the memory of the parent in the peak of its child, so a small process starts the command.
        parent = [sys.executable, "-c", PEAK_OF_A_CHILD, *command, *options, "--no-evaluate", "--no-report"]
        kilobytes = int(subprocess.run(parent, check=True, capture_output=True, text=True).stdout.split()[-1])
        megabytes, seconds = kilobytes * 1024 / 1e6, time.perf_counter() - began
        results.append({"rows": rows, "megabytes": megabytes, "seconds": seconds})
        print(results[-1], flush=True)
        for file in shards.iterdir():
            file.unlink()
    return results


def measure() -> dict[str, Any]:
    """Return all curves."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        return {part.__name__: part(Path(folder)) for part in (memory, loss_by_buffer, speed)}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(measure(), indent=1) + "\n")
