"""Lightning's trainer: what it must be, made, run, and kept from talking; imported when training starts."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from priory.training.batches import ShuffledBatches
from priory.training.ranks import process_rank
from priory.training.settings import TrainingSettings

if TYPE_CHECKING:
    import lightning.pytorch as pl

SIGTERM_EXIT = 143  # 128 + 15, as a shell reports a process that SIGTERM ended
TENSORBOARD_FOLDER = "tensorboard"


def check_devices(settings: TrainingSettings) -> None:
    """Asks Lightning, without a word printed, for the devices that these settings train on; nothing is kept.

    Raises:
        ValueError: there are no such devices, or no such accelerator, strategy or precision; or a launcher started
            several processes (see `process_rank`) that these settings do not join to one run.
        ModuleNotFoundError: Lightning is not installed; the message names the extra.

    >>> check_devices(TrainingSettings(accelerator="cpu"))
    """
    number_of_processes(settings)


def number_of_processes(settings: TrainingSettings) -> int:
    """How many processes train together with these settings; raises what `check_devices` does."""
    with quiet():
        warnings.simplefilter("ignore")  # what Lightning has to say it says when training begins
        return make_trainer(settings, 1, []).world_size


def make_trainer(settings: TrainingSettings, epochs: int, callbacks: "list[pl.Callback]") -> "pl.Trainer":
    """Lightning's trainer for a single device or plain ddp, which writes and prints nothing itself.

    Raises:
        ValueError: what `check_devices` says.
    """
    import lightning.pytorch as pl
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    try:
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator=settings.accelerator,
            devices=settings.devices,
            strategy=settings.strategy,
            precision=settings.precision,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except (MisconfigurationException, TypeError, ValueError, RuntimeError, ImportError) as error:
        raise ValueError(
            f"{_devices(settings)}: Lightning cannot train with these: {' '.join(str(error).split())}"
        ) from error
    _check_trainer(trainer, settings)
    return trainer


def _check_trainer(trainer: "pl.Trainer", settings: TrainingSettings) -> None:
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

    launcher = trainer.strategy.launcher
    spawns = launcher is not None and not launcher.is_interactive_compatible and hasattr(launcher, "_start_method")
    if spawns or not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise ValueError(
            f"strategy: expected a single device or plain ddp, got {settings.strategy!r}; "
            "strategies that split the weights, or train in a spawned copy, would lose them"
        )
    if trainer.global_rank != process_rank():
        raise ValueError(
            f"{_devices(settings)}: expected settings that join the processes of a launcher to one run, such as "
            f"strategy='ddp' with devices their number; this process is number {process_rank()} in its "
            f"environment, and number {trainer.global_rank} with these; start separate runs one by one (srun -n1)"
        )


def _devices(settings: TrainingSettings) -> str:
    names = ("accelerator", "devices", "strategy", "precision")
    return ", ".join(f"{name}={getattr(settings, name)}" for name in names)


def run_trainer(trainer: "pl.Trainer", module: "pl.LightningModule", batches: ShuffledBatches) -> None:
    """Lightning's fit; it ends a process that is interrupted, with code 1 or 0, where the caller should decide."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        trainer.fit(module, batches)
    except SIGTERMException as stop:
        raise SystemExit(SIGTERM_EXIT) from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise


def require_lightning() -> None:
    """Say which extra is missing where Lightning is."""
    try:
        import lightning.pytorch  # noqa: F401
    except ModuleNotFoundError as error:
        message = f"training needs {error.name}; install it with: pip install 'priory[all]'"
        raise ModuleNotFoundError(message, name=error.name) from error


def require_tensorboard() -> None:
    """Say which extra is missing where TensorBoard is."""
    if importlib.util.find_spec("tensorboard") is None:
        message = "tensorboard=True needs tensorboard; install it with: pip install 'priory[tensorboard]'"
        raise ModuleNotFoundError(message, name="tensorboard")


def tensorboard_logger(folder: Path) -> Any:
    """What writes TensorBoard's events into a run folder."""
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=folder, name=TENSORBOARD_FOLDER, version="")


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's advice on hardware, loaders and its makers' products; everything is put back afterwards."""
    with warnings.catch_warnings():
        require_lightning()
        warnings.filterwarnings("ignore", module=r"lightning\.")
        loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if _is_lightning(name)]
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _is_lightning(name: str) -> bool:
    return name.split(".")[0] in ("lightning", "pytorch_lightning")
