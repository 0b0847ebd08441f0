"""Training on several processes: same results as on one, and an error of one line if a process is killed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import priory
from priory.rows import TensorRows
from priory.training.batches import ShuffledBatches

pytest.importorskip("lightning")
SCRIPT = Path(__file__).with_name("ranks_script.py")


@pytest.mark.parametrize(("rows", "world_size", "batch_size"), [(37, 2, 8), (33, 2, 8), (1, 4, 5), (9, 4, 2)])
def test_steps_of_several_processes_equal_the_mean_over_all_rows(rows: int, world_size: int, batch_size: int) -> None:
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
    """Return the environment variables without those of a launcher."""
    launchers = ("SLURM", "TORCHELASTIC", "MASTER_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")
    return {name: value for name, value in os.environ.items() if not name.startswith(launchers)} | {
        "OMP_NUM_THREADS": "1"
    }


def flat(tree) -> list[float]:
    return [x for value in tree.values() for x in value]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> list:
    """Return the results of `ranks_script` on one process, and on each of two."""
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
def test_two_processes_train_like_one(trained) -> None:
    one, *two = trained
    for name, expected in one.items():
        for rank in two:
            result = rank[name]
            assert flat(result["weights"]) == pytest.approx(flat(expected["weights"]), abs=1e-10), name
            assert flat(result["history"]) == pytest.approx(flat(expected["history"]), abs=1e-8, nan_ok=True), name
            assert result["stopped"] == expected["stopped"], name


EXAMPLES = Path(__file__).parents[1] / "examples"
RUN = ("digits", "--prior", "vamp", "--components", "7", "--set", "training.shard_components=true")
RUN = (*RUN, "--set", "model.hidden=[16]", "--set", "training.ema_decay=0.9", "--set", "training.patience=null")
RUN = (*RUN, "--no-evaluate", "--no-report", "--accelerator", "cpu", "--epochs", "100", "--warmup", "20")
BEGIN = {
    "Lightning": (sys.executable, "-m", "priory", "fit", "--devices", "2", "--strategy", "ddp"),
    "torchrun": ("sh", str(EXAMPLES / "torchrun.sh")),
}
BIN = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
# Starts the tasks of a job like srun: two tasks, whose two machines are both this one.
SRUN = """#!/bin/sh
shift
SLURM_PROCID=1 SLURM_NODEID=1 "$@" &
SLURM_PROCID=0 SLURM_NODEID=0 "$@" || exit
wait $!
"""
JOB = {"SLURM_JOB_NAME": "priory", "SLURM_JOB_ID": "4321", "SLURM_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}
JOB |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}


def start(*command: object, **variables: str) -> subprocess.Popen:
    everything = environment() | {"PATH": BIN} | variables
    words = list(map(str, command))
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=everything)


def finished(*command: object, **variables: str) -> str:
    """Run a command that must succeed; return its stderr."""
    process = start(*command, **variables)
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 0, errors
    return errors


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, torch.Tensor]:
    """Train a run as a SLURM job of two tasks; return its weights."""
    folder = tmp_path_factory.mktemp("undisturbed")
    srun = folder / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    path = {"PATH": os.pathsep.join((str(folder), BIN))}
    finished("bash", EXAMPLES / "slurm.sbatch", *RUN, "--out", folder / "run", **JOB, **path)
    return weights_of(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("launcher", BEGIN)
def test_a_killed_process_ends_the_others_with_one_line_and_the_run_can_be_resumed(
    launcher: str, rank: int, tmp_path, request
) -> None:
    run = tmp_path / "run"
    process = start(*BEGIN[launcher], *RUN, "--out", run)
    deadline = time.monotonic() + 120
    while not (run / "state.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = process_ids(run)
    os.kill(workers[rank], signal.SIGKILL)
    errors = process.communicate(timeout=60)[1]  # ends when all processes with this stderr have ended
    assert process.returncode != 0
    lines = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, errors
    assert "another process of this run was killed or failed" in lines[0]
    assert f"go on with: priory fit --resume --out {run}" in lines[0]
    assert "priory/" not in errors  # no traceback of this package; torchrun reports the failure itself
    assert not (run / "model.safetensors").exists()
    if (launcher, rank) == ("Lightning", 0):  # the other cases would take another minute
        finished(*BEGIN[launcher], "--resume", "--out", run)
        resumed = weights_of(run)
        undisturbed = request.getfixturevalue("undisturbed")
        assert all(torch.equal(resumed[name], value) for name, value in undisturbed.items())
        assert priory.load(run).latent_prior().num_components == 7  # components of both processes
        more = (
            "--epochs",
            "102",
            "--set",
            "training.shard_components=false",
        )  # applies to all processes, not only to the first
        finished(*BEGIN[launcher], "--resume", *more, "--out", run)
        assert priory.training.History.read(run / "history.csv").epochs == 102


def process_ids(run: Path) -> list[int]:
    """Return the ids of the processes that train the run, by rank."""
    processes = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if str(run).encode() in words and b"torchrun" not in b" ".join(words):
            rank = next((int(each[11:]) for each in variables if each.startswith(b"LOCAL_RANK=")), 0)
            processes.append((rank, int(folder.name)))
    assert [rank for rank, _ in sorted(processes)] == [0, 1]
    return [process for _, process in sorted(processes)]


@pytest.mark.parametrize(
    "prior",
    [
        priory.StandardNormal(2),
        priory.VampPriorMixture(torch.rand(3, 6), latent_dim=2),
        priory.ExemplarPrior(2),
        priory.GTMPrior(2, priory.latent_grid(3), priory.mlp(2, [4], 4)),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_priors_whose_components_cannot_be_split_are_refused(prior) -> None:
    vae = priory.VAE(priory.NormalEncoder(priory.mlp(6, [4], 4)), priory.BernoulliDecoder(priory.mlp(2, [4], 6)), prior)
    with pytest.raises(ValueError, match=f"shard_components: expected a mixture .* got {type(prior).__name__}"):
        priory.fit(vae, torch.rand(9, 6).round(), epochs=1, shard_components=True)


def test_shard_components_changes_nothing_on_one_process() -> None:
    results = []
    for shard_components in (False, True):
        torch.manual_seed(0)
        encoder, decoder = priory.mlp(6, [4], 4), priory.mlp(2, [4], 6)
        prior = priory.MixtureOfGaussians(2, 3)
        vae = priory.VAE(priory.NormalEncoder(encoder), priory.BernoulliDecoder(decoder), prior)
        priory.fit(vae, torch.rand(9, 6).round(), seed=0, epochs=2, shard_components=shard_components)
        results.append(vae.prior.loc)
    assert torch.equal(*results)
