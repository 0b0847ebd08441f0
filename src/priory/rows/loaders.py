"""Rows of torch's `Dataset` and `DataLoader`."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from priory.rows.protocol import Rows
from priory.rows.tensors import float_type, tensor_rows

_WORKERS = (
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "prefetch_factor",
    "persistent_workers",
)


class LoaderRows(Rows):
    """The rows of a DataLoader's dataset, read with its `collate_fn`; in training, its workers read ahead.

    The caller decides the order of the rows. If an item is a tuple or list, its first element is read.

    >>> from torch.utils.data import DataLoader, StackDataset
    >>> rows = LoaderRows(DataLoader(StackDataset(torch.eye(3), torch.arange(3))))
    >>> [x.tolist() for x, _ in rows.read(torch.tensor([2, 0, 1]).split(2))]
    [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]]
    """

    def __init__(self, loader: DataLoader, *, batch_size: int | None = None) -> None:
        self.batch_size = batch_size
        self._chunks = _Chunks()
        # A separate generator: a DataLoader draws the seed of its workers, otherwise from torch's generator.
        options: dict[str, Any] = {"batch_sampler": self._chunks, "generator": torch.Generator()}
        self._loader: DataLoader = DataLoader(
            loader.dataset, **options, **{name: getattr(loader, name) for name in _WORKERS}
        )
        self._here: DataLoader = DataLoader(loader.dataset, **options, collate_fn=loader.collate_fn)

    def __len__(self) -> int:
        return len(self._loader.dataset)  # type: ignore[arg-type]

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        [batch] = self._read(self._here, [positions])
        return batch

    def read(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches at these positions, one after the other."""
        return self._read(self._loader, list(chunks))

    def _read(self, loader: DataLoader, chunks: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        self._chunks.positions = [chunk.tolist() for chunk in chunks]
        return zip(map(_values, loader), chunks, strict=True)


class _Chunks:
    """Positions of the rows of each batch. An iterator keeps the list from its start."""

    positions: list[list[int]]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.positions)


def dataset_rows(dataset: Dataset, argument: str) -> Rows:
    """Return the rows of a dataset that is read by index; each item is a tensor, or a tuple that begins with one."""
    _require_indices(dataset, argument)
    return _rows(DataLoader(dataset), None, argument)


def loader_rows(loader: DataLoader, argument: str) -> Rows:
    """Return the rows of a DataLoader's dataset; `fit` uses its batch size."""
    _require_indices(loader.dataset, argument)
    batches = loader.batch_sampler
    sampler = batches.sampler if type(batches) is BatchSampler else batches
    repeats = isinstance(sampler, RandomSampler) and (sampler.replacement or len(sampler) != len(loader.dataset))  # type: ignore[arg-type]
    if type(sampler) not in (SequentialSampler, RandomSampler) or repeats:
        kind = "no batches" if batches is None else f"a {type(sampler).__name__}" + " that repeats or omits" * repeats
        raise ValueError(
            f"{argument}: expected a DataLoader that reads each row once, in order or shuffled, got one with {kind}; "
            "give DataLoader(dataset, batch_size=...) without a sampler, or the dataset"
        )
    return _rows(loader, batches.batch_size, argument)  # type: ignore[union-attr]


def _rows(loader: DataLoader, batch_size: int | None, argument: str) -> Rows:
    dataset, plain = loader.dataset, loader.collate_fn is default_collate
    if plain and len(dataset):  # type: ignore[arg-type]
        _require_tensor(dataset[0], argument)
    if plain and isinstance(dataset, TensorDataset):  # reading row by row takes four times as long
        return tensor_rows(dataset.tensors[0], argument, batch_size=batch_size)
    return LoaderRows(loader, batch_size=batch_size)


def _require_indices(dataset: Any, argument: str) -> None:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"{argument}: expected a dataset with __len__ and __getitem__, got the {type(dataset).__name__}, whose "
            "rows can be read in one order only; give a map-style Dataset, or a tensor: torch.stack(list(dataset))"
        )


def _require_tensor(item: Any, argument: str) -> None:
    x = item[0] if isinstance(item, tuple | list) and item else item
    if not isinstance(x, Tensor | np.ndarray) or x.ndim == 0:
        cure = "let __getitem__ return the tensor of one row"
        if type(x).__module__.startswith("PIL"):
            cure = "add transform=torchvision.transforms.ToTensor() to the dataset"
        elif isinstance(x, dict) and x:
            cure += f", such as item[{next(iter(x))!r}]"
        raise TypeError(
            f"{argument}: expected a dataset whose items are a tensor (*input), or a tuple that begins with one, got "
            f"{_described(item)}; {cure}"
        )


def _described(item: Any) -> str:
    if isinstance(item, Tensor):
        return f"a tensor of shape {tuple(item.shape)}"
    inside = f" of {', '.join(map(_described, item))}" if isinstance(item, tuple | list) else ""
    return f"a {type(item).__name__}{inside}"


def _values(batch: Any) -> Tensor:
    """Return the rows in the result of `collate_fn`."""
    x = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(x, Tensor) or x.ndim < 2:
        raise TypeError(
            f"collate_fn: expected a tensor (B, *input), or a tuple that begins with one, got {_described(batch)}"
        )
    return x.to(float_type(x.dtype))
