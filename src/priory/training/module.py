"""The Lightning module: one training step, and the sums of an epoch."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from priory.objectives import Elbo, elbo, guided_terms
from priory.training.batches import ShuffledBatches
from priory.training.failures import failed_step, invalid_parameters
from priory.training.settings import TrainingSettings
from priory.vae import VAE

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
}
# Steps whose terms stay on the device: reading them makes the device wait, keeping them takes memory.
PENDING_STEPS = 256


class Training(pl.LightningModule):
    """Minimizes -(reconstruction - beta * kl), averaged over the batch, in nats.

    If the prior has a guide, the objective is `guided_elbo`; the sums of an epoch are those of the ELBO all the same.
    Nothing is logged through Lightning, whose bookkeeping takes as long as a step of a small model.
    """

    def __init__(
        self, vae: VAE, batches: ShuffledBatches, settings: TrainingSettings, *, dynamic_binarization: bool
    ) -> None:
        super().__init__()
        self.vae, self.batches, self.settings = vae, batches, settings
        self.dynamic_binarization = dynamic_binarization
        self.epoch = self.step = self.batch = 0
        self.last_terms: tuple[Elbo, Tensor] | None = None  # of the objective, with the rows; for failures
        self.last_elbo: Elbo | None = None  # its means; for the progress bar
        self._pending: list[Tensor] = []
        self._pending_rows: list[int] = []
        self._sums = torch.zeros(3, dtype=torch.float64)

    @property
    def beta(self) -> float:
        """The weight of the KL term in the next step."""
        return self.settings.beta(self.step, len(self.batches))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        x, rows = batch
        return x.to(device, next(self.vae.parameters()).dtype, non_blocking=True), rows

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss; DDP's forward sees all that is random or has a gradient, because it is in here."""
        x, rows = batch
        if self.dynamic_binarization:
            x = torch.bernoulli(x)
        self.batch = batch_idx
        terms, kl_to_prior = self._objective(x, rows)
        reconstruction, kl = terms.reconstruction.mean(), terms.kl.mean()
        self.last_terms = Elbo(terms.reconstruction.detach(), terms.kl.detach()), rows
        self.last_elbo = Elbo(reconstruction.detach(), kl_to_prior.detach().mean())
        self._pending += self.last_elbo
        self._pending_rows.append(len(x))
        if len(self._pending_rows) == PENDING_STEPS:
            self._read_pending()
        return self.beta * kl - reconstruction

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient, and raise an error before the optimizer takes a step along NaN.

        The device is read once.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm_value, finite = self._check(norm)
        if not finite:
            assert self.last_terms is not None
            (reconstruction, kl), rows = self.last_terms
            raise failed_step(self.vae, reconstruction, kl, rows, epoch=self.epoch, batch=self.batch)
        limit = self.settings.gradient_clip
        if limit is not None and norm_value > limit:
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.step += 1
        if self.trainer.world_size == 1 and self.trainer.received_sigterm:
            raise SIGTERMException  # Lightning would wait for the end of the epoch

    def _objective(self, x: Tensor, rows: Tensor) -> tuple[Elbo, Tensor]:
        """The terms of the objective, and KL(q || p), which is one of them if there is no guide."""
        with invalid_parameters(self.vae, rows, epoch=self.epoch, batch=self.batch):
            if self.settings.guidance and getattr(self.vae.prior, "guide", None) is not None:
                return guided_terms(self.vae, x, self.settings.guidance, num_samples=self.settings.num_samples)
            terms = elbo(self.vae, x, num_samples=self.settings.num_samples)
            return terms, terms.kl

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
            means = torch.stack(self._pending).cpu().double().reshape(-1, 2)
            rows = torch.tensor(self._pending_rows, dtype=torch.float64)
            self._sums[:2] += rows @ means
            self._sums[2] += rows.sum()
        self._pending, self._pending_rows = [], []

    def take_sums(self) -> Tensor:
        """Return this process's sums of reconstruction and KL and its number of rows since the last call, float64."""
        self._read_pending()
        sums, self._sums = self._sums, torch.zeros(3, dtype=torch.float64)
        return sums

    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.vae.parameters() if p.requires_grad]
        # Adam and AdamW have one kernel for all parameters; Lightning cannot clip with it under a scaler
        can_fuse = self.settings.optimizer in ("adam", "adamw") and self.settings.precision != "16-mixed"
        fuse = can_fuse and all(p.device.type in ("cpu", "cuda") for p in parameters)
        options: dict[str, Any] = {"fused": True} if fuse else {}
        optimizer = OPTIMIZERS[self.settings.optimizer](
            parameters, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay, **options
        )
        steps = self.settings.epochs * len(self.batches)
        scheduler: torch.optim.lr_scheduler.LRScheduler
        if self.settings.schedule == "one-cycle":
            rate = self.settings.learning_rate
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
        elif self.settings.schedule == "cosine":
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        else:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
