"""Several processes train as one: the same steps, the same numbers, and one line if one of them is lost."""

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
def test_steps_of_several_processes_are_the_mean_over_the_rows_of_one(
    rows: int, world_size: int, batch_size: int
) -> None:
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
    return {name: value for name, value in os.environ.items() if not name.startswith(launchers)} | {
        "OMP_NUM_THREADS": "1"
    }


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


EXAMPLES = Path(__file__).parents[1] / "examples"
RUN = ("digits", "--prior", "vamp", "--components", "7", "--set", "training.shard_components=true")
RUN = (*RUN, "--set", "model.hidden=[16]", "--set", "training.ema_decay=0.9", "--set", "training.patience=null")
RUN = (*RUN, "--no-evaluate", "--no-report", "--accelerator", "cpu", "--epochs", "100", "--warmup", "20")
BEGIN = {
    "Lightning": (sys.executable, "-m", "priory", "fit", "--devices", "2", "--strategy", "ddp"),
    "torchrun": ("sh", str(EXAMPLES / "torchrun.sh")),
}
BIN = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
# Starts the tasks of a job as srun does: two machines with one task each, which are both this one.
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
    """What the command says on stderr."""
    process = start(*command, **variables)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    return said


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, torch.Tensor]:
    """The weights of the run that the tasks of a SLURM job train."""
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
def test_a_killed_process_ends_the_others_with_a_line_and_the_run_goes_on_to_the_same_bits(
    launcher: str, rank: int, tmp_path, request
) -> None:
    run = tmp_path / "run"
    process = start(*BEGIN[launcher], *RUN, "--out", run)
    deadline = time.monotonic() + 120
    while not (run / "state.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = process_ids(run)
    os.kill(workers[rank], signal.SIGKILL)
    said = process.communicate(timeout=60)[1]  # all that have its stderr have ended by then
    assert process.returncode != 0
    lines = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, said
    assert "another process of this run was killed or failed" in lines[0]
    assert f"go on with: priory fit --resume --out {run}" in lines[0]
    assert "priory/" not in said  # torchrun reports the failure itself; there is no traceback of ours
    assert not (run / "model.safetensors").exists()
    if (launcher, rank) == ("Lightning", 0):  # the others would add a minute
        finished(*BEGIN[launcher], "--resume", "--out", run)
        found = weights_of(run)
        undisturbed = request.getfixturevalue("undisturbed")
        assert all(torch.equal(found[name], value) for name, value in undisturbed.items())
        assert priory.load(run).latent_prior().num_components == 7  # of both processes
        more = ("--epochs", "102", "--set", "training.shard_components=false")  # for all processes, not the first alone
        finished(*BEGIN[launcher], "--resume", *more, "--out", run)
        assert priory.training.History.read(run / "history.csv").epochs == 102


def process_ids(run: Path) -> list[int]:
    """The processes that train the run, by rank; the later one is the second."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if str(run).encode() in words and b"torchrun" not in b" ".join(words):
            rank = next((int(each[11:]) for each in variables if each.startswith(b"LOCAL_RANK=")), 0)
            found.append((rank, int(folder.name)))
    assert [rank for rank, _ in sorted(found)] == [0, 1]
    return [process for _, process in sorted(found)]


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
def test_priors_that_cannot_be_shared_out_are_refused(prior) -> None:
    vae = priory.VAE(priory.NormalEncoder(priory.mlp(6, [4], 4)), priory.BernoulliDecoder(priory.mlp(2, [4], 6)), prior)
    with pytest.raises(ValueError, match=f"shard_components: expected a mixture .* got {type(prior).__name__}"):
        priory.fit(vae, torch.rand(9, 6).round(), epochs=1, shard_components=True)


def test_one_process_holds_all_components_whether_they_may_be_shared_out_or_not() -> None:
    results = []
    for shard_components in (False, True):
        torch.manual_seed(0)
        encoder, decoder = priory.mlp(6, [4], 4), priory.mlp(2, [4], 6)
        prior = priory.MixtureOfGaussians(2, 3)
        vae = priory.VAE(priory.NormalEncoder(encoder), priory.BernoulliDecoder(decoder), prior)
        priory.fit(vae, torch.rand(9, 6).round(), seed=0, epochs=2, shard_components=shard_components)
        results.append(vae.prior.loc)
    assert torch.equal(*results)
