"""`fit`: a VAE, rows and settings in; trained weights and a history out."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from priory.locking import sole_writer
from priory.training.batches import ShuffledBatches, Source, as_source, draws_anew
from priory.training.history import History
from priory.training.ranks import process_rank
from priory.training.settings import TrainingSettings
from priory.training.states import read_state
from priory.vae import VAE

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from priory.training.callbacks import Record

HISTORY_FILE = "history.csv"
STATE_FILE = "state.safetensors"
STATE_PARTS = frozenset(
    ("identity", "finished", "progress", "history", "selection", "vae", "best", "optimizer",
     "schedulers", "precision", "random")
)  # fmt: skip
TENSORBOARD_FOLDER = "tensorboard"
SIGTERM_EXIT = 143  # 128 + 15, as a shell reports a process that SIGTERM ended


def fit(
    vae: VAE,
    train: Tensor | Source,
    valid: Tensor | Source | None = None,
    *,
    settings: TrainingSettings | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    tensorboard: bool = False,
    **overrides: Any,
) -> History:
    """Trains a VAE in place by maximising the evidence lower bound, with a KL warm-up.

        loss_t = -mean_n (reconstruction_n - beta_t * kl_n),    beta_t = min(1, t / W)    (see `TrainingSettings`)

    Afterwards the VAE holds the weights of the epoch with the best validation ELBO after the warm-up (the last weights
    where there is no validation), is in evaluation mode and on the device that it came from.

    Args:
        vae: the model.
        train: training rows, a float tensor (N, D), or an object with `__len__` and `batch(positions)` that gives
            values and row numbers. Where it has a true attribute `dynamic_binarisation`, its values are means, and each
            time a row is seen it is drawn anew from Bernoulli(mean).
        valid: validation rows, likewise, used as they are.
        settings: how to train; the defaults of `TrainingSettings` otherwise.
        seed: seeds torch's global generator, which all noise comes from, and the order of the rows. Same seed, same
            machine, one thread: same result to the last bit. None draws from the global generator as it is.
        out: folder for history.csv, the state to resume from and TensorBoard's events; None writes nothing. Of
            several processes (`training.devices`) all call `fit`, and rank 0 alone writes: see `process_rank`.
        resume: continue the run in `out` from its last completed epoch, to the same result as without the interruption;
            begin where there is none yet; return at once where it is finished. The kind of device may have changed, the
            number of processes not. `epochs` may have been raised where the schedule is constant and the warm-up a
            number of steps: the result is that of a run which was as long from its start.
        progress: show a progress bar.
        tensorboard: write the history for TensorBoard too (needs the extra `tensorboard`).
        **overrides: single settings, `epochs=20`.

    Returns:
        One row per epoch, ELBO terms in nats.

    Raises:
        NonFiniteLossError: the loss or its gradient became NaN or infinite; what was written so far stays.
        FileExistsError: `out` holds a run and `resume` is False.
        BlockingIOError: another process is writing to `out`.
        ValueError: the state in `out` is damaged, or belongs to a run with other settings; settings are out of range;
            this machine has no such devices.
        ModuleNotFoundError: Lightning, or TensorBoard where it is asked for, is not installed; the message names the
            extra.

    Reference: Kingma & Welling 2014, arXiv:1312.6114, algorithm 1; Sonderby et al. 2016, arXiv:1602.02282.

    >>> from priory.training import fit
    >>> history = fit(vae, x_train, x_valid, seed=0, epochs=20)  # doctest: +SKIP
    >>> history["valid_elbo"][history.best_epoch]  # doctest: +SKIP
    -21.3
    """
    chosen = _merged(settings, overrides)
    train_rows = as_source(train, "train")
    valid_rows = None if valid is None else as_source(valid, "valid")
    folder = _folder(out, resume=resume, tensorboard=tensorboard)
    with _held(folder, make=False):
        state = stored_state(folder / STATE_FILE) if folder and resume else None
        identity = _identity(chosen, seed, train_rows, valid_rows)
        if state is not None:
            _check_same_run(state["identity"], identity, folder / STATE_FILE if folder else None)
            identity["order_seed"] = state["identity"]["order_seed"]
            _load(vae, state["vae"], "the state's weights do not fit this VAE")
            if _is_finished(state, chosen):
                return _finish(vae, _written_again(state, chosen, folder), state["best"])
        identity["processes"] = _number_of_processes(chosen)
        if folder is not None and state is not None:
            _check_same_processes(state["identity"], identity, folder / STATE_FILE)
        identity.setdefault("order_seed", _order_seed(seed))
        with _held(folder, make=True), _quiet():
            record = _train(
                vae, train_rows, valid_rows, chosen, identity, folder, state, progress=progress, tensorboard=tensorboard
            )
    return _finish(vae, record.history, record.best)


def _held(folder: Path | None, *, make: bool) -> AbstractContextManager[None]:
    """The folder held by the process that writes, once it is there."""
    if folder is None or process_rank() > 0 or not (make or folder.exists()):
        return nullcontext()
    return sole_writer(folder)


def check_devices(settings: TrainingSettings) -> None:
    """Asks Lightning, without a word printed, for the devices that these settings train on; nothing is kept.

    Raises:
        ValueError: there are no such devices, or no such accelerator, strategy or precision; or a launcher started
            several processes (see `process_rank`) that these settings do not join to one run.
        ModuleNotFoundError: Lightning is not installed; the message names the extra.

    >>> check_devices(TrainingSettings(accelerator="cpu"))
    """
    _number_of_processes(settings)


def _number_of_processes(settings: TrainingSettings) -> int:
    with _quiet():
        warnings.simplefilter("ignore")  # what Lightning has to say it says when training begins
        return _trainer(settings, 1, []).world_size


def _train(
    vae: VAE,
    train: Source,
    valid: Source | None,
    settings: TrainingSettings,
    identity: Mapping[str, Any],
    folder: Path | None,
    state: Mapping[str, Any] | None,
    *,
    progress: bool,
    tensorboard: bool,
) -> "Record":
    _require_lightning()
    from priory.training.callbacks import ProgressBar, Record
    from priory.training.module import Training

    record = Record(
        valid,
        patience=settings.patience,
        identity=identity,
        seed=identity["seed"],
        history_path=folder and folder / HISTORY_FILE,
        state_path=folder and folder / STATE_FILE,
        state=state,
        tensorboard=_tensorboard_logger(folder) if tensorboard and folder and process_rank() == 0 else None,
    )
    batches = ShuffledBatches(train, settings.batch_size, identity["order_seed"])
    module = Training(vae, batches, settings, dynamic_binarisation=draws_anew(train))
    done = state["progress"]["epoch"] if state else 0
    trainer = _trainer(settings, settings.epochs - done, [record, *([ProgressBar(record)] if progress else [])])
    device = next(vae.parameters()).device
    vae.train()
    try:
        _run(trainer, module, batches)
    finally:
        vae.to(device)
        if record.tensorboard is not None:
            record.tensorboard.finalize("finished")
    return record


def _trainer(settings: TrainingSettings, epochs: int, callbacks: "list[pl.Callback]") -> "pl.Trainer":
    import lightning.pytorch as pl
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
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
    launcher = trainer.strategy.launcher
    spawns = launcher is not None and not launcher.is_interactive_compatible and hasattr(launcher, "_start_method")
    if spawns or not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise ValueError(
            f"training.strategy: expected a single device or plain ddp, got {settings.strategy!r}; "
            "strategies that split the weights, or train in a spawned copy, would lose them"
        )
    if trainer.global_rank != process_rank():
        raise ValueError(
            f"{_devices(settings)}: expected settings that join the processes of a launcher to one run, such as "
            f"training.strategy=ddp with training.devices their number; this process is number {process_rank()} in its "
            f"environment, and number {trainer.global_rank} with these; start separate runs one by one (srun -n1)"
        )
    return trainer


def _devices(settings: TrainingSettings) -> str:
    names = ("accelerator", "devices", "strategy", "precision")
    return ", ".join(f"training.{name}={getattr(settings, name)}" for name in names)


def _run(trainer: "pl.Trainer", module: "pl.LightningModule", batches: ShuffledBatches) -> None:
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


def _finish(vae: VAE, history: History, best: Mapping[str, Tensor] | None) -> History:
    if best is not None:
        vae.load_state_dict(best)
    vae.eval()
    return history


def _merged(settings: TrainingSettings | None, overrides: Mapping[str, Any]) -> TrainingSettings:
    given = {} if settings is None else settings.model_dump()
    return TrainingSettings(**(given | dict(overrides)))


def _folder(out: str | Path | None, *, resume: bool, tensorboard: bool) -> Path | None:
    if out is None:
        if resume or tensorboard:
            raise ValueError(f"{'resume' if resume else 'tensorboard'}: expected out=, the run's folder; got None")
        return None
    if tensorboard:
        _require_tensorboard()
    folder = Path(out)
    if resume or process_rank() > 0:  # rank 0 looked before it started the others, and may have written since
        return folder
    for name in (STATE_FILE, HISTORY_FILE):
        if (folder / name).exists():
            raise FileExistsError(
                f"{folder / name} exists: the folder holds a run already; "
                "continue it with resume=True, or choose another"
            )
    return folder


# the same run, or another


def stored_state(path: Path) -> dict[str, Any] | None:
    """What a run resumes from; None where there is nothing yet.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    if not path.exists():
        return None
    state = read_state(path)
    if missing := sorted(STATE_PARTS - state.keys()):
        raise ValueError(
            f"{path}: the training state is damaged (it lacks {', '.join(missing)}); remove it to train from the "
            "beginning"
        )
    return state


