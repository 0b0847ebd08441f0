"""A data set, in memory or in its files, and views of its splits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from priory._support.messages import first_few
from priory.workbench.data.fingerprint import Fingerprint
from priory.workbench.data.profile import Profile, profile_of
from priory.workbench.data.reading.matrices import Matrix, compact, is_sparse, is_stored
from priory.workbench.data.shards import origin_of
from priory.workbench.data.splits import MINIMUM_ROWS
from priory.workbench.data.summary import Summary, summarize

if TYPE_CHECKING:  # reading and checking data needs no torch
    from torch import Tensor

    from priory.rows import Blocks, Conditions

_ROWS_AT_ONCE = 2**16


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class Dataset:
    """All rows of a data set in their own units, and the split into training, validation and test rows.

    Attributes:
        name: 'digits', the file's stem, the folder's name, or the type of an object.
        x: (rows, columns), a NumPy array or a scipy CSR matrix, in a compact dtype; or a `StoredMatrix`, which stays in
            its files.
        splits: int64 indices of the rows of 'train', 'valid' and 'test' in `x`; empty if a split has no rows.
        ids: one string per row; for streamed rows without names, their numbers.
        labels: values of all rows by name of the column, text or numbers; the first label is the main one.
        columns: feature names.
        image_shape: (height, width) if a row is a gray image, row-major.
        source: the file or folder, or None for embedded data and objects.
        dynamic_binarization: training rows are means in [0, 1], binarized anew each time they are read; validation and
            test rows are binarized once.
        binarize_scale: the value that became mean 1 if the data were binarized, else None.
        fingerprint: checksums of values and ids before binarization.
        notes: how the file was read, if there was more than one way.
        precise: whether batches are float64 instead of float32.
        row_shape: shape of a row in batches, such as (channels, height, width); None for (columns,).
        conditions: labels that a model conditions on.
        quantities: conditions that are quantities although their values are integers.
        encoding: maps the conditions to the context of the rows; None if the model has no conditions.
        profile: the result of a pass over streamed rows; None without such a pass.
        numbered: whether the ids are just numbers of rows: the file has no names, or its index counts from 0.

    Example:
        >>> from priory.workbench.data import load_dataset
        >>> digits = load_dataset("digits")
        >>> digits.x.shape, digits.x.dtype, len(digits.rows("train")), digits.image_shape
        ((1797, 64), dtype('uint8'), 1000, (8, 8))
    """

    name: str
    x: Matrix
    splits: dict[str, np.ndarray]
    ids: np.ndarray
    labels: dict[str, np.ndarray]
    columns: tuple[str, ...]
    image_shape: tuple[int, int] | None
    source: Path | None
    dynamic_binarization: bool = False
    binarize_scale: float | None = None
    fingerprint: Fingerprint | None = None
    notes: tuple[str, ...] = ()
    precise: bool = False
    row_shape: tuple[int, ...] | None = None
    conditions: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    encoding: Conditions | None = None
    profile: Profile | None = None
    numbered: bool = False

    def __post_init__(self) -> None:
        for name, values in {"ids": self.ids, **{f"labels[{k!r}]": v for k, v in self.labels.items()}}.items():
            if len(values) != self.x.shape[0]:
                raise ValueError(f"{name}: expected {self.x.shape[0]} values, one per row of x, got {len(values)}")
        if len(self.columns) != self.x.shape[1]:
            raise ValueError(f"columns: expected {self.x.shape[1]} names, one per column of x, got {len(self.columns)}")

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def origin(self) -> str:
        """The name of the data in messages: of the file, or of the embedded data set."""
        return self.name if self.source is None else origin_of(self.source)

    @property
    def streamed(self) -> bool:
        """Whether rows stay in their files."""
        return is_stored(self.x)

    @cached_property
    def known(self) -> Profile | None:
        """The result of a pass over streamed rows, made now if there was none; None for rows in memory."""
        if not self.streamed or self.profile is not None:
            return self.profile
        return profile_of(self.x, self.ids, self.splits["train"], self.origin, precise=self.precise)

    @cached_property
    def _tensor(self) -> Tensor:
        """The dense data as a tensor of the compact dtype; it shares the memory of `x` if torch allows it."""
        import torch

        array = compact(np.ascontiguousarray(self.x), precise=self.precise)
        return torch.from_numpy(array if array.flags.writeable else array.copy())

    def rows(self, split: str) -> DatasetRows:
        """Return the rows of 'train', 'valid' or 'test'.

        Raises:
            ValueError: there is no such split, or it has no rows.
        """
        if split not in self.splits:
            raise ValueError(f"split: expected one of {', '.join(self.splits)}, got {split!r}")
        filled = [name for name, index in self.splits.items() if len(index)]
        if not filled:
            raise ValueError(
                f"split: expected at least {MINIMUM_ROWS} rows to make an 80/10/10 split, got {len(self)} in "
                f"{self.origin}; give a larger file (embedding and scoring accept any number of rows)"
            )
        if split not in filled:
            raise ValueError(
                f"split: {self.origin} has no {split!r} rows, only {', '.join(filled)}; add them to the file"
            )
        return DatasetRows(self, self.splits[split])

    def all_rows(self) -> DatasetRows:
        """Return all rows, in the file's order."""
        return DatasetRows(self, np.arange(len(self), dtype=np.int64))

    @cached_property
    def context(self) -> Tensor | None:
        """The context of all rows, (rows, C), for a conditional model; None without an encoding.

        Raises:
            ValueError: a row lacks the value of a condition, or has a value that did not occur in training.
        """
        return None if self.encoding is None else self.encoding.encode(self.labels)

    def encoded_rows(self, rows: np.ndarray | slice) -> Tensor:
        """Return the context (the encoded conditions) of some rows; needs `encoding`."""
        assert self.encoding is not None
        return self.encoding.encode({name: self.labels[name][rows] for name in self.encoding.names})

    def summary(self) -> Summary:
        """Return facts about the values, for `propose_likelihood`."""
        if (known := self.known) is None:
            return summarize(self.x, self.image_shape, self.dynamic_binarization)
        if known.summary.columns != len(self.columns):  # some were left out after the pass
            return replace(self, profile=None).summary()
        drawn = {"integers": True, "binary": True, "dynamic_binarization": True} if self.dynamic_binarization else {}
        return replace(known.summary, image_shape=self.image_shape, **drawn)


