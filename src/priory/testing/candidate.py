"""Turn the argument of a check (module, distribution, pair, factory or import path) into an object to check."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from priory._support.imports import RAISED, described, first_line, located
from priory.testing.report import SkippedError


@dataclass(frozen=True)
class Candidate:
    """One object under test, and the encoder with which it is called."""

    built: Any  # a module, a distribution-like object, or a pair of callables
    encoder: Any = None  # the argument of the module, or None

    @property
    def module(self) -> nn.Module:
        """The module; if there is none, a check of modules is skipped."""
        if not isinstance(self.built, nn.Module):
            raise SkippedError(f"applies to modules only; this is {_kind(self.built)}")
        return self.built

    def density(self) -> Any:
        """The object with `log_prob` and `sample`; a module is called once here."""
        if isinstance(self.built, tuple):
            log_prob, sample = self.built
            return SimpleNamespace(log_prob=log_prob, sample=sample)
        if _has_density(self.built):
            return self.built
        result = self.built(self.encoder) if self._takes_encoder() else self.built()
        if not _has_density(result):
            raise TypeError(
                f"calling {type(self.built).__name__}: expected an object with log_prob and sample, got "
                f"{type(result).__name__}; return a torch.distributions.Distribution"
            )
        return result

    def copied(self) -> "Candidate":
        """Return a copy that shares nothing with this object; if it cannot be copied, the check is skipped."""
        try:
            built, encoder = copy.deepcopy((self.module, self.encoder))
        except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            raise SkippedError(f"copy.deepcopy fails: {first_line(error)}") from error
        return Candidate(built, encoder)

    def moved(self, target: torch.dtype | str) -> "Candidate":
        """Return a copy of the module and its encoder in another precision or on another device."""
        duplicate = self.copied()
        encoder = getattr(duplicate.encoder, "__self__", duplicate.encoder)  # for a module's method, the module
        if encoder is not None and not isinstance(encoder, nn.Module):
            raise SkippedError("the encoder is a function, which cannot be moved; give a module")
        duplicate.module.to(target)
        if encoder is not None:
            encoder.to(target)
        return duplicate

    def _takes_encoder(self) -> bool:
        if self.encoder is None:
            return False
        kinds = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD", "VAR_POSITIONAL")
        return any(p.kind.name in kinds for p in inspect.signature(self.built.forward).parameters.values())


def made(obj: Any) -> Any:
    """Return a module, a density or a pair, given one of these, a factory, or the import path of either."""
    place = located(obj)
    if not is_factory(place):
        return _checkable(place, obj if isinstance(obj, str) else "obj")
    name = obj if isinstance(obj, str) else getattr(place, "__qualname__", repr(place))
    return _checkable(_result(place, name), f"{name}()")


def _result(factory: Callable[[], Any], name: str) -> Any:
    try:
        return factory()
    except RAISED as error:
        raise ValueError(
            f"{name}: expected a factory that works without arguments, but calling it raised {described(error)}"
        ) from error


def resolved_encoder(encoder: Any) -> Any:
    """Return an encoder, given itself, or "package.module:name" of an encoder or of a factory for one."""
    if not isinstance(encoder, str):
        return encoder
    place = located(encoder)
    if isinstance(place, nn.Module) or (callable(place) and needs_arguments(place)):
        return place
    return _result(place, encoder)


def resolved_reference(reference: Any) -> Any:
    """Return a distribution or a function z -> log p(z), given itself, its import path, or a factory."""
    place = located(reference)
    if place is None or hasattr(place, "log_prob"):
        return place
    if not callable(place):
        raise TypeError(
            "reference: expected a distribution, a function z -> log p(z), or a function without arguments that makes "
            f"a distribution; got {_kind(place)}"
        )
    if needs_arguments(place):
        return place
    return _result(place, reference if isinstance(reference, str) else "reference")


def _checkable(obj: Any, name: str) -> Any:
    if isinstance(obj, (tuple, list)) and len(obj) == 2 and all(map(callable, obj)):
        return tuple(obj)
    if isinstance(obj, nn.Module) or _has_density(obj):
        return obj
    raise TypeError(
        f"{name}: expected a module (that returns a distribution when called, or has log_prob and sample), an object "
        "with log_prob and sample, a pair of callables (log_prob, sample), or a function without arguments that makes "
        f"one of these; got {_kind(obj)}"
    )


def _has_density(obj: Any) -> bool:
    return callable(getattr(obj, "log_prob", None)) and callable(getattr(obj, "sample", None))


def is_factory(obj: Any) -> bool:
    return isinstance(obj, type) or (callable(obj) and not isinstance(obj, nn.Module) and not _has_density(obj))


def needs_arguments(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _kind(obj: Any) -> str:
    return "a pair of callables" if isinstance(obj, tuple) else f"a {type(obj).__name__}"
