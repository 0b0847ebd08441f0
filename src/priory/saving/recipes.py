"""Recipes of models: a description of their modules in JSON, and the way back to modules.

A recipe has the class of each module and the arguments of its constructor: the attributes with the same names, and
those that its method `constructor_arguments` returns.
"""

import inspect
import math
import weakref
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from priory._support.imports import first_line
from priory._support.messages import did_you_mean, first_few
from priory.priors import FlowPrior
from priory.saving.classes import CONSTRUCTORS, DISTRIBUTIONS, NAMES
from priory.saving.numbers import ARGUMENTS, CONSTANTS, numbers_of, put_numbers

REFUSED = (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError)  # errors of constructors
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Describer:
    """Describes a model's parts, and collects tensors: those of its state, and others that constructors get."""

    def __init__(self, model: nn.Module) -> None:
        others = [name for name, value in model.state_dict().items() if not isinstance(value, Tensor)]
        if others:
            raise TypeError(f"model: expected a state of tensors, got others at {first_few(others)}")
        self.shared: dict[str, str] = {}  # other name -> first name of a tensor
        self._tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._places: dict[int, tuple[str, Any]] = {}  # objects that are described already, by id
        for name, tensor in numbers_of(model).items():
            first = self._names.setdefault(id(tensor), name)
            if first == name:
                self._tensors[name] = tensor
            else:
                self.shared[name] = first

    def stored(self) -> dict[str, Tensor]:
        """The tensors as they are written to the file."""
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in self._tensors.items()}

    def described(self, value: Any, place: str) -> Any:
        """Return a value as JSON."""
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, Tensor):
            return self._tensor(value, place)
        if isinstance(value, list | tuple):
            kind = {list: "list", torch.Size: "size"}.get(type(value))
            items = [self.described(each, f"{place}.{i}") for i, each in enumerate(value)]
            return items if kind is None else {kind: items}
        if isinstance(value, nn.Module | Distribution | Transform):
            if id(value) in self._places:
                return {"same": self._places[id(value)][0]}
            self._places[id(value)] = (place, value)
            return self._module(value, place) if isinstance(value, nn.Module) else self._distribution(value, place)
        if isinstance(value, MethodType):
            return {"method": value.__name__, "of": self.described(value.__self__, f"{place}.__self__")}
        if isinstance(value, FunctionType) and not inspect.signature(value).parameters:
            return {"makes": self.described(value(), place)}
        raise ValueError(f"{place} is a {type(value).__name__}, which a recipe cannot describe")

    def _tensor(self, value: Tensor, place: str) -> dict[str, str]:
        name = self._names.setdefault(id(value), ARGUMENTS + place)
        self._tensors.setdefault(name, value)
        return {"parameter" if isinstance(value, nn.Parameter) else "tensor": name}

    def _module(self, module: nn.Module, place: str) -> dict[str, Any]:
        name, arguments = NAMES.get(type(module)), None
        if isinstance(module, FlowPrior) and name is not None and module.made_by is not None:
            name, arguments = f"priory.FlowPrior.{module.made_by[0]}", module.made_by[1]
        if name is None:
            raise ValueError(f"{place} is a {type(module).__name__}, which is not a class that priory.load builds")
        if isinstance(module, CONTAINERS):
            return {"class": name, "children": self._each(module._modules, place)}
        return {"class": name, "arguments": self._each(arguments or _arguments(module), place)}

    def _distribution(self, value: Distribution | Transform, place: str) -> dict[str, Any]:
        name = NAMES.get(type(value))
        if name is None:
            raise ValueError(f"{place} is a {type(value).__name__}, which is not a distribution of torch")
        state = {key: None if isinstance(each, weakref.ref) else each for key, each in vars(value).items()}
        return {"class": name, "state": self._each(state, place)}

    def _each(self, values: Mapping[str, Any], place: str) -> dict[str, Any]:
        return {name: self.described(value, f"{place}.{name}") for name, value in values.items()}


def _arguments(module: nn.Module) -> dict[str, Any]:
    """Return arguments for the constructor of such a module; `check_rebuilt` detects if they are insufficient."""
    others: Callable[[], dict[str, Any]] = getattr(module, "constructor_arguments", dict)
    known = others()
    for name, parameter in inspect.signature(type(module)).parameters.items():
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if named and name not in {*known, "device", "dtype"} and hasattr(module, name):
            value = getattr(module, name)
            if name == "bias":
                value = value is not None
            if getattr(value, "__self__", None) is not module:  # a method, such as `values` of nn.ParameterDict
                known[name] = value.item() if isinstance(value, Tensor) and value.ndim == 0 else value
    return known


class Builder:
    """Makes values from JSON; the reverse of `Describer`."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._objects: dict[str, Any] = {}  # by their place in the recipe

    def built(self, tree: Any, place: str) -> Any:
        if isinstance(tree, list):
            return tuple(self.built(each, f"{place}.{i}") for i, each in enumerate(tree))
        match tree:
            case {"float": text}:
                return float(text)
            case {"list": items}:
                return list(self.built(items, place))
            case {"size": items}:
                return torch.Size(items)
            case {"tensor": name}:
                return self._tensors[name]
            case {"parameter": name}:
                return nn.Parameter(self._tensors[name])
            case {"same": other}:
                return self._objects[other]
            case {"method": name, "of": owner}:
                return getattr(self.built(owner, f"{place}.__self__"), name)
            case {"makes": part}:
                return lambda: self.built(part, place)
            case {"class": name, "state": state}:
                value: Any = object.__new__(DISTRIBUTIONS[name])
                self._objects[place] = value
                vars(value).update(self._each(state, place))  # the state may refer to the object itself
                return value
            case {"class": name}:
                return self._module(name, tree, place)
        return tree

    def _module(self, name: str, tree: Mapping[str, Any], place: str) -> nn.Module:
        if name not in CONSTRUCTORS:
            raise ValueError(f"{place}: unknown class {name}{did_you_mean(name, CONSTRUCTORS)}")
        children = self._each(tree.get("children", {}), place)
        arguments = self._each(tree.get("arguments", {}), place)
        constructor = CONSTRUCTORS[name]
        try:
            module = constructor(**arguments)
        except REFUSED as error:
            raise ValueError(f"{place} is not a {name} that can be built: {first_line(error)}") from error
        for child_name, child in children.items():
            module.add_module(child_name, child)
        self._objects[place] = module
        return module

    def _each(self, trees: Mapping[str, Any], place: str) -> dict[str, Any]:
        return {name: self.built(tree, f"{place}.{name}") for name, tree in trees.items()}


def rebuilt(tree: Any, tensors: Mapping[str, Tensor], shared: Mapping[str, str]) -> nn.Module:
    """Build a model from a recipe, and load its numbers.

    Raises:
        ValueError: it cannot be built, or the numbers belong to another model.
    """
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and overwritten
        model = Builder(tensors).built(tree, "model")
    put_numbers(model, tensors, shared)
    numbers = numbers_of(model)
    for name, first in shared.items():
        owner, _, attribute = name.removeprefix(CONSTANTS).rpartition(".")
        setattr(model.get_submodule(owner), attribute, numbers[first])
    return model


def check_rebuilt(model: nn.Module, built: nn.Module) -> None:
    """Raise an error that names the first part that the constructor makes differently."""
    others = dict(built.named_modules(remove_duplicate=False))
    for name, module in model.named_modules(remove_duplicate=False):
        other = others.get(name)
        if type(module) is not type(other) or module.extra_repr() != other.extra_repr():  # type: ignore[union-attr]
            raise ValueError(f"{name} differs from what the constructor of the model makes")
