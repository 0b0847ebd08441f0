"""Settings and generators of the process that no prior may change, with functions to read, compare and restore them."""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution


class Entry(NamedTuple):
    """One piece of global state: a function that reads it, and one that restores it."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]  # in place: others hold the same list


def _set_autocast(enabled: tuple[bool, ...]) -> None:
    for device, value in zip(("cpu", "cuda"), enabled, strict=True):
        torch.set_autocast_enabled(device, value)


def _cuda_generators() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


SETTINGS: Mapping[str, Entry] = {
    "torch's argument validation": Entry(
        lambda: Distribution._validate_args, lambda value: Distribution.set_default_validate_args(value)
    ),
    "the default dtype": Entry(torch.get_default_dtype, torch.set_default_dtype),
    "the default device": Entry(torch.get_default_device, torch.set_default_device),
    "grad mode": Entry(torch.is_grad_enabled, torch.set_grad_enabled),
    "autocast": Entry(lambda: tuple(torch.is_autocast_enabled(d) for d in ("cpu", "cuda")), _set_autocast),
    "the number of threads": Entry(torch.get_num_threads, torch.set_num_threads),
    "deterministic algorithms": Entry(
        torch.are_deterministic_algorithms_enabled, lambda value: torch.use_deterministic_algorithms(value)
    ),
    "cudnn.benchmark": Entry(
        lambda: torch.backends.cudnn.benchmark, lambda value: setattr(torch.backends.cudnn, "benchmark", value)
    ),
    "float32 precision of matrix products": Entry(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    "anomaly detection": Entry(torch.is_anomaly_enabled, lambda value: torch.autograd.set_detect_anomaly(value)),
    "the filters of warnings": Entry(lambda: warnings.filters[:], _set_filters),
}
OTHER_GENERATORS: Mapping[str, Entry] = {
    "numpy's generator": Entry(np.random.get_state, np.random.set_state),
    "Python's generator": Entry(random.getstate, random.setstate),
}
GENERATORS: Mapping[str, Entry] = {
    "torch's generator": Entry(torch.get_rng_state, torch.set_rng_state),
    "torch's CUDA generators": Entry(_cuda_generators, torch.cuda.set_rng_state_all),
    **OTHER_GENERATORS,
}
EVERYTHING: Mapping[str, Entry] = {**SETTINGS, **GENERATORS}


def snapshot(entries: Mapping[str, Entry] = EVERYTHING) -> dict[str, Any]:
    return {name: entry.read() for name, entry in entries.items()}


def changes(before: Mapping[str, Any]) -> list[str]:
    """Describe the differences from a snapshot in words."""
    differences = []
    for name, old in before.items():
        new = EVERYTHING[name].read()
        if not _equal(old, new):
            plain = isinstance(old, (bool, int, str, torch.dtype, torch.device))
            differences.append(f"{name} changed from {old} to {new}" if plain else f"{name} changed")
    return differences


@contextmanager
def preserved(seed: int | None = None) -> Iterator[None]:
    """Restore all global state after the block; if a seed is given, torch is seeded inside.

    >>> before = torch.get_rng_state()
    >>> with preserved(seed=0):
    ...     _ = torch.rand(3)
    ...     torch.set_default_dtype(torch.float64)
    >>> torch.equal(torch.get_rng_state(), before), torch.get_default_dtype()
    (True, torch.float32)
    """
    before = snapshot()
    try:
        if seed is not None:
            torch.manual_seed(seed)
        yield
    finally:
        for name, old in before.items():
            entry = EVERYTHING[name]
            if not _equal(old, entry.read()):
                entry.write(old)


def _equal(first: Any, second: Any) -> bool:
    """Equality of nested tuples that may contain tensors and arrays."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, (tuple, list)):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)
