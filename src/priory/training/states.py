"""The state that a run resumes from: tensors and numbers in a safetensors file, without pickle."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from priory._support.files import replacing, require_readable
from priory._support.messages import in_our_words
from priory.training.history import COLUMNS
from priory.training.settings import TrainingSettings

STATE_FILE = "state.safetensors"
FORMAT = "priory training state 3"
_ANEW = "remove it to train from the beginning"


class _Part(BaseModel):
    """A part of the state. Its values must have exactly these types: nothing is converted."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)


class _NumbersOfRows(_Part):
    train: int
    valid: int | None


class _Identity(_Part):
    settings: TrainingSettings
    objective: str | None
    optimizer: str | None
    seed: int | None
    rows: _NumbersOfRows
    processes: int = 1
    order_seed: int


class _Progress(_Part):
    epoch: int = Field(ge=0)
    step: int = Field(ge=0)


class _Selection(_Part):
    best_epoch: int | None
    best_bound: float
    stop: bool


class TrainingState(_Part):
    """The content of the file, as far as it is independent of the model, the optimizer and the device."""

    identity: _Identity
    finished: bool
    progress: _Progress
    history: dict[str, list[float]]
    selection: _Selection
    vae: dict[str, Tensor]
    best: dict[str, Tensor] | None
    average: dict[str, Tensor] | None
    callbacks: dict[str, dict[str, Any]]
    optimizer: dict[str, Any]
    schedulers: list[dict[str, Any]]
    precision: dict[str, Any]
    random: dict[str, Tensor]

    @model_validator(mode="after")
    def _of_one_course(self) -> Self:
        epochs = self.progress.epoch
        if {name: len(column) for name, column in self.history.items()} != dict.fromkeys(COLUMNS, epochs):
            raise ValueError(f"expected a history of {epochs} epochs with the columns {', '.join(COLUMNS)}")
        if epochs > self.identity.settings.epochs:
            raise ValueError(f"expected at most {self.identity.settings.epochs} epochs, got {epochs}")
        if (self.best is None) != (self.selection.best_epoch is None):
            raise ValueError("expected the best weights and their epoch, or neither")
        return self


def snapshot(tree: Any) -> Any:
    """Return a copy on the CPU, which later steps do not change."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True).contiguous()
    if isinstance(tree, Mapping):
        return {key: snapshot(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(snapshot(value) for value in tree)
    return tree


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested dictionaries, lists and tuples of tensors, numbers and strings, atomically."""
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(state, "", tensors))
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {"format": FORMAT, "structure": structure}))


def read_state(path: Path) -> dict[str, Any]:
    """Read a file that `write_state` wrote, exactly; raise a ValueError if it is damaged or another kind of file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"{path}: expected a regular file with the training state; {_ANEW}")
    require_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path}: the training state is damaged ({error}); {_ANEW}") from error
    if metadata.get("format") != FORMAT:
        file_format = metadata.get("format", "no format")
        raise ValueError(f"{path}: expected the format {FORMAT!r}, got {file_format!r}; {_ANEW}")
    try:
        return dict(_unflatten(json.loads(metadata["structure"]), tensors))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the training state is damaged ({error}); {_ANEW}") from error


def stored_state(path: Path) -> dict[str, Any] | None:
    """Read the state of a run; None if there is none yet.

    Raises:
        ValueError: the state is damaged, or a part is missing or has another type.
    """
    if not path.exists():
        return None
    state = read_state(path)
    with restoring(path):
        TrainingState.model_validate(state)
    return state


@contextmanager
def restoring(path: Path | None) -> Iterator[None]:
    """Turn errors of torch and pydantic about a part of the state into an error that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = _first_error(error) if isinstance(error, ValidationError) else str(error)
        raise ValueError(f"{path}: the training state is damaged ({reason}); {_ANEW}") from error


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), in_our_words(first["msg"])]))


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the state of an optimizer of Adam's family.

    Raises:
        ValueError: its averages have other names or shapes than the optimizer's; torch would fail later, at a step.
    """
    optimizer.load_state_dict(dict(state))
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    kind: Any = type(optimizer)
    example = kind([weight])
    example.step()
    for parameter, averages in optimizer.state.items():
        shapes = {name: parameter.shape if value.ndim else value.shape for name, value in example.state[weight].items()}
        if {name: value.shape for name, value in averages.items()} != shapes:
            raise ValueError(f"the optimizer's averages: expected {', '.join(shapes)} with the parameters' shapes")


def restore_schedulers(schedulers: list[Any], states: list[Mapping[str, Any]]) -> None:
    """Load the states of learning-rate schedulers.

    Raises:
        ValueError: there are more or fewer of them, or their values are of other types.
    """
    for scheduler, state in zip(schedulers, states, strict=True):
        for name, value in scheduler.state_dict().items():
            if not isinstance(state[name], type(value)):
                raise ValueError(f"the scheduler's {name}: expected type {type(value).__name__}, got {state[name]!r}")
        scheduler.load_state_dict(state)


def _flatten(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return JSON for the tree: a tensor becomes its name, and all but plain values are wrapped as {kind: content}."""
    if isinstance(tree, Tensor):
        # copied, because safetensors refuses tensors that share memory
        tensors[name] = tree.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(tree, Mapping):
        pairs = [[key, _flatten(value, f"{name}/{key}", tensors)] for key, value in tree.items()]
        return {"pairs": pairs}  # keys need not be strings: an optimizer's are numbers
    if isinstance(tree, list | tuple):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [_flatten(value, f"{name}/{i}", tensors) for i, value in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"{name}: expected tensors, numbers or strings in a training state, got {type(tree).__name__}")


def _unflatten(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "pairs":
        return {key: _unflatten(value, tensors) for key, value in content}
    values = [_unflatten(value, tensors) for value in content]
    return tuple(values) if kind == "tuple" else values


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generators that training on this device uses."""
    state = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        state[device.type] = getattr(torch, device.type).get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the result of `random_state`; a device of another kind keeps its own state."""
    torch.set_rng_state(state["cpu"])
    if device.type in state and device.type != "cpu":
        getattr(torch, device.type).set_rng_state(state[device.type])
