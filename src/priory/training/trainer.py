"""Make, check, run and silence Lightning's trainer. Lightning is imported when training starts."""

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from priory._support.optional import require
from priory.training.batches import ShuffledBatches
from priory.training.failures import lost_processes
from priory.training.ranks import number_of_machines, process_rank
from priory.training.settings import TrainingSettings

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import Logger

SIGTERM_EXIT = 143  # 128 + 15, as a shell reports a process that SIGTERM ended
SLOW_BF16 = 3.0  # warn if bf16 products take more than this many times as long as float32 products


def check_devices(settings: TrainingSettings) -> int:
    """Return the number of processes that train with these settings. Lightning checks that the devices exist.

    Raises:
        ValueError: the devices, accelerator, strategy or precision do not exist; or a launcher started several
            processes (see `process_rank`) that these settings do not join into one run.
        ImportError: Lightning is not installed; the message names the extra.

    >>> check_devices(TrainingSettings(accelerator="cpu"))
    1
    """
    process_rank()  # raises an error if Lightning cannot read a variable
    with quiet():
        warnings.simplefilter("ignore")  # Lightning repeats its warnings when training starts
        return make_trainer(settings, []).world_size


def make_trainer(
    settings: TrainingSettings, callbacks: "Sequence[pl.Callback]", loggers: "Sequence[Logger]" = ()
) -> "pl.Trainer":
    """Make a trainer for a single device or plain ddp that writes and prints nothing itself."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    names = ("accelerator", "devices", "strategy", "precision")
    chosen = {name: getattr(settings, name) for name in names}
    described = ", ".join(f"{name}={value}" for name, value in chosen.items())
    try:
        trainer = pl.Trainer(
            max_epochs=settings.epochs,
            callbacks=list(callbacks),
            logger=list(loggers),
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            num_nodes=1 if settings.strategy == "auto" else number_of_machines(),
            **chosen,
        )
    except (MisconfigurationException, TypeError, ValueError, RuntimeError, ImportError) as error:
        raise ValueError(f"{described}: Lightning cannot train with these: {' '.join(str(error).split())}") from error
    launcher = trainer.strategy.launcher
    spawns = launcher is not None and not launcher.is_interactive_compatible and hasattr(launcher, "_start_method")
    if spawns or not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise ValueError(
            f"strategy: expected a single device or plain ddp, got {settings.strategy!r}; "
            "strategies that split the weights or train in spawned processes would lose the weights"
        )
    if trainer.global_rank != process_rank():
        raise ValueError(
            f"{described}: expected settings that join the processes of a launcher into one run, such as strategy=ddp "
            f"with devices=the number of processes; this process has rank {process_rank()} in its environment, and "
            f"rank {trainer.global_rank} with these settings; start separate runs one by one (srun -n1)"
        )
    return trainer


def warn_of_slow_bf16(settings: TrainingSettings, device: torch.device) -> None:
    """Warn if bf16 products are much slower than float32 products, as on x86 processors without AVX-512."""
    if settings.precision != "bf16-mixed" or device.type != "cpu":
        return
    ratio = seconds_of_product(torch.bfloat16) / seconds_of_product(torch.float32)
    if ratio > SLOW_BF16:
        warnings.warn(
            f"precision: bf16 matrix products take {ratio:.0f} times as long as float32 products on this processor; "
            "choose the precision 32-true",
            stacklevel=4,  # the caller of `fit`
        )


def seconds_of_product(dtype: torch.dtype) -> float:
    """Return the seconds of a product of two 256 x 256 matrices: the fastest of three, after one that warms up."""
    matrix, seconds = torch.ones(256, 256, dtype=dtype), []
    for _ in range(4):
        began = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def wait_for_all(settings: TrainingSettings) -> None:
    """Wait for all processes that torchrun or SLURM started; `fit` starts its own processes later.

    Raises:
        LostProcessError: one of the processes has ended.
    """
    from lightning.fabric.plugins.environments import LightningEnvironment

    with quiet(), lost_processes(lambda: "before its first epoch"):
        trainer = make_trainer(settings, [])
        strategy: Any = trainer.strategy
        if trainer.world_size > 1 and not isinstance(strategy.cluster_environment, LightningEnvironment):
            strategy.setup_environment()
            strategy.barrier()


def run_trainer(trainer: "pl.Trainer", module: "pl.LightningModule", batches: ShuffledBatches) -> None:
    """Run Lightning's fit. An interruption raises an exception; Lightning would end the process with code 1 or 0.

    Raises:
        LostProcessError: another process of this run has ended.
    """
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        with lost_processes(lambda: f"in epoch {batches.epoch}"):
            trainer.fit(module, batches, range(1))  # `Record` validates in one empty validation batch
    except SIGTERMException as stop:
        raise SystemExit(SIGTERM_EXIT) from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's advice on hardware and data loaders, and its advertisements, inside the block."""
    with warnings.catch_warnings():
        require("lightning.pytorch", "train", "training")
        warnings.filterwarnings("ignore", module=r"lightning\.")
        packages = ("lightning", "pytorch_lightning")
        names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in packages]
        loggers = [logging.getLogger(name) for name in names]
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
