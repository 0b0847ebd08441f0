"""Rows of a tensor."""

import torch
from jaxtyping import Shaped
from torch import Tensor

from priory.rows.protocol import Rows


class TensorRows(Rows):
    """The rows of a tensor (N, D) or (N, *input); a row's number is its position.

    Integers and truth values are converted to floats batch by batch.

    >>> TensorRows(torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)).batch(torch.tensor([1]))
    (tensor([[3., 4.]]), tensor([1]))
    """

    def __init__(self, x: Shaped[Tensor, "datum *input"], *, batch_size: int | None = None) -> None:
        self.x, self.batch_size = x, batch_size
        self.in_memory = True
        self.dtype = float_type(x.dtype)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[positions.to(self.x.device)].to(self.dtype), positions

    def to(self, device: torch.device) -> "TensorRows":
        """Return the same rows on another device."""
        return TensorRows(self.x.to(device), batch_size=self.batch_size)


def tensor_rows(x: Tensor, argument: str, *, batch_size: int | None = None) -> TensorRows:
    """Check the type of a tensor and return its rows."""
    if x.is_complex() or x.layout != torch.strided:
        cure = "x.to_dense(), or a scipy sparse array" if x.layout != torch.strided else "torch.view_as_real(x)"
        raise ValueError(f"{argument}: expected a dense tensor of real numbers, got {x.dtype}, {x.layout}; give {cure}")
    x = x.detach()
    unsigned = x.dtype in (torch.uint16, torch.uint32, torch.uint64)  # torch before 2.7 cannot index these
    return TensorRows(x.to(float_type(x.dtype)) if unsigned else x, batch_size=batch_size)


def float_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type itself if it is floating point; else float32 if it holds all its values, else float64."""
    if dtype.is_floating_point:
        return dtype
    return torch.float32 if dtype.itemsize <= 2 else torch.float64
