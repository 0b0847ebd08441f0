"""`fit`: train a model on rows."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from priory._support.locking import sole_writer
from priory._support.messages import first_few, shortened
from priory._support.optional import require
from priory._support.settings import settings_from
from priory.model import AnyModel, device_of, given
from priory.objectives import Elbo, Objective
from priory.rows import Rows, RowsLike, as_rows, context_at
from priory.training.batches import ShuffledBatches
from priory.training.exemplars import exemplars_attached, require_own_exemplars
from priory.training.history import HISTORY_FILE, History
from priory.training.identity import check_same_processes, check_same_run, identity_of
from priory.training.optimizers import OptimizerFactory
from priory.training.ranks import process_rank
from priory.training.settings import SYNONYMS, TrainingSettings
from priory.training.sharding import require_shardable
from priory.training.shifting import image_shape_of
from priory.training.states import STATE_FILE, stored_state
from priory.training.steering import Steering, require_trainable, steering_of, tensorboard_logger
from priory.training.trainer import check_devices, make_trainer, quiet, run_trainer, warn_of_slow_bf16

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import Logger

    from priory.training.callbacks import Record

NUMBERS_AT_ONCE = 2**22  # values checked for NaN at a time; sparse rows are made dense


def fit(
    model: AnyModel,
    train: RowsLike,
    valid: RowsLike | None = None,
    *,
    objective: str | Objective | Callable[[Any, Tensor], Elbo | Tensor] | None = None,
    callbacks: "pl.Callback | Sequence[pl.Callback]" = (),
    logger: "Logger | Sequence[Logger]" = (),
    optimizer: str | OptimizerFactory | None = None,
    settings: TrainingSettings | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    tensorboard: bool = False,
    **overrides: Any,
) -> History:
    """Train a model in place by maximizing a lower bound of log p(x), with a KL warm-up.

        loss_t = -mean_n (reconstruction_n - beta_t * kl_n),    beta_t = min(1, t / W)    (see `TrainingSettings`)

    Afterwards the model has the weights of the epoch with the best validation after the warm-up (the last weights
    if there is no validation), is in evaluation mode and on its original device.

    Args:
        model: a `VAE`, or any `torch.nn.Module` with the methods `encode`, `latent_prior` and `decode`, such as the
            result of `as_model`; or a conditional model, such as a `ConditionalVAE`.
        train: training rows, in any form that `priory.rows.as_rows` reads: a tensor, an array, a data frame, a
            `Dataset`, ...; a `DataLoader` gives `batch_size` too, unless it or `settings` is given. A conditional model
            needs rows with a context (`with_context`). Rows in files (`Blocks`) are read and shuffled block by block:
            see the setting `shuffle_buffer`.
        valid: validation rows, in any of these forms; their values are never drawn at random (`dynamic_binarization`).
        objective: the bound to maximize: a name, one of the classes of `priory.objectives` with its options, or a
            function (model, x) that returns an `Elbo` or a tensor (B,) of bounds in nats. A tensor has no warm-up. The
            default is the guided bound if the prior has a guide, else the ELBO. Validation compares epochs by the
            objective's own bound at beta = 1, or by the ELBO for `Guided` and `StickingTheLanding`.
        callbacks: one or more Lightning callbacks. Each epoch logs its row of the history under the names of the
            columns, without `valid_...` if there are no validation rows.
        logger: one or more Lightning loggers. They receive the settings, and each epoch's row of the history at the
            number of the epoch's last step.
        optimizer: a name, or a function from parameters to a `torch.optim.Optimizer`, such as
            `functools.partial(torch.optim.SGD, lr=0.01)`. The schedule starts from the optimizer's learning rate.
        settings: how to train; the defaults of `TrainingSettings` if None.
        seed: seed of torch's global generator, which draws all noise, and of the order of the rows. Runs with the same
            seed are equal bit for bit on the same machine with one thread. None uses the global generator as it is.
        out: folder for history.csv, the state to resume from and TensorBoard's events; None writes nothing. If several
            processes train together (`devices`), all call `fit`, and only rank 0 writes: see `process_rank`.
        resume: continue the run in `out` after its last completed epoch; the result is the same as without the
            interruption. Starts a new run if there is none yet, and returns at once if the run is finished. The kind of
            device may change; the number of processes may not. `epochs` may be raised if the schedule is constant and
            the warm-up is a number of steps; the result is the same as if the run had so many epochs from its start.
        progress: show a progress bar.
        tensorboard: write the history to `out` for TensorBoard (needs the extra `tensorboard`).
        **overrides: single settings, such as `epochs=20` or `ema_decay=0.999`.

    Returns:
        One row per epoch, ELBO terms in nats.

    Raises:
        TypeError: there is no such setting, or an argument is of another type.
        NonFiniteLossError: the loss or its gradient became NaN or infinite; files written before remain.
        LostProcessError: another process of the run has ended; files written before remain.
        FileExistsError: `out` holds a run and `resume` is False.
        BlockingIOError: another process is writing to `out`.
        ValueError: rows have NaN or infinite values; the state in `out` is damaged, or belongs to a run with other
            settings; settings are out of range; this machine does not have the devices.
        ImportError: Lightning is not installed, or `tensorboard` is True and TensorBoard is not installed; the message
            names the extra.

    Warns:
        UserWarning: `precision` is bf16-mixed, and the processor multiplies much slower in bf16 than in float32.

    Reference: Kingma & Welling 2014, arXiv:1312.6114, algorithm 1; Sonderby et al. 2016, arXiv:1602.02282.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> x = torch.rand(30, 6).round()
    >>> history = fit(vae, x[:20], x[20:], seed=0, epochs=2, objective="importance-weighted", num_samples=5)
    >>> history.epochs, len(history["valid_objective"])
    (2, 2)
    """
    module = require_trainable(model)
    require_own_exemplars(model)
    train_rows = _finite_rows(train, "train")
    valid_rows = None if valid is None else _finite_rows(valid, "valid")
    for rows in filter(None, (train_rows, valid_rows)):
        given(module, context_at(rows, torch.zeros(1, dtype=torch.int64)))  # fails early if model and rows do not match
    if settings is None and (batch_size := getattr(train_rows, "batch_size", None)):
        overrides = {"batch_size": batch_size} | overrides
    named = {"objective": objective, "optimizer": optimizer}
    chosen = settings_from(
        TrainingSettings,
        settings,
        overrides | {name: value for name, value in named.items() if isinstance(value, str)},
        fit,
        SYNONYMS,
    )
    if chosen.shard_components:
        require_shardable(module)
    if chosen.shift_images:
        image_shape_of(train_rows)  # raises an error if these are no images
    steering = steering_of(
        module,
        chosen,
        **named,
        callbacks=callbacks,
        logger=logger,
        overrides=overrides,
        num_rows=len(train_rows),
    )
    if valid_rows is None and chosen.ema_decay is not None:
        raise ValueError("ema_decay: expected valid=, the rows that compare the weights with their average, got none")
    folder = _folder(out, resume=resume, tensorboard=tensorboard)
    with _locked(folder, make=False):
        state = stored_state(folder / STATE_FILE) if folder and resume else None
        identity = identity_of(chosen, seed, train_rows, valid_rows, steering.own)
        if state is not None:
            check_same_run(state["identity"], identity, folder / STATE_FILE if folder else None)
            identity["order_seed"] = state["identity"]["order_seed"]
            _load_weights(module, state, f"{folder}/{STATE_FILE}")
            if state["finished"] and (state["selection"]["stop"] or state["progress"]["epoch"] >= chosen.epochs):
                history = History(state["history"], stopped_early=state["progress"]["epoch"] < chosen.epochs)
                if folder is not None and process_rank() == 0:
                    history.write(folder / HISTORY_FILE)  # again: a power cut may have lost the file
                return _finish(module, history, state["best"])
        identity["processes"] = check_devices(chosen)
        if folder is not None and state is not None:
            check_same_processes(state["identity"], identity, folder / STATE_FILE)
        identity.setdefault("order_seed", int(torch.randint(2**62, ())) if seed is None else seed)
        with _locked(folder, make=True), quiet():
            if folder is not None and tensorboard:
                steering.loggers.append(tensorboard_logger(folder))
            record = _train(
                module, train_rows, valid_rows, chosen, steering, identity, folder, state, progress=progress
            )
    return _finish(module, record.history, record.best)


def _finite_rows(data: RowsLike, argument: str) -> Rows:
    """Return rows; check those in memory for NaN and infinity. Other rows are checked when they are read."""
    rows, bad = as_rows(data, argument), []
    if getattr(rows, "in_memory", False):
        width = rows.batch(torch.zeros(1, dtype=torch.int64))[0].numel()
        for x, numbers in rows.batches(max(1, NUMBERS_AT_ONCE // max(1, width))):
            bad += numbers[~x.flatten(1).isfinite().all(1).to(numbers.device)].tolist()
    if bad:
        raise ValueError(
            f"{argument}: expected finite numbers, got NaN or infinity in {len(bad)} of {len(rows)} rows (rows "
            f"{first_few(list(map(str, bad)))}); drop these rows or fill their cells; priory.GTM accepts missing cells"
        )
    return rows


def _locked(folder: Path | None, *, make: bool) -> AbstractContextManager[None]:
    """Lock the folder for the process that writes to it, if the folder exists or `make` is true."""
    if folder is None or process_rank() > 0 or not (make or folder.exists()):
        return nullcontext()
    return sole_writer(folder)


def _load_weights(model: nn.Module, state: Mapping[str, Any], path: str) -> None:
    """Load the weights of the last epoch into the model; check that the best weights fit too."""
    try:
        for weights in filter(None, (state["best"], state["vae"])):
            model.load_state_dict(weights)
    except RuntimeError as error:
        reason = shortened(" ".join(str(error).split()), 300)
        raise ValueError(f"resume: the weights of {path} do not fit this {type(model).__name__}: {reason}") from error


def _train(
    model: nn.Module,
    train: Rows,
    valid: Rows | None,
    settings: TrainingSettings,
    steering: Steering,
    identity: Mapping[str, Any],
    folder: Path | None,
    state: Mapping[str, Any] | None,
    *,
    progress: bool,
) -> "Record":
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
        callbacks={callback.state_key: callback for callback in steering.callbacks},
    )
    batches = ShuffledBatches(train, settings.batch_size, identity["order_seed"], settings.shuffle_buffer)
    module = Training(
        model,
        batches,
        settings,
        steering.objective,
        optimizer=steering.optimizer,
        own=steering.own,
        dynamic_binarization=getattr(train, "dynamic_binarization", False),
    )
    callbacks = [record, *steering.callbacks, *([ProgressBar(record)] if progress else [])]
    trainer = make_trainer(settings, callbacks, steering.loggers)
    if trainer.is_global_zero:
        warn_of_slow_bf16(settings, trainer.strategy.root_device)
    device = device_of(model)
    model.train()
    try:
        with exemplars_attached(model, train):
            run_trainer(trainer, module, batches)
    finally:
        model.to(device)
    return record


def _finish(model: nn.Module, history: History, best: Mapping[str, Tensor] | None) -> History:
    if best is not None:
        model.load_state_dict(best)
    model.eval()
    return history


def _folder(out: str | Path | None, *, resume: bool, tensorboard: bool) -> Path | None:
    if out is None:
        if resume or tensorboard:
            raise ValueError(f"{'resume' if resume else 'tensorboard'}: expected out=, the run's folder; got None")
        return None
    if tensorboard:
        require("tensorboard", "tensorboard", "tensorboard=True")
    folder = Path(out)
    if resume or process_rank() > 0:  # rank 0 checked before it started the others, and may have written since
        return folder
    for name in (STATE_FILE, HISTORY_FILE):
        if (folder / name).exists():
            raise FileExistsError(
                f"{folder / name} exists: the folder holds a run already; "
                "continue it with resume=True, or choose another folder"
            )
    return folder
