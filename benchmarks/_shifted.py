"""Move training images by one pixel: a share of them, which falls to zero during training."""

import math

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from priory.rows import Rows, RowsLike, as_rows


class ShiftedImages(Rows):
    """Square images; a random share of each batch is moved by -1, 0 or 1 pixel along each side."""

    def __init__(self, rows: RowsLike, share: float) -> None:
        self.rows, self.share = as_rows(rows, "rows"), share
        self.dynamic_binarization = getattr(self.rows, "dynamic_binarization", False)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        x, numbers = self.rows.batch(positions)
        side = math.isqrt(x.shape[1])
        moved = F.pad(x.view(-1, side, side), (1, 1, 1, 1)).unfold(1, side, 1).unfold(2, side, 1)
        down, across = torch.randint(3, (2, len(x)))
        moved = moved[torch.arange(len(x)), down, across].view_as(x)
        return torch.where(torch.rand(len(x), 1) < self.share, moved, x), numbers


class FallingShare(pl.Callback):
    """Reduce the share linearly, to zero after the part `until` of the training."""

    def __init__(self, rows: ShiftedImages, until: float) -> None:
        self.rows, self.start, self.until = rows, rows.share, until

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rows.share = self.start * max(0.0, 1 - trainer.current_epoch / (self.until * trainer.max_epochs))
