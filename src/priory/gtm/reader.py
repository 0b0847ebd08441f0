"""Read numeric rows in blocks, as often as EM needs them; cells may be missing."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from priory.density.isotropic import MaskedRows

NUMBERS_AT_ONCE = 2**19  # b x K numbers of a block on the CPU, which fit into its caches
NUMBERS_AT_ONCE_ELSEWHERE = 2**25
ROWS_AT_LEAST = 64  # fewer rows make slow matrix products
COPIED_AT_ONCE = 2**22  # b x D numbers that are centered at a time
LOOKED_AT_ONCE = 1024  # rows read at a time to find out whether a table is small
KEPT = 2**25  # N x D numbers of centered rows that stay in memory between passes
KEPT_ELSEWHERE = 2**29

Sums: TypeAlias = tuple[Any, ...]  # of numbers and tensors


def added(first: Sums, second: Sums) -> Sums:
    """Return the sum of two tuples, part by part; None counts as zero, and truth values are combined by `or`.

    >>> added((1, None), (2, torch.tensor([True])))
    (3, tensor([True]))
    """
    pairs = zip(first, second, strict=True)
    return tuple(b if a is None else a if b is None else a + b for a, b in pairs)


class Block(NamedTuple):
    """Some rows: either all complete, or each with a missing cell."""

    place: Int[Tensor, " point"]  # indices among all rows
    rows: MaskedRows  # minus the center
    squares: Float[Tensor, " point"]  # sum of squares of the observed cells
    cells: Float[Tensor, " point"] | int  # number of observed cells
    weight: Float[Tensor, " point"]


class Batch(NamedTuple):
    """Rows of the source, (b, D), NaN in missing cells; and their weights, (b,), or None if all are 1."""

    x: Any
    weight: Any = None


class BlockReader:
    """Iterable over blocks of rows: each time it reads the source, subtracts a center and moves rows to a device.

    EM needs `num_nodes` numbers for each row, which determines the size of a block.
    """

    def __init__(
        self, batches: Callable[[], Iterable[Batch]], num_nodes: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.batches, self._num_nodes = batches, num_nodes
        self.device, self.dtype = device, dtype
        self.center: Float[Tensor, " input"] | None = None
        self._kept: list[Block] | None = None

    def centered(self, center: Float[Tensor, " input"], *, keep: bool = True) -> "BlockReader":
        """Return the same rows minus another center; small data stay in memory."""
        rows = BlockReader(self.batches, self._num_nodes, self.device, self.dtype)
        rows.center = center
        rows._kept = rows._within(KEPT if self.device.type == "cpu" else KEPT_ELSEWHERE) if keep else None
        return rows

    def table(self, most: Callable[[int], float]) -> Batch | None:
        """Return the rows with a cell and a weight, in float64; None if their total weight exceeds `most(columns)`."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        total = 0.0
        for source, weight in self.batches():
            for first in range(0, len(source), LOOKED_AT_ONCE):
                part = slice(first, first + LOOKED_AT_ONCE)
                x = np.array(source[part], dtype=np.float64)
                original = np.ones(len(x)) if weight is None else np.asarray(weight[part], dtype=np.float64)
                weights = np.where(np.isnan(x).all(1), 0.0, original)
                total += float(weights.sum())
                if total > most(x.shape[1]):
                    return None
                parts.append((x[weights > 0], weights[weights > 0]))
        return Batch(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def of(self, batch: Batch) -> "BlockReader":
        """Return a reader of other rows with the same settings."""
        return BlockReader(lambda: [batch], self._num_nodes, self.device, self.dtype)

    def total(self, of: Callable[["BlockReader"], Sums]) -> Sums:
        """Return sums over all rows; `of` computes those of some rows."""
        return of(self)

    def __iter__(self) -> Iterator[Block]:
        return self._read() if self._kept is None else iter(self._kept)

    def _within(self, most: int) -> list[Block] | None:
        """Return all blocks, or None if they have more than `most` numbers."""
        blocks, numbers = [], 0
        for block in self._read():
            numbers += block.rows.x.numel() * (1 if block.rows.present is None else 2)
            if numbers > most:
                return None
            blocks.append(block)
        return blocks

    def _read(self) -> Iterator[Block]:
        numbers = NUMBERS_AT_ONCE if self.device.type == "cpu" else NUMBERS_AT_ONCE_ELSEWHERE
        copied = COPIED_AT_ONCE * numbers // NUMBERS_AT_ONCE
        start = 0
        for x, weight in self.batches():
            size = max(1, min(max(ROWS_AT_LEAST, numbers // self._num_nodes), copied // x.shape[1]))
            for first in range(0, len(x), size):
                part = slice(first, first + size)
                rows = self._tensor(x[part])
                rows = (rows if self.center is None else rows.sub_(self.center)).to(self.dtype)
                weights = rows.new_ones(len(rows)) if weight is None else self._tensor(weight[part]).to(self.dtype)
                yield from self._blocks(rows, weights, start + first)
            start += len(x)

    def _tensor(self, values: Any) -> Tensor:
        """Return a float64 copy of numbers of any type and byte order; float32 is too imprecise before centering."""
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(self.device)

    def _blocks(self, x: Tensor, weight: Tensor, start: int) -> Iterator[Block]:
        """Yield a block of the complete rows and a block of the others."""
        place = torch.arange(start, start + len(x), device=self.device)
        missing = x.isnan()
        some = missing.any(-1)
        if not bool(some.any()):
            yield Block(place, MaskedRows(x, None), x.square().sum(-1), x.shape[1], weight)
            return
        for incomplete, which in ((False, ~some), (True, some)):
            if bool(which.any()):
                part, absent, weights = x[which].nan_to_num_(0.0), missing[which], weight[which]
                present = (~absent).to(x.dtype) if incomplete else None
                cells = x.shape[1] if present is None else present.sum(-1)
                if incomplete:
                    weights = weights * ~absent.all(-1)  # a row without any cell does not count
                yield Block(place[which], MaskedRows(part, present), part.square().sum(-1), cells, weights)
