"""An exponential moving average of a model's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The average of a model's parameters over the steps: average = decay * average + (1 - decay) * parameters.

    It begins with the weights after the first step. Buffers, such as the statistics of batch norm, are the model's own.

    Args:
        model: the model that is trained; its parameters are read at each `update`.
        decay: between 0 and 1.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage(layer, decay=0.75)
    >>> for weight in (0.0, 4.0):
    ...     layer.weight.data.fill_(weight)
    ...     average.update()
    tensor([[0.]])
    tensor([[4.]])
    >>> with average.in_place():
    ...     print(layer.weight.item())
    1.0
    >>> layer.weight.item()
    4.0
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = dict(model.named_parameters())
        self._average = get_ema_multi_avg_fn(decay)
        self._values: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of a step into the average."""
        if not self._values:
            self._values = {name: p.detach().clone() for name, p in self._parameters.items()}
            return
        self._average(list(self._values.values()), list(self._parameters.values()), 1)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the average inside the block, and its own weights back afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, p in self._parameters.items():
            p.data, self._values[name] = self._values[name], p.data

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average by the names of the parameters."""
        return self._values

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the average from a state.

        Raises:
            KeyError, RuntimeError: it belongs to another model.
        """
        self._values = {name: torch.empty_like(p).copy_(state[name]) for name, p in self._parameters.items()}