class DatasetRows:
    """A view of some rows of a data set. Its batches are dense and float32 (float64 if the data set is precise).

    Example:
        >>> from priory.workbench.data import load_dataset
        >>> rows = load_dataset("digits").rows("valid")
        >>> x, index = rows.batch(torch.tensor([0, 1]))
        >>> x.shape, x.dtype, index
        (torch.Size([2, 64]), torch.float32, tensor([1000, 1001]))
    """

    def __init__(self, dataset: Dataset, indices: np.ndarray) -> None:
        import torch

        self.dataset = dataset
        self.indices = np.array(indices, dtype=np.int64)  # a copy: the tensor below shares it
        self._index = torch.from_numpy(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"DatasetRows({len(self)} of {len(self.dataset)} of {self.dataset.name!r})"

    @property
    def ids(self) -> np.ndarray:
        return self.dataset.ids[self.indices].astype(str)

    @property
    def labels(self) -> dict[str, np.ndarray]:
        return {name: values[self.indices] for name, values in self.dataset.labels.items()}

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width if a row is a gray image, row-major; else None."""
        return self.dataset.image_shape

    @property
    def dynamic_binarization(self) -> bool:
        """Whether training draws the values of these rows anew each time it reads them."""
        return self.dataset.dynamic_binarization

    @property
    def context(self) -> Callable[[Tensor], Tensor] | None:
        """A function from positions to the context of the rows there; None if the model has no conditions."""
        if self.dataset.streamed:
            return None if self.dataset.encoding is None else self._encoded
        context = self.dataset.context
        return None if context is None else lambda positions: context[self._index[positions.cpu().long()]]

    def _encoded(self, positions: Tensor) -> Tensor:
        """Return the context of some rows; the context of all streamed rows may not fit into memory."""
        return self.dataset.encoded_rows(self.indices[positions.cpu().numpy()])

    def tensor(self) -> Tensor:
        """Return all rows at once, dense (n, D); for small data."""
        return self._dense(self._index)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate in order over batches (x, row index): (b, D) and int64 (b,); the last may be smaller."""
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        import torch

        return self.read(chunk for chunk in torch.arange(len(self)).split(batch_size) if len(chunk))

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (x, row index) of the rows at these positions, 0..len-1, of the view.

        Training rows of dynamically binarized data are means in [0, 1]; the training loop draws.
        """
        index = self._index[positions.cpu().long()]
        return self._dense(index), index

    def read(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the batches at these positions; read streamed rows block by block."""
        chunks = list(chunks)
        if not self.dataset.streamed:
            yield from map(self.batch, chunks)
            return
        values = self.dataset.x.gather(lambda: (self.indices[chunk.numpy()] for chunk in chunks))
        for chunk, rows in zip(chunks, values, strict=True):
            yield self._floats(rows), self._index[chunk]

    @property
    def blocks(self) -> Blocks | None:
        """The blocks in which these rows are stored; None if they are in memory."""
        if not self.dataset.streamed:
            return None
        import torch

        from priory.rows import Blocks

        bounds = np.unique(np.searchsorted(self.indices, self.dataset.x.bounds))
        return Blocks(torch.from_numpy(bounds), self.dataset.x.row_bytes)

    def _dense(self, index: Tensor) -> Tensor:
        if self.dataset.streamed or is_sparse(self.dataset.x):
            return self._floats(self.dataset.x[index.numpy()])
        return self._shaped(self.dataset._tensor.index_select(0, index))

    def _floats(self, rows: Matrix) -> Tensor:
        import torch

        rows = rows.astype(np.float64 if self.dataset.precise else np.float32)
        return self._shaped(torch.from_numpy(rows.toarray() if is_sparse(rows) else rows))

    def _shaped(self, rows: Tensor) -> Tensor:
        import torch

        rows = rows.to(torch.float64 if self.dataset.precise else torch.float32)
        return rows if self.dataset.row_shape is None else rows.unflatten(1, self.dataset.row_shape)


def encoded(dataset: Dataset, encoding: Conditions | None) -> Dataset:
    """Return the same data with the encoding of a model's conditions.

    Raises:
        ValueError: a row lacks the value of a condition, or has a value that did not occur in training.
    """
    data = replace(dataset, encoding=encoding)
    try:
        if dataset.streamed and encoding is not None:
            for start in range(0, len(dataset), _ROWS_AT_ONCE):
                data.encoded_rows(slice(start, start + _ROWS_AT_ONCE))
        else:
            data.context  # noqa: B018, computed here
    except ValueError as error:
        raise ValueError(f"{dataset.origin}: {error}") from error
    return data


def telling_rows(dataset: Dataset) -> DatasetRows:
    """Return rows for evaluation: the test rows; with fewer than two, the validation rows; with fewer than two, all.

    A standard error needs two rows.
    """
    for split in ("test", "valid"):
        if len(dataset.splits.get(split, ())) >= 2:
            return dataset.rows(split)
    return dataset.all_rows()


def with_columns(dataset: Dataset, columns: tuple[str, ...]) -> Dataset:
    """Select the columns of a model, in its order; if some are left out, the rows are no longer images."""
    if dataset.columns == columns:
        return dataset
    order = column_order(dataset.columns, columns, dataset.origin)
    image_shape = dataset.image_shape if len(columns) == len(dataset.columns) else None
    profile = None if dataset.profile is None else dataset.profile.with_columns(order)
    return replace(dataset, x=dataset.x[:, order], columns=columns, image_shape=image_shape, profile=profile)


def column_order(columns: Sequence[str], expected: Sequence[str], origin: str) -> list[int]:
    """Return the positions of a model's columns among those of a source."""
    place = {name: i for i, name in enumerate(columns)}
    missing = [name for name in expected if name not in place]
    if missing:
        raise ValueError(
            f"{origin}: expected the {len(expected)} columns that the model was trained on, and {len(missing)} are "
            f"missing ({first_few(missing)}); it has {len(columns)} columns, beginning with {columns[0]}; add or "
            "rename them"
        )
    return [place[name] for name in expected]


def require_as_many(columns: Sequence[str], number: int, origin: str) -> None:
    """Refuse columns without names if their number differs, because they are matched by their order."""
    if len(columns) != number and all(re.fullmatch(r"x\d+", name) for name in columns):
        raise ValueError(
            f"{origin}: expected {number} columns, as many as the model was trained on, got {len(columns)}; give a "
            "file with the same columns in the same order"
        )
