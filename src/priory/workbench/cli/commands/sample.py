"""`priory sample`."""

from pathlib import Path

import numpy as np

from priory._support.memory import require_memory
from priory.workbench.cli.commands.opening import opened_model
from priory.workbench.cli.terminal import console
from priory.workbench.data import check_output, write_rows

SAMPLE_BYTES = 3 * 4  # bytes of a sampled number: in parts, together, and as it is written


def sample_run(path: Path, number: int, out: Path, seed: int, mean: bool, device: str) -> None:
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
