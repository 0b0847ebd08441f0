"""Rows of a Dask array or data frame: EM computes its sums where the blocks are.

Each pass over the rows is one Dask computation: one task for each block computes the block's sums, and further tasks
add them up in a tree. The sheet is sent once in each pass. An active client of `dask.distributed` is used; without one,
Dask's local scheduler runs the tasks in threads.
"""

import operator
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import dask
import dask.array as da
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import _check_feature_names, _check_n_features
from torch import Tensor

from priory.gtm.reader import KEPT, Batch, BlockReader, Sums, added
from priory.rows.frames import Frame, require_numbers

ADDED_AT_ONCE = 8  # tuples of sums that one task adds up


def checked_array(gtm: Any, X: Any, *, reset: bool) -> Any:
    """Return the rows as a Dask array (N, D) whose blocks are whole rows, after a check of the columns."""
    _check_feature_names(gtm, X._meta, reset=reset)
    if isinstance(X._meta, Frame):
        require_numbers(X._meta, "X")
        X = X.to_dask_array(lengths=reset or None)  # EM needs the number of rows; predictions do not
    if X.ndim != 2 or (reset and np.isnan(X.shape).any()):
        raise ValueError(
            f"X: expected a Dask array of rows, (N, D), whose chunks have known sizes, got shape {X.shape}; call "
            "X.reshape(len(X), -1), or X.compute_chunk_sizes()"
        )
    _check_n_features(gtm, X, reset=reset)
    return X.rechunk({1: -1})


def _fit_into_memory(rows: Any) -> bool:
    """Return whether the rows take less than half of the workers' memory; without a client, at most `KEPT` numbers."""
    try:
        from distributed import get_client

        workers = get_client().scheduler_info(n_workers=-1)["workers"].values()
        memory = sum(worker["memory_limit"] for worker in workers)
    except (ImportError, ValueError):  # no client
        memory = 2 * KEPT * rows.dtype.itemsize
    return bool(rows.nbytes <= memory / 2)


class DaskReader(BlockReader):
    """Rows of a Dask array; Dask computes their sums. Iteration brings the blocks to this process one by one.

    Rows that fit into the workers' memory stay there; Dask computes other rows again in each pass.

    >>> rows = DaskReader(da.ones((100, 2), chunks=(30, 2)), None, 1, torch.device("cpu"), torch.float64)
    >>> rows.total(lambda blocks: (sum(len(block.place) for block in blocks),))
    (100,)
    """

    def __init__(self, rows: Any, sample_weight: Any, num_nodes: int, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(self._fetched, num_nodes, device, dtype)
        weight = None if sample_weight is None else _as_blocks(sample_weight, rows)
        blocks = rows.to_delayed()[:, 0]
        weights = [None] * len(blocks) if weight is None else weight.to_delayed()
        parts = [dask.delayed(_checked)(x, w) for x, w in zip(blocks, weights, strict=True)]
        self._parts = dask.persist(*parts) if _fit_into_memory(rows) else parts

    def _fetched(self) -> Iterator[Batch]:
        return (part.compute() for part in self._parts)

    def centered(self, center: Float[Tensor, " input"], *, keep: bool = True) -> "DaskReader":
        rows = object.__new__(DaskReader)
        BlockReader.__init__(rows, rows._fetched, self._num_nodes, self.device, self.dtype)
        rows._parts, rows.center = self._parts, center
        return rows

    def total(self, of: Callable[[BlockReader], Sums]) -> Sums:
        # One object with its own key, so that Dask sends it to each worker once.
        sums = dask.delayed(_SumsOf(of, self._num_nodes, self.device, self.dtype, self.center))
        parts = [dask.delayed(operator.call)(sums, part) for part in self._parts]
        while len(parts) > 1:
            starts = range(0, len(parts), ADDED_AT_ONCE)
            parts = [dask.delayed(_added)(parts[start : start + ADDED_AT_ONCE]) for start in starts]
        return parts[0].compute()


class _SumsOf:
    """The sums of EM over a block, as a function of the block."""

    def __init__(self, of: Callable[[BlockReader], Sums], *reading: Any) -> None:
        self.of, self.reading = of, reading

    def __call__(self, batch: Batch) -> Sums:
        *reading, center = self.reading
        rows = BlockReader(lambda: [batch], *reading)
        rows.center = center
        return self.of(rows)


def _added(parts: list[Sums]) -> Sums:
    return reduce(added, parts)


def _as_blocks(sample_weight: Any, rows: Any) -> Any:
    """Split weights into the same blocks as the rows."""
    of_frame = hasattr(sample_weight, "to_dask_array")
    weight = sample_weight.to_dask_array(lengths=True) if of_frame else da.asarray(sample_weight)
    if weight.shape != rows.shape[:1]:
        raise ValueError(
            f"sample_weight: expected one number for each of the {len(rows)} rows, got shape {weight.shape}"
        )
    return weight.rechunk(rows.chunks[:1])


def _checked(x: Any, weight: Any) -> Batch:
    x = check_array(x, ensure_all_finite="allow-nan", ensure_min_samples=0, input_name="X")
    if weight is not None:
        options = {"ensure_2d": False, "ensure_min_samples": 0, "input_name": "sample_weight"}
        weight = check_array(weight, dtype=np.float64, **options)
        if (weight < 0).any():
            raise ValueError(f"sample_weight: expected numbers of at least 0, got {weight.min():g}")
    return Batch(x, weight)


def lazily(of_block: Callable[[NDArray[Any]], NDArray[Any]], rows: Any) -> Any:
    """A lazy Dask array of the results of `of_block` for each block of rows."""
    empty = of_block(np.zeros((1, rows.shape[1])))[:0]
    shape = {"drop_axis": 1} if empty.ndim == 1 else {"chunks": (rows.chunks[0], empty.shape[1:])}

    def of_rows(x: NDArray[Any]) -> NDArray[Any]:
        return of_block(x) if len(x) else empty

    return rows.map_blocks(of_rows, dtype=empty.dtype, meta=empty, **shape)
