"""Lightning callbacks: the record of a run at the end of each epoch, and the progress bar."""

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from priory.rows import Rows, TensorRows
from priory.training.batches import derived_seed
from priory.training.exemplars import refresh_exemplars
from priory.training.failures import check_parameters
from priory.training.history import History
from priory.training.module import Training
from priory.training.selection import Selection
from priory.training.states import (
    random_state,
    restore_optimizer,
    restore_random_state,
    restore_schedulers,
    restoring,
    snapshot,
    write_state,
)
from priory.training.validation import validation_sums

# Two writes of the state are at least this many seconds apart, and at least 20 times the duration of the last write, so
# writing takes at most 1/20 of the run. If the process is killed outright, a resumed run repeats the epochs since the
# last write; after any other end, the state is complete.
WRITE_EVERY = 2.0
WRITE_SHARE = 20
REFRESHES_PER_SECOND = 4
# Tensors up to this size move to the accelerator once, not batch by batch. It is a small part of any GPU's memory.
RESIDENT_BYTES = 1 << 30


class Record(pl.Callback):
    """Validate each epoch; record the history, the best weights and the state to resume from; stop the run early.

    It runs in Lightning's validation loop, so an epoch's row of the history is logged before the hooks
    `on_validation_end` and `on_train_epoch_end` of other callbacks run. The state is recorded after these hooks,
    because it contains the states of the other callbacks.

    If a path is None, its file is not written. If the seed is None, torch's global generator is used as it is.
    """

    def __init__(
        self,
        valid: Rows | None,
        *,
        patience: int | None,
        identity: Mapping[str, Any],
        seed: int | None,
        history_path: Path | None,
        state_path: Path | None,
        state: Mapping[str, Any] | None = None,
        callbacks: Mapping[str, pl.Callback] | None = None,
    ) -> None:
        self.valid, self.seed, self.identity = valid, seed, dict(identity)
        self.history_path, self.state_path = history_path, state_path
        self.callbacks = callbacks or {}
        self.history = History()
        self.selection = Selection(patience)
        self.best: dict[str, Tensor] | None = None
        self._resumed = state
        self._recorded_epochs = 0
        self._unwritten: dict[str, Any] | None = None
        self._next_write = 0.0
        self._epoch_began = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set this process's share of the rows. The optimizer, which is built next, needs the number of batches."""
        module = _training(pl_module)
        batches = module.batches
        batches.rank, batches.world_size = trainer.global_rank, trainer.world_size
        if trainer.world_size > 1:
            batches.seed = self.identity["order_seed"] = trainer.strategy.broadcast(batches.seed)
        if trainer.world_size > 1 and module.settings.shard_components:
            module.share_out(trainer.strategy.root_device)
        batches.rows = _resident(batches.rows, trainer.strategy.root_device)
        if self.valid is not None:
            self.valid = _resident(self.valid, trainer.strategy.root_device)
        if self._resumed is not None:
            progress = self._resumed["progress"]
            module.epoch = batches.epoch = progress["epoch"]
            module.step = progress["step"]
            _continue_counting(trainer, **progress)
            self.history = History(self._resumed["history"])
            self._recorded_epochs = module.epoch
            self.selection = Selection(self.selection.patience, **self._resumed["selection"])
            self.best = self._resumed["best"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._resumed is None:
            return
        with restoring(self.state_path):
            optimizer, sharding = trainer.optimizers[0], _training(pl_module).sharding
            state = self._resumed["optimizer"]
            state = state if sharding is None else sharding.part_of_optimizer(state, optimizer)
            if self.identity["optimizer"] is None:
                restore_optimizer(optimizer, state)
            else:
                optimizer.load_state_dict(dict(state))
            schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
            restore_schedulers(schedulers, self._resumed["schedulers"])
            trainer.precision_plugin.load_state_dict(self._resumed["precision"])
            average = _training(pl_module).average
            if average is not None:
                state = self._resumed["average"]
                average.load_state_dict(state if sharding is None else sharding.part(state))
            for name, callback in self.callbacks.items():
                if name in self._resumed["callbacks"]:
                    callback.load_state_dict(self._resumed["callbacks"][name])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the generators just before the first step, so that Lightning draws nothing from them in between."""
        module = _training(pl_module)
        if self._resumed is not None and trainer.is_global_zero:  # other ranks set a seed in each epoch
            with restoring(self.state_path):
                restore_random_state(self._resumed["random"], module.device)
        elif self.seed is not None:
            torch.manual_seed(self.seed)
        self._resumed = None
        refresh_exemplars(module.model)
        self._next_write = time.monotonic() + WRITE_EVERY

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = _training(pl_module)
        self._record(trainer, module)
        if trainer.global_rank > 0:  # each rank draws its own noise; a resumed run draws the same
            torch.manual_seed(derived_seed(module.batches.seed, "noise", module.epoch, trainer.global_rank))
        self._epoch_began = time.perf_counter()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = _training(pl_module)
        check_parameters(module.model, epoch=module.epoch)
        train = _reduced(trainer, module, module.take_sums())
        if trainer.world_size > 1:
            parts = () if module.sharding is None else module.sharding.names
            for name, buffer in module.model.named_buffers():  # statistics of batch norm differ between processes
                if name not in parts:
                    torch.distributed.broadcast(buffer, src=0)
        valid = self._validate(trainer, module)
        average: AbstractContextManager[None] = nullcontext()  # puts in the averaged weights if they are better
        if module.average is not None:
            with module.average.in_place():
                averaged = self._validate(trainer, module)
            if _bound(averaged) > _bound(valid):
                valid, average = averaged, module.average.in_place()
        row = {
            "epoch": module.epoch,
            **_terms("train", train),
            **_terms("valid", valid),
            "beta": module.beta,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": time.perf_counter() - self._epoch_began,
        }
        self.history.append(row)
        if self.selection.update(module.epoch, row["valid_objective"], warm=module.beta >= 1):
            with average:
                refresh_exemplars(module.model)
                self.best = snapshot(module.whole(module.model.state_dict()))
        refresh_exemplars(module.model)
        module.epoch += 1
        module.batches.epoch = module.epoch
        trainer.should_stop |= self.selection.stop
        _log(trainer, module.step, row)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = _training(pl_module)
        if trainer.should_stop:  # another callback may have set it
            self.selection.stop = True
            self.history.stopped_early = module.epoch < module.settings.epochs
        self._record(trainer, module)
        if module.sharding is not None:
            module.sharding.join()

    def _validate(self, trainer: pl.Trainer, module: Training) -> Tensor | None:
        if self.valid is None:
            return None
        rank, world_size = trainer.global_rank, trainer.world_size
        sums = validation_sums(
            module.model,
            module.objective.for_validation(module.settings.validation_draws),
            self.valid,
            rank=rank,
            world_size=world_size,
            batch_size=module.settings.validation_batch_size,
            seed=derived_seed(module.batches.seed, "validation", rank),
            device=module.device,
            epoch=module.epoch,
        )
        return _reduced(trainer, module, sums)

    def _record(self, trainer: pl.Trainer, module: Training) -> None:
        """If an epoch ended since the last call, write the history, and the state if enough time has passed."""
        if self._recorded_epochs == module.epoch or not (trainer.is_global_zero or module.sharding):
            return
        self._recorded_epochs = module.epoch
        if self.history_path is not None and trainer.is_global_zero:
            self.history.write(self.history_path)
        if self.state_path is None:
            return
        finished = self.selection.stop or module.epoch >= module.settings.epochs
        state = self._state(trainer, module, finished=finished)
        if not trainer.is_global_zero:  # it only contributed its components
            return
        self._unwritten = state
        if finished or time.monotonic() >= self._next_write:
            self._write_state()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if (module := _training(pl_module)).sharding is None:  # if sharded, only all processes together have the state
            self._record(trainer, module)
        self._write_state()

    def _write_state(self) -> None:
        if self._unwritten is None or self.state_path is None:
            return
        began = time.monotonic()
        write_state(self.state_path, self._unwritten)
        self._unwritten = None
        now = time.monotonic()
        self._next_write = now + max(WRITE_EVERY, WRITE_SHARE * (now - began))

    def _state(self, trainer: pl.Trainer, module: Training, *, finished: bool) -> dict[str, Any]:
        selection, optimizer = self.selection, trainer.optimizers[0]
        return {
            "identity": dict(self.identity),
            "finished": finished,
            "progress": {"epoch": module.epoch, "step": module.step},
            "history": {name: list(column) for name, column in self.history.items()},
            "selection": {name: value for name, value in vars(selection).items() if name != "patience"},
            "vae": snapshot(module.whole(module.model.state_dict())),
            "best": self.best,
            "average": None if module.average is None else snapshot(module.whole(module.average.state_dict())),
            "callbacks": {name: snapshot(callback.state_dict()) for name, callback in self.callbacks.items()},
            "optimizer": snapshot(
                optimizer.state_dict() if module.sharding is None else module.sharding.whole_optimizer(optimizer)
            ),
            "schedulers": [snapshot(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs],
            "precision": snapshot(trainer.precision_plugin.state_dict()),
            "random": random_state(module.device),
        }


class ProgressBar(pl.Callback):
    """A line with the epoch, the terms of the ELBO in nats and the best validation bound, updated during training."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._next_refresh = 0.0
        self._progress: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(24), TextColumn("{task.description}"))
        self._progress = Progress(*columns, TimeRemainingColumn(), auto_refresh=False)
        module = _training(pl_module)
        self._task = self._progress.add_task("", total=module.settings.epochs, completed=module.epoch)
        self._progress.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._progress is not None and time.monotonic() >= self._next_refresh:
            self._refresh(_training(pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._progress is not None:
            self._refresh(_training(pl_module))
            self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _refresh(self, module: Training) -> None:
        assert self._progress is not None
        self._next_refresh = time.monotonic() + 1 / REFRESHES_PER_SECOND
        parts = []
        if module.last_means is not None:
            (reconstruction, kl), bound = (map(float, each) for each in module.last_means)
            parts.append(f"elbo {reconstruction - kl:.2f} = {reconstruction:.2f} - {kl:.2f} (beta {module.beta:.2f})")
            if module.last_means[0] is not module.last_means[1]:
                parts.append(f"objective {next(bound) - next(bound):.2f}")
        if self.record.history.epochs and self.record.valid is not None:
            parts.append(f"valid {self.record.history['valid_objective'][-1]:.2f}")
        if self.record.selection.best_epoch is not None:
            parts.append(f"best {self.record.selection.best_bound:.2f}")
        self._progress.update(self._task, completed=module.epoch, description="  ".join(parts))
        self._progress.refresh()


def _training(module: pl.LightningModule) -> Training:
    assert isinstance(module, Training)
    return module


def _resident(rows: Rows, device: torch.device) -> Rows:
    """Return the rows of a small tensor on this device, other rows as they are."""
    return rows.to(device) if isinstance(rows, TensorRows) and rows.x.nbytes <= RESIDENT_BYTES else rows


def _reduced(trainer: pl.Trainer, module: Training, sums: Tensor) -> Tensor:
    if trainer.world_size == 1:
        return sums
    total = sums.to(module.device)
    torch.distributed.all_reduce(total)
    return total.cpu()


def _terms(prefix: str, sums: Tensor | None) -> dict[str, float]:
    reconstruction, kl, *_ = _means(sums)
    terms = {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl, "objective": _bound(sums)}
    return {f"{prefix}_{name}": value for name, value in terms.items()}


def _bound(sums: Tensor | None) -> float:
    """Return the mean of the objective's bound."""
    *_, reconstruction, kl = _means(sums)
    return reconstruction - kl


def _means(sums: Tensor | None) -> list[float]:
    """Return the means of the terms that `validation_sums` sums; NaN if there is no validation."""
    return [float("nan")] * 4 if sums is None else (sums[:4] / sums[4]).tolist()


def _log(trainer: pl.Trainer, step: int, row: Mapping[str, float]) -> None:
    """Log a row for callbacks and loggers; `LightningModule.log` would take milliseconds."""
    shown = {name: value for name, value in row.items() if not math.isnan(value)}
    metrics = {name: torch.tensor(value, dtype=torch.float64) for name, value in shown.items() if name != "epoch"}
    trainer.callback_metrics.update(metrics)
    trainer.logged_metrics.update(metrics)
    for logger in trainer.loggers:
        logger.log_metrics(shown, step=step - 1)  # Lightning counts from zero
        logger.save()


def _continue_counting(trainer: pl.Trainer, epoch: int, step: int) -> None:
    """Set Lightning's counts of epochs and steps, which callbacks and loggers read, to those of a state."""
    loop = trainer.fit_loop
    for progress in (loop.epoch_progress.current, loop.epoch_progress.total):
        vars(progress).update(dict.fromkeys(("ready", "started", "processed", "completed"), epoch))
    loop.epoch_loop._batches_that_stepped = step
    loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
