"""The state a run resumes from, in a safetensors file: tensors and numbers, never unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from priory._support.files import replacing, require_readable

STATE_FILE = "state.safetensors"
FORMAT = "priory training state 2"
_ANEW = "remove it to train from the beginning"


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
    """Read a file that `write_state` wrote, to the last bit; a ValueError says that it is damaged or another file."""
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
        found = metadata.get("format", "no format")
        raise ValueError(f"{path}: expected the format {FORMAT!r}, got {found!r}; it cannot be resumed from, {_ANEW}")
    try:
        return dict(_unflatten(json.loads(metadata["structure"]), tensors))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the training state is damaged ({error}); {_ANEW}") from error


def stored_state(path: Path) -> dict[str, Any] | None:
    """Read the state of a run; None if there is none yet."""
    return read_state(path) if path.exists() else None


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
    raise TypeError(f"{name}: cannot be part of a training state: {type(tree).__name__}")


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
