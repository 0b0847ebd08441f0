"""Check what a caller passes to `fit`: model, objective, optimizer, callbacks and loggers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from priory.grid.guide import strength
from priory.model import AS_MODEL, require_model
from priory.objectives import OBJECTIVES, Objective, UserObjective, guide_of
from priory.training.optimizers import OptimizerFactory, kind_of_optimizer
from priory.training.settings import TrainingSettings

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.pytorch.loggers import Logger

# Settings of a named objective or optimizer; the caller's own object has its own options instead.
OPTIONS = {"objective": ("num_samples", "guidance"), "optimizer": ("learning_rate", "weight_decay")}


@dataclass(frozen=True)
class Steering:
    """The caller's objects, checked.

    Attributes:
        objective: the bound to maximize.
        optimizer: the caller's function, or None if the settings name one.
        callbacks: Lightning's callbacks.
        loggers: Lightning's loggers.
        own: how a run describes the caller's own objective and optimizer; None if the settings name them.
    """

    objective: Objective
    optimizer: OptimizerFactory | None
    callbacks: "list[pl.Callback]"
    loggers: "list[Logger]"
    own: dict[str, str | None]


def require_trainable(model: Any) -> nn.Module:
    """Return the model; raise an error if it is not a module with parameters and the three methods.

    Raises:
        TypeError: it lacks a method, or is not a module.
        ValueError: it has no parameters to train.
    """
    require_model(model, conditional=True)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}; derive from it, or {AS_MODEL}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            f"model: expected parameters to train, got a {type(model).__name__} without any; as_model finds "
            "those of a function that is a module or a method of one; list others in as_model(..., modules=[...])"
        )
    return model


def steering_of(
    model: nn.Module,
    settings: TrainingSettings,
    *,
    objective: Any,
    optimizer: Any,
    callbacks: Any,
    logger: Any,
    overrides: Mapping[str, Any],
    num_rows: int,
) -> Steering:
    """Return the caller's objects, and the objective that the settings name.

    Raises:
        TypeError: an object has another type, or a setting belongs to an object of the caller.
    """
    for argument, value in {"objective": objective, "optimizer": optimizer}.items():
        for name in OPTIONS[argument]:
            if name in overrides and not isinstance(value, str | None):
                raise TypeError(
                    f"{name}: expected as an option of the {argument} object, got a setting; set it in the {argument}"
                )
    factory = None if isinstance(optimizer, str | None) else optimizer
    own = {
        "objective": None if isinstance(objective, str | None) else _described(objective),
        "optimizer": None if factory is None else kind_of_optimizer(factory),
    }
    made = named_objective(settings, model, num_rows) if own["objective"] is None else _own_objective(objective)
    return Steering(made, factory, _list("callbacks", callbacks, "Callback"), _list("logger", logger, "Logger"), own)


def named_objective(settings: TrainingSettings, model: Any, num_rows: int) -> Objective:
    """Return the objective that the settings name; the default weight of a guide depends on the number of rows."""
    name = settings.objective
    if settings.guidance is None:
        settings = settings.model_copy(update={"guidance": strength(num_rows) ** 2})
    if name == "auto":
        name = "guided" if settings.guidance and guide_of(model) is not None else "elbo"
    kind: Any = OBJECTIVES[name]
    return kind(**{field.name: getattr(settings, field.name) for field in fields(kind)})


def _own_objective(objective: Any) -> Objective:
    if isinstance(objective, type) or not callable(objective):
        got = f"the class {objective.__name__}" if isinstance(objective, type) else type(objective).__name__
        raise TypeError(
            f"objective: expected a name, a function (model, x), or an objective such as "
            f"ImportanceWeighted(num_samples=8), got {got}"
        )
    return objective if isinstance(objective, Objective) else UserObjective(objective)


def _described(function: Callable[..., Any]) -> str:
    """Return the name of a function, with the keywords of a `partial`; for an objective, its representation."""
    if isinstance(function, Objective):
        return repr(function)
    if isinstance(function, partial):
        keywords = ", ".join(f"{name}={value!r}" for name, value in function.keywords.items())
        return f"{_described(function.func)}({keywords})"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _list(argument: str, value: Any, kind: str) -> list[Any]:
    """Return the objects of an argument; all must be of Lightning's class `kind`."""
    objects = list(value) if isinstance(value, Iterable) else [] if value is None else [value]
    if not objects:
        return []
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

    for each in objects:
        if not isinstance(each, {"Callback": Callback, "Logger": Logger}[kind]):
            package = " of pytorch_lightning; import it from lightning.pytorch"
            hint = package if type(each).__module__.startswith("pytorch_lightning") else ""
            raise TypeError(f"{argument}: expected a {kind} of lightning.pytorch, got {type(each).__name__}{hint}")
    return objects


def tensorboard_logger(folder: Path) -> "Logger":
    """Return a TensorBoard logger that writes to a run's folder."""
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)