def _identity(settings: TrainingSettings, seed: int | None, train: Source, valid: Source | None) -> dict[str, Any]:
    rows = {"train": len(train), "valid": None if valid is None else len(valid)}
    return {"settings": settings.model_dump(), "seed": seed, "rows": rows}


def _order_seed(seed: int | None) -> int:
    return seed if seed is not None else int(torch.randint(2**62, ()))


def _check_same_run(old: Mapping[str, Any], new: dict[str, Any], path: Path | None) -> None:
    """Refuses to continue a run as another one; a seed that is not given is the old one."""
    if new["seed"] is None:
        new["seed"] = old["seed"]
    was, now = ({**run["settings"], "seed": run["seed"], **_row_fields(run)} for run in (old, new))
    for name in ("accelerator", "devices", "strategy"):  # the number of processes counts: `_check_same_processes`
        del was[name], now[name]
    if now["epochs"] > was["epochs"] and TrainingSettings(**new["settings"]).independent_of_epochs():
        was["epochs"] = now["epochs"]
    different = [f"{name} (was {was[name]!r}, is {now[name]!r})" for name in now if was.get(name) != now[name]]
    if different:
        hint = ""
        if was["epochs"] != now["epochs"]:
            hint = "; epochs can be raised where the schedule is constant and the warm-up a number of steps, else not"
        raise ValueError(f"resume: {path} belongs to a run with other settings: {', '.join(different)}{hint}")


