"""The Lightning module: one training step, and the sums of an epoch."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from priory.model import frozen, given
from priory.objectives import Elbo, Objective, Terms
from priory.objectives.batch_mean import batch_mean_by
from priory.priors.base import log_prior_of
from priory.training.averaging import WeightAverage
from priory.training.batches import Share, ShuffledBatches
from priory.training.exemplars import exemplars_left_out
from priory.training.failures import failed_step, invalid_parameters
from priory.training.optimizers import OptimizerFactory, optimizer_of, scheduler_of
from priory.training.settings import TrainingSettings
from priory.training.sharding import Sharding
from priory.training.shifting import image_shape_of, shifted
from priory.vae import feature_encoder

# The terms of this many steps stay on the device: reading them makes the device wait, storing them takes memory.
PENDING_STEPS = 256


class Training(pl.LightningModule):
    """Minimizes -(reconstruction - beta * kl) of the objective, averaged over the batch, in nats.

    If the model's prior has `log_prior` (see `Prior`), the loss also has the term -beta * log_prior. Its gradient
    reaches only the prior's own parameters: the encoder must fit the data, not the prior of the clusters.

    Steps do not log through Lightning, because its bookkeeping takes as long as a step of a small model.

    Attributes:
        model: the model that is trained.
        hparams: the settings, and the names of the model and of the caller's `own` objective and optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: ShuffledBatches,
        settings: TrainingSettings,
        objective: Objective,
        *,
        optimizer: OptimizerFactory | None = None,
        own: Mapping[str, str | None],
        dynamic_binarization: bool = False,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.batches, self.settings, self.objective = batches, settings, objective
        self.optimizer_factory = optimizer
        self.dynamic_binarization = dynamic_binarization
        self.image_shape = image_shape_of(batches.rows) if settings.shift_images else None
        self.average = None if settings.ema_decay is None else WeightAverage(model, settings.ema_decay)
        self.sharding: Sharding | None = None
        self.epoch = self.step = self.batch = 0
        self.last_terms: tuple[Elbo, Tensor] | None = None  # the objective's terms and the rows, for error messages
        self.last_means: tuple[Elbo, Elbo] | None = None  # of the ELBO and the objective, for the progress bar
        self._pending: list[Tensor] = []
        self._pending_rows: list[int] = []
        self._sums = torch.zeros(5, dtype=torch.float64)
        chosen = settings.model_dump() | {"objective": repr(objective), "model": type(model).__name__}
        self.save_hyperparameters(chosen | {name: value for name, value in own.items() if value is not None})

    @property
    def beta(self) -> float:
        """The weight of the KL term in the next step."""
        return self.settings.beta(self.step, len(self.batches))

    def share_out(self, device: torch.device) -> None:
        """Keep only this process's part of the prior's components, and exclude it from DDP."""
        self.sharding = Sharding(self.model, device)
        self._ddp_params_and_buffers_to_ignore = [f"model.{name}" for name in self.sharding.names]

    def whole(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return named tensors of the model with the components of all processes; all processes must call it."""
        return tensors if self.sharding is None else self.sharding.whole(tensors)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if self.trainer.validating:  # the batch is empty
            return batch
        x, rows, context = batch
        return x.to(device, next(self.model.parameters()).dtype, non_blocking=True), rows, context

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor | None], batch_idx: int) -> Tensor:
        """Compute the loss. All random draws and gradients are in this method, so that DDP's forward contains them."""
        x, rows, context = batch
        if self.image_shape is not None:
            x = shifted(x, self.settings.shift_images * (1 - self.epoch / self.settings.epochs), self.image_shape)
        if self.dynamic_binarization:
            x = torch.bernoulli(x)
        self.batch = batch_idx
        share = self.batches.share(batch_idx)
        with (
            batch_mean_by(share.mean),
            invalid_parameters(self.model, rows, epoch=self.epoch, batch=self.batch),
            exemplars_left_out(self.model, rows),
        ):
            terms = self.objective(given(self.model, context), x, self.beta)
        terms = _counted(terms, share)
        reconstruction, kl = terms.bound.reconstruction.mean(), terms.bound.kl.mean()
        self.last_terms = Elbo(terms.bound.reconstruction.detach(), terms.bound.kl.detach()), share.counted(rows)
        bound = Elbo(reconstruction.detach(), kl.detach())
        self.last_means = _elbo_means(terms, bound), bound
        self._pending += [*self.last_means[0], *bound]
        self._pending_rows.append(share.own)
        if len(self._pending_rows) == PENDING_STEPS:
            self._read_pending()
        loss = self.beta * kl - reconstruction
        if share.weight != 1:
            loss = share.weight * loss
        prior: Any = getattr(self.model, "prior", None)
        if not hasattr(prior, "log_prior"):
            return loss
        with frozen(self.model, prior):
            log_prior = log_prior_of(prior, feature_encoder(self.model))
        return loss if log_prior is None else loss - self.beta * log_prior

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient; raise an error before the optimizer takes a step along NaN.

        Numbers are read from the device only once.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.sharding is None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        else:
            norm = self.sharding.norm(parameters)
        norm_value, finite = self._check(norm)
        if not finite:
            assert self.last_terms is not None
            (reconstruction, kl), rows = self.last_terms
            raise failed_step(self.model, reconstruction, kl, rows, epoch=self.epoch, batch=self.batch)
        limit = self.settings.gradient_clip
        if limit is not None and norm_value > limit:
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.step += 1
        if self.average is not None:
            self.average.update()
        if self.trainer.world_size == 1 and self.trainer.received_sigterm:
            raise SIGTERMException  # Lightning would wait for the end of the epoch

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing: `Record` validates in Lightning's validation loop, which runs over one empty batch."""

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients of the last step: if the validation fails, the error message uses them."""

    def _check(self, norm: Tensor) -> tuple[float, bool]:
        """Return the gradient's norm, and whether it and the loss are finite on every process."""
        assert self.last_terms is not None
        terms = self.last_terms[0]
        loss = terms.reconstruction.sum() + terms.kl.sum()
        numbers = torch.stack([norm.float(), loss.float()])
        if self.settings.precision == "16-mixed":  # the scaler skips steps whose scaled gradient overflows
            numbers[0] = torch.nan_to_num(numbers[0])
        if self.trainer.world_size > 1:
            finite = torch.isfinite(numbers).all().to(numbers)
            torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
            return float(numbers[0]), bool(finite)
        norm_value, loss_value = numbers.tolist()
        return norm_value, bool(abs(norm_value) + abs(loss_value) < float("inf"))

    def _read_pending(self) -> None:
        if self._pending_rows:
            means = torch.stack(self._pending).cpu().double().reshape(-1, 4)
            rows = torch.tensor(self._pending_rows, dtype=torch.float64)
            self._sums[:4] += rows @ means
            self._sums[4] += rows.sum()
        self._pending, self._pending_rows = [], []

    def take_sums(self) -> Tensor:
        """Return this process's sums since the last call, in the order of `validation_sums`."""
        self._read_pending()
        sums, self._sums = self._sums, torch.zeros(5, dtype=torch.float64)
        return sums

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        if self.optimizer_factory is None:
            optimizer = optimizer_of(self.settings, parameters)
        else:
            optimizer = self.optimizer_factory(parameters)
        scheduler = scheduler_of(self.settings.schedule, optimizer, self.settings.epochs * len(self.batches))
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _counted(terms: Terms, share: Share) -> Terms:
    """Return the terms of the rows that count."""
    bound = Elbo(*map(share.counted, terms.bound))
    if terms.elbo is terms.bound:
        return Terms(bound, bound)
    return Terms(bound, None if terms.elbo is None else Elbo(*map(share.counted, terms.elbo)))


def _elbo_means(terms: Terms, bound: Elbo) -> Elbo:
    """Return the means of the ELBO's terms; `bound` has the means of the objective's terms."""
    if terms.elbo is terms.bound:
        return bound
    if terms.elbo is None:
        return Elbo(*[torch.full_like(bound.kl, float("nan"))] * 2)
    return Elbo(terms.elbo.reconstruction.detach().mean(), terms.elbo.kl.detach().mean())
