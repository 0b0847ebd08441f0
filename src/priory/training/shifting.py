"""Move training images by a pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from priory.rows import Rows


def image_shape_of(rows: Rows) -> tuple[int, int]:
    """Return height and width of the images in these rows.

    Raises:
        ValueError: the rows are no images.

    >>> from priory.rows import TensorRows
    >>> image_shape_of(TensorRows(torch.zeros(5, 1, 28, 20)))
    (28, 20)
    """
    if (known := getattr(rows, "image_shape", None)) is not None:
        return known[-2], known[-1]
    shape = rows.batch(torch.zeros(1, dtype=torch.int64))[0].shape[1:]
    if len(shape) < 2:
        raise ValueError(
            "shift_images: expected images: rows (height, width) or (channels, height, width), or rows with the "
            f"attribute image_shape, got rows {tuple(shape)} without it"
        )
    return shape[-2], shape[-1]


def shifted(x: Tensor, share: float, image_shape: tuple[int, int]) -> Tensor:
    """Move a random share of the images by -1, 0 or 1 pixel along each side, with equal probabilities.

    The pixels of an edge are repeated if the image moves away from it.

    Args:
        x: (B, *image): images, flattened or not; the last dimensions are height and width.
        share: the probability that an image is moved.
        image_shape: height and width.
    """
    number, (height, width) = len(x), image_shape
    padded = F.pad(x.reshape(number, -1, height, width), (1, 1, 1, 1), mode="replicate")
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, channels, 3, 3, height, width)
    down, across = torch.randint(3, (2, number), device=x.device)
    moved = windows[torch.arange(number, device=x.device), :, down, across].reshape(x.shape)
    chosen = torch.rand(number, device=x.device) < share
    return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), moved, x)
