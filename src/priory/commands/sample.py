"""`priory sample`."""

from pathlib import Path

import numpy as np

from priory.commands.opening import opened_model
from priory.datasets import check_output, write_rows
from priory.memory import require_memory
from priory.terminal import console

SAMPLE_BYTES = 3 * 4  # bytes of a sampled number: in parts, together, and as it is written


def sample_run(path: Path, number: int, out: Path, seed: int, mean: bool, device: str) -> None:
    """`priory sample`."""
    check_output(out)
    run, model, jobs = opened_model(path, device)
    require_memory(SAMPLE_BYTES * number * len(run.columns), f"-n {number}: {number} samples", "take fewer at a time")
    x = run.restored(jobs.sample(model, number, seed, mean)).numpy()
    ids = np.array([f"sample-{i}" for i in range(number)])
    if out.suffix == ".npz":
        write_rows(out, ids=ids, columns={}, arrays={"x": x})
    else:
        write_rows(out, ids=ids, columns=dict(zip(run.columns, x.T, strict=True)))
    console.print(f"{number} samples: {out}")
