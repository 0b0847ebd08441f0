"""`fit`: train a VAE on rows."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from priory._support.locking import sole_writer
from priory._support.messages import shortened
from priory._support.optional import require
from priory.model import device_of
from priory.rows import Rows, as_rows
from priory.training.batches import ShuffledBatches
from priory.training.history import HISTORY_FILE, History
from priory.training.identity import check_same_processes, check_same_run, identity_of
from priory.training.ranks import process_rank
from priory.training.settings import TrainingSettings
from priory.training.states import STATE_FILE, stored_state
from priory.training.trainer import check_devices, make_trainer, quiet, run_trainer
from priory.vae import VAE

if TYPE_CHECKING:
    from priory.training.callbacks import Record


def fit(
    vae: VAE,
    train: Tensor | Rows,
    valid: Tensor | Rows | None = None,
    *,
    settings: TrainingSettings | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    tensorboard: bool = False,
    **overrides: Any,
) -> History:
    """Train a VAE in place by maximizing the evidence lower bound, with a KL warm-up.

        loss_t = -mean_n (reconstruction_n - beta_t * kl_n),    beta_t = min(1, t / W)    (see `TrainingSettings`)

    Afterwards the VAE has the weights of the epoch with the best validation ELBO after the warm-up (the last weights
    if there is no validation), is in evaluation mode and on the device that it came from.

    Args:
        vae: the model.
        train: training rows, a tensor (N, D) or `priory.rows.Rows`.
        valid: validation rows, likewise; their values are never drawn anew.
        settings: how to train; the defaults of `TrainingSettings` if None.
        seed: of torch's global generator, which gives all noise, and of the order of the rows. The same seed gives the
            same bits on the same machine with one thread. None draws from the global generator as it is.
        out: folder for history.csv, the state to resume from and TensorBoard's events; None writes nothing. If several
            processes train together (`devices`), all call `fit` and rank 0 alone writes: see `process_rank`.
        resume: continue the run in `out` from its last completed epoch, to the same result as without the interruption;
            begin if there is none yet; return at once if it is finished. The kind of device may change, the number of
            processes may not. `epochs` may be raised if the schedule is constant and the warm-up a number of steps:
            the result is that of a run with that many epochs from its start.
        progress: show a progress bar.
        tensorboard: write the history for TensorBoard too (needs the extra `tensorboard`).
        **overrides: single settings, such as `epochs=20`.

    Returns:
        One row per epoch, ELBO terms in nats.

    Raises:
        NonFiniteLossError: the loss or its gradient became NaN or infinite; what was written so far stays.
        FileExistsError: `out` holds a run and `resume` is False.
        BlockingIOError: another process is writing to `out`.
        ValueError: the state in `out` is damaged, or belongs to a run with other settings; settings are out of range;
            this machine has no such devices.
        ImportError: Lightning is not installed, or TensorBoard if it is asked for; the message names the extra.

    Reference: Kingma & Welling 2014, arXiv:1312.6114, algorithm 1; Sonderby et al. 2016, arXiv:1602.02282.

    >>> from priory.training import fit
    >>> history = fit(vae, x_train, x_valid, seed=0, epochs=20)  # doctest: +SKIP
    >>> history["valid_elbo"][history.best_epoch]  # doctest: +SKIP
    -21.3
    """
    chosen = TrainingSettings(**((settings.model_dump() if settings else {}) | overrides))
    train_rows = as_rows(train, "train")
    valid_rows = None if valid is None else as_rows(valid, "valid")
    folder = _folder(out, resume=resume, tensorboard=tensorboard)
    with _held(folder, make=False):
        state = stored_state(folder / STATE_FILE) if folder and resume else None
        identity = identity_of(chosen, seed, train_rows, valid_rows)
        if state is not None:
            check_same_run(state["identity"], identity, folder / STATE_FILE if folder else None)
            identity["order_seed"] = state["identity"]["order_seed"]
            try:
                for weights in filter(None, (state["best"], state["vae"])):
                    vae.load_state_dict(weights)
            except RuntimeError as error:
                reason = shortened(" ".join(str(error).split()), 300)
                raise ValueError(
                    f"resume: the weights of {folder}/{STATE_FILE} do not fit this VAE: {reason}"
                ) from error
            if state["finished"] and (state["selection"]["stop"] or state["progress"]["epoch"] >= chosen.epochs):
                history = History(state["history"], stopped_early=state["progress"]["epoch"] < chosen.epochs)
                if folder is not None and process_rank() == 0:
                    history.write(folder / HISTORY_FILE)  # again: a power cut may have lost the file
                return _finish(vae, history, state["best"])
        identity["processes"] = check_devices(chosen)
        if folder is not None and state is not None:
            check_same_processes(state["identity"], identity, folder / STATE_FILE)
        identity.setdefault("order_seed", int(torch.randint(2**62, ())) if seed is None else seed)
        with _held(folder, make=True), quiet():
            record = _train(
                vae, train_rows, valid_rows, chosen, identity, folder, state, progress=progress, tensorboard=tensorboard
            )
    return _finish(vae, record.history, record.best)


def _held(folder: Path | None, *, make: bool) -> AbstractContextManager[None]:
    """Lock the folder for the process that writes, if it exists or may be made."""
    if folder is None or process_rank() > 0 or not (make or folder.exists()):
        return nullcontext()
    return sole_writer(folder)


def _train(
    vae: VAE,
    train: Rows,
    valid: Rows | None,
    settings: TrainingSettings,
    identity: Mapping[str, Any],
    folder: Path | None,
    state: Mapping[str, Any] | None,
    *,
    progress: bool,
    tensorboard: bool,
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
        tensorboard=folder if tensorboard and process_rank() == 0 else None,
    )
    batches = ShuffledBatches(train, settings.batch_size, identity["order_seed"])
    module = Training(vae, batches, settings, dynamic_binarization=getattr(train, "dynamic_binarization", False))
    done = state["progress"]["epoch"] if state else 0
    trainer = make_trainer(settings, settings.epochs - done, [record, *([ProgressBar(record)] if progress else [])])
    device = device_of(vae)
    vae.train()
    try:
        run_trainer(trainer, module, batches)
    finally:
        vae.to(device)
        if record.tensorboard is not None:
            record.tensorboard.finalize("finished")
    return record


def _finish(vae: VAE, history: History, best: Mapping[str, Tensor] | None) -> History:
    if best is not None:
        vae.load_state_dict(best)
    vae.eval()
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
                "continue it with resume=True, or choose another"
            )
    return folder