def _check_same_processes(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    was, now = old.get("processes", 1), new["processes"]
    if was != now:
        raise ValueError(
            f"resume: {path} belongs to a run of {was} process(es), and training.devices and training.strategy give "
            f"{now} here; expected the same number, because a step is training.batch_size rows on each"
        )


def _row_fields(run: Mapping[str, Any]) -> dict[str, Any]:
    return {f"number of {name} rows": number for name, number in run["rows"].items()}


def _is_finished(state: Mapping[str, Any], settings: TrainingSettings) -> bool:
    return state["finished"] and (state["selection"]["stop"] or state["progress"]["epoch"] >= settings.epochs)


def _written_again(state: Mapping[str, Any], settings: TrainingSettings, folder: Path | None) -> History:
    """The history of a finished run; its file, unlike the state's, need not have survived a power cut."""
    history = History(state["history"], stopped_early=state["progress"]["epoch"] < settings.epochs)
    if folder is not None and process_rank() == 0:
        history.write(folder / HISTORY_FILE)
    return history


def _load(vae: VAE, weights: Mapping[str, Tensor], problem: str) -> None:
    try:
        vae.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"resume: {problem}: {error}") from error


# Lightning


def _require_lightning() -> None:
    try:
        import lightning.pytorch  # noqa: F401
    except ModuleNotFoundError as error:
        message = f"training needs {error.name}; install it with: pip install 'priory[all]'"
        raise ModuleNotFoundError(message, name=error.name) from error


def _require_tensorboard() -> None:
    if importlib.util.find_spec("tensorboard") is None:
        message = "tensorboard=True needs tensorboard; install it with: pip install 'priory[tensorboard]'"
        raise ModuleNotFoundError(message, name="tensorboard")


def _tensorboard_logger(folder: Path) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=folder, name=TENSORBOARD_FOLDER, version="")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice on hardware, loaders and its makers' products; everything is put back afterwards."""
    with warnings.catch_warnings():
        _require_lightning()
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
