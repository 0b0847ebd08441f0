"""The rank of this process among those that train together."""

import os

# Lightning reads all of these as numbers, some of them already when it is imported.
_NUMBERS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NODEID", "SLURM_NNODES"),
)
# The variables of a process's rank and of the number of machines; Lightning starts processes on one machine only.
_LAUNCHERS = {
    "torchrun": ("RANK", "GROUP_WORLD_SIZE"),
    "SLURM": ("SLURM_PROCID", "SLURM_NNODES"),
    "Lightning": ("LOCAL_RANK", ""),
}


def process_rank() -> int:
    """Return this process's rank from its launcher, 0 without one. Only rank 0 writes, prints and evaluates.

    It is read from the environment by Lightning's rules, so it is available before anything is built:

    - torchrun (`TORCHELASTIC_RUN_ID` is set): `RANK`.
    - SLURM (`SLURM_NTASKS` is set, and the job's name is not bash or interactive): `SLURM_PROCID`. Under sbatch without
      srun, under `srun -n1` and in an interactive job there is one process, and it gets 0.
    - otherwise `LOCAL_RANK`, which Lightning's ddp sets when it starts the script again for each other device. A
      `RANK` without torchrun, which some clusters set in every container, is ignored.

    If Lightning gives the process another rank, for example when one srun starts four runs with `devices=1`, `fit` and
    `check_devices` raise an error, so no two processes write to one folder.

    Raises:
        ValueError: a launcher's variable is not a number.

    >>> process_rank()
    0
    """
    return int(os.environ.get(_LAUNCHERS[_launcher()][0], 0))


def number_of_machines() -> int:
    """Return the number of machines that torchrun or SLURM started processes on, 1 without them.

    >>> number_of_machines()
    1
    """
    return int(os.environ.get(_LAUNCHERS[_launcher()][1], 1))


def _launcher() -> str:
    environment = os.environ
    for name in _NUMBERS:
        if not environment.get(name, "0").isdecimal():
            raise ValueError(
                f"{name}: expected a whole number in the environment, as a launcher of several processes sets it, got "
                f"{environment[name]!r}; unset {name}"
            )
    if "TORCHELASTIC_RUN_ID" in environment:
        return "torchrun"
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return "SLURM"
    return "Lightning"
