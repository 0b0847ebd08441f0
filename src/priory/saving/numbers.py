"""The numbers of a model by name: its parameters and buffers."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from priory._support.messages import first_few

ARGUMENTS = "arguments/"  # prefix of tensors that a constructor gets and the model does not keep
CONSTANTS = "constants/"  # prefix of buffers that are not part of the model's `state_dict`


def numbers_of(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers; names of buffers outside of the state_dict begin with `CONSTANTS`."""
    in_state = model.state_dict().keys()
    numbers = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    return {name if name in in_state else CONSTANTS + name: tensor for name, tensor in numbers.items()}


def put_numbers(model: nn.Module, tensors: Mapping[str, Tensor], shared: Mapping[str, str]) -> None:
    """Load numbers into a model, on its device, in its memory format and in the dtypes of the numbers.

    Raises:
        ValueError: they belong to another model.
    """
    stored = {name: tensor for name, tensor in tensors.items() if not name.startswith(ARGUMENTS)}
    stored |= {name: tensors[first] for name, first in shared.items()}
    numbers = numbers_of(model)
    fits = {name for name in stored.keys() & numbers.keys() if stored[name].shape == numbers[name].shape}
    in_file, in_model = ({n for n in each if not n.startswith(CONSTANTS)} for each in (stored, numbers))
    differences = {
        "the file lacks": in_model - in_file,
        "the model lacks": in_file - in_model,
        "other shapes:": {
            f"{name} {tuple(stored[name].shape)} in the file, {tuple(numbers[name].shape)} in the model"
            for name in (in_file & in_model) - fits
        },
    }
    if any(differences.values()):
        described = "; ".join(f"{words} {first_few(sorted(names))}" for words, names in differences.items() if names)
        raise ValueError(f"expected the numbers of this model, got others ({described})")
    for name in fits:
        numbers[name].data = torch.empty_like(numbers[name], dtype=stored[name].dtype).copy_(stored[name])
