"""Optimizers by name or from a user's function, and the schedules of their learning rate."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from priory.training.settings import TrainingSettings

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
}


def optimizer_of(settings: TrainingSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name."""
    # Fused Adam and AdamW update all parameters in one kernel; with them, Lightning cannot clip under a scaler.
    can_fuse = settings.optimizer in ("adam", "adamw") and settings.precision != "16-mixed"
    fuse = can_fuse and all(p.device.type in ("cpu", "cuda") for p in parameters)
    options: dict[str, Any] = {"fused": True} if fuse else {}
    kind = OPTIMIZERS[settings.optimizer]
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, **options)


def kind_of_optimizer(factory: OptimizerFactory) -> str:
    """Return the class name of the optimizer that a factory makes.

    Raises:
        TypeError: the factory is not a function of parameters, or does not return an optimizer.

    >>> from functools import partial
    >>> kind_of_optimizer(partial(torch.optim.SGD, lr=0.1))
    'SGD'
    """
    expected = "optimizer: expected a function from parameters to a torch.optim.Optimizer, such as "
    expected += "functools.partial(torch.optim.SGD, lr=0.01), "
    if not callable(factory):
        raise TypeError(f"{expected}got {type(factory).__name__}")
    optimizer = factory([nn.Parameter(torch.zeros(1))])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"{expected}got one that returns {type(optimizer).__name__}")
    return type(optimizer).__name__


def scheduler_of(schedule: str, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler | None:
    """Return the schedule of the learning rate, which starts or peaks at each group's rate; None if it is constant.

    One-cycle changes the momentum too, if the optimizer has one.
    """
    if schedule == "one-cycle":
        has_momentum = "betas" in optimizer.defaults or bool(optimizer.defaults.get("momentum"))
        rates = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, rates, total_steps=steps + 1, cycle_momentum=has_momentum)
    return CosineAnnealingLR(optimizer, steps) if schedule == "cosine" else None
