"""An exponential moving average of a model's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The average of a model's parameters over the steps: average = decay * average + (1 - decay) * parameters.

    The average starts with the weights after the first step. It has no buffers, such as the statistics of batch norm.

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
        """Add the weights of a step to the average."""
        if not self._values:
            self._values = {name: p.detach().clone() for name, p in self._parameters.items()}
            return
        self._average(list(self._values.values()), list(self._parameters.values()), 1)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the model inside the block, and restore the model's own weights afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, p in self._parameters.items():
            p.data, self._values[name] = self._values[name], p.data

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average of each parameter, by name."""
        return self._values

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the average from a state.

        Raises:
            KeyError, RuntimeError: the state belongs to another model.
        """
        self._values = {name: torch.empty_like(p).copy_(state[name]) for name, p in self._parameters.items()}
