"""The mean over a batch whose rows may be on several processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor

_MEAN: ContextVar[Callable[[Tensor], Tensor]] = ContextVar("mean over a batch", default=torch.mean)


def batch_mean(values: Float[Tensor, " row"]) -> Float[Tensor, ""]:
    """Return the mean over the batch; in `fit` on several processes, over the rows of all of them.

    Use it in an objective to compare a mean with something; the gradient is not defined.

    >>> batch_mean(torch.tensor([1.0, 3.0]))
    tensor(2.)
    """
    return _MEAN.get()(values.detach())


@contextmanager
def batch_mean_by(mean: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block, `batch_mean` uses this function.

    >>> with batch_mean_by(torch.sum):
    ...     batch_mean(torch.tensor([1.0, 3.0]))
    tensor(4.)
    """
    token = _MEAN.set(mean)
    try:
        yield
    finally:
        _MEAN.reset(token)
