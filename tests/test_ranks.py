"""Several processes train as one: the same steps, the same numbers, and one line if one of them is lost."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from priory.rows import TensorRows
from priory.training.batches import ShuffledBatches

pytest.importorskip("lightning")
SCRIPT = Path(__file__).with_name("ranks_script.py")


@pytest.mark.parametrize(("rows", "world_size", "batch_size"), [(37, 2, 8), (33, 2, 8), (1, 4, 5), (9, 4, 2), (16, 2, 8)])
def test_steps_of_several_processes_are_the_mean_over_the_rows_of_one(rows: int, world_size: int, batch_size: int) -> None:
    values = torch.rand(rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = ShuffledBatches(TensorRows(values.unsqueeze(-1)), batch_size * world_size, seed=1)
    ranks = [ShuffledBatches(whole.rows, batch_size, seed=1) for _ in range(world_size)]
    for rank, batches in enumerate(ranks):
        batches.rank, batches.world_size = rank, world_size
    for step, (one, *several) in enumerate(zip(whole, *ranks, strict=True)):
        shares = [batches.share(step) for batches in ranks]
        assert len({len(x) for x, _, _ in several}) == 1  # all have a batch to compute
        counted = [numbers[: share.own] for (_, numbers, _), share in zip(several, shares, strict=True)]
        assert torch.equal(torch.cat(counted).sort().values, one[1].sort().values)
        means = [share.weight * share.counted(x).mean() for (x, _, _), share in zip(several, shares, strict=True)]
        assert float(torch.stack(means).mean()) == pytest.approx(float(one[0].mean()), abs=1e-15)
    assert step == math.ceil(rows / (batch_size * world_size)) - 1


def environment() -> dict[str, str]:
    """Of a process without a launcher's variables."""
    launchers = ("SLURM", "TORCHELASTIC", "MASTER_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")
    return {name: value for name, value in os.environ.items() if not name.startswith(launchers)} | {"OMP_NUM_THREADS": "1"}


def flat(tree) -> list[float]:
    return [x for value in tree.values() for x in value]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> list:
    """The results of `ranks_script` on one process, and on each of two."""
    out = tmp_path_factory.mktemp("ranks")
    for processes in (1, 2):
        command = [sys.executable, str(SCRIPT), str(out), str(processes)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment())
        assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 30
    while not (out / "2.1.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return [json.loads((out / f"{name}.json").read_text()) for name in ("1.0", "2.0", "2.1")]


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(trained) -> None:
    one, *two = trained
    for name, expected in one.items():
        for rank in two:
            found = rank[name]
            assert flat(found["weights"]) == pytest.approx(flat(expected["weights"]), abs=1e-10), name
            assert flat(found["history"]) == pytest.approx(flat(expected["history"]), abs=1e-8, nan_ok=True), name
            assert found["stopped"] == expected["stopped"], name
