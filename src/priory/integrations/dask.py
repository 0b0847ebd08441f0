"""Passes over the rows of Dask collections: lazy, and equal to the same pass over rows in memory.

For an array (rows, columns) in blocks of rows, the result is an array; for a data frame, a data frame with its index;
for a bag of AnnData, one item per file, a bag of data frames with the names of the observations.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from priory._support.optional import require
from priory.distributions.chain import center_of
from priory.evaluation import log_likelihood
from priory.maps.places import REACH, places_of
from priory.maps.surfaces import Surface, require_columns, surface_of
from priory.model import (
    ConditionalModel,
    LatentVariableModel,
    cast_like,
    evaluation_mode,
    given,
    posterior_of,
)
from priory.rows import Rows, as_rows, batches_with_context
from priory.rows.arrays import ArrayRows

BATCH = 1024  # rows that a model reads together
Numbers: TypeAlias = Callable[[Any, Rows], np.ndarray]  # (model, rows) -> (rows, numbers)


def embed(model: Any, data: Any) -> Any:
    """Return the center of q(z | x) of each row, or E[u | x] of a fitted GTM: columns `z_0`, `z_1`, ...

    Args:
        model: a VAE or another `LatentVariableModel`, a fitted `GTM`, or a pipeline that ends with one.
        data: a Dask array (N, D), a Dask data frame, or a bag of AnnData.

    Returns:
        A lazy collection of the same kind, (N, L).

    Raises:
        ImportError: Dask is not installed.
        TypeError: the data are of another kind.

    >>> import dask.array
    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> embed(vae, dask.array.ones((100, 6), chunks=(50, 6), dtype="float32")).compute().shape
    (100, 2)
    """
    return _over(data, _codes, model)


def score(model: Any, data: Any, *, num_samples: int = 512, seed: int = 0) -> Any:
    """Return log p(x) of each row in nats: `log_likelihood` with this seed; exact for a fitted GTM.

    The noise of a row depends on the seed and on the row's number in the array, its index in the data frame, or its
    name in AnnData. So blocks and workers do not change the numbers. Rows with equal indices have the same noise.

    Args:
        model: as for `embed`.
        data: as for `embed`.
        num_samples: importance samples per row.
        seed: seed of the noise.

    Returns:
        A lazy collection of the same kind, (N, 1), with the column `log_likelihood`.

    Raises:
        ImportError, TypeError: as for `embed`.
        ValueError: the block sizes of an array are unknown.

    >>> import dask.array
    >>> from priory import GTM
    >>> x = dask.array.random.default_rng(0).normal(size=(100, 3), chunks=(50, 3))
    >>> gtm = GTM(points_per_side=4).fit(x.compute())
    >>> bool(np.allclose(score(gtm, x)[:, 0], gtm.score_samples(x.compute())))
    True
    """
    return _over(data, partial(_scores, num_samples=num_samples, seed=seed), model, ["log_likelihood"])


def places(map: Any, data: Any) -> Any:
    """Return each row's position on a map: columns `u1`, `u2`, ..., equal to `TopographicMap.places.place`.

    Args:
        map: a model with a grid, a fitted `GTM`, a pipeline that ends with one, or a `TopographicMap`.
        data: as for `embed`.

    Returns:
        A lazy collection of the same kind, (N, C).

    Raises:
        ImportError, TypeError: as for `embed`.
        ValueError: the model has no grid.

    >>> import dask.array
    >>> from priory import GTM
    >>> x = dask.array.random.default_rng(0).normal(size=(100, 3), chunks=(50, 3))
    >>> places(GTM(points_per_side=4).fit(x.compute()), x).compute().shape
    (100, 2)
    """
    surface = surface_of(getattr(map, "surface", map))
    names = [f"u{axis}" for axis in range(1, surface.nodes.shape[1] + 1)]
    return _over(data, partial(_places, reach=getattr(map, "reach", REACH)), surface, names)


def _over(data: Any, numbers: Callable[[Any, Rows], np.ndarray], model: Any, names: Sequence[str] | None = None) -> Any:
    """Return a lazy collection of numbers for each row; the model is one node of the graph, sent once per worker."""
    dask = require("dask", "scale", "a Dask collection")
    shared = dask.delayed(model, pure=True)
    kind = type(data).__name__ if hasattr(data, "__dask_graph__") else f"{type(data).__module__}.{type(data).__name__}"
    if kind == "Array" and data.ndim > 1:
        if any(map(np.isnan, data.chunks[0])):
            raise ValueError(
                "data: expected an array with known block sizes, because rows are numbered across blocks, got "
                "unknown ones; call data.compute_chunk_sizes()"
            )
        data = data.rechunk(dict.fromkeys(range(1, data.ndim), -1))
        example = _of_array(np.zeros((1, *data.shape[1:]), data.dtype), numbers, model)
        return data.map_blocks(
            _of_array,
            numbers,
            model=shared,
            chunks=(data.chunks[0], (example.shape[1],)),
            drop_axis=list(range(2, data.ndim)),
            meta=example[:0],
            dtype=example.dtype,
        )
    if kind == "DataFrame":
        example = _of_frame(data._meta_nonempty, numbers, model, names)
        return data.map_partitions(_of_frame, numbers, shared, names, meta=example.iloc[:0])
    if kind == "Bag":
        return data.map(_of_annotated, numbers=numbers, model=shared, names=names)
    raise TypeError(
        f"data: expected a Dask array of rows (N, D), a Dask data frame, or a bag of AnnData, got {kind}; other rows "
        "are read in this process: priory.log_likelihood, priory.TopographicMap, model.encode"
    )


def _of_array(block: np.ndarray, numbers: Numbers, model: Any, block_info: Any = None) -> np.ndarray:
    if len(block) == 0:
        return _of_array(np.zeros((1, *block.shape[1:]), block.dtype), numbers, model)[:0]
    first = block_info[0]["array-location"][0][0] if block_info else 0
    return numbers(model, ArrayRows(block, ids=range(first, first + len(block))))


def _of_frame(frame: Any, numbers: Numbers, model: Any, names: Sequence[str] | None) -> Any:
    index = frame.index
    if len(frame) == 0:
        frame = frame.reindex([0], fill_value=0)
    values = numbers(model, as_rows(frame, "data"))[: len(index)]
    return require("pandas", "tables", "a data frame").DataFrame(values, index=index, columns=_named(values, names))


def _of_annotated(data: Any, numbers: Numbers, model: Any, names: Sequence[str] | None) -> Any:
    values = numbers(model, as_rows(data, "data"))
    frame = require("pandas", "tables", "a data frame").DataFrame
    return frame(values, index=data.obs_names, columns=_named(values, names))


def _named(values: np.ndarray, names: Sequence[str] | None) -> Sequence[str]:
    return [f"z_{i}" for i in range(values.shape[1])] if names is None else names


@torch.no_grad()
def _codes(model: Any, rows: Rows) -> np.ndarray:
    if not isinstance(model, LatentVariableModel | ConditionalModel):
        surface = _surface(model, rows)
        shares = (surface.responsibilities(x) for x, _ in batches_with_context(rows, BATCH))
        return np.concatenate([(share @ surface.nodes).numpy() for share in shares])
    with evaluation_mode(model):
        batches = batches_with_context(rows, BATCH)
        parts = [center_of(posterior_of(given(model, context), cast_like(x, model))) for x, context in batches]
    return torch.cat(parts).cpu().numpy()


def _scores(model: Any, rows: Rows, *, num_samples: int, seed: int) -> np.ndarray:
    if isinstance(model, LatentVariableModel | ConditionalModel):
        return log_likelihood(model, rows, num_samples=num_samples, seed=seed).cpu().numpy()[:, None]
    surface = _surface(model, rows)
    return np.concatenate([surface.log_likelihood(x).numpy() for x, _ in batches_with_context(rows, BATCH)])[:, None]


def _surface(model: Any, rows: Rows) -> Surface:
    surface = surface_of(model)
    require_columns(surface, rows, "data")
    return surface


def _places(surface: Surface, rows: Rows, *, reach: float) -> np.ndarray:
    require_columns(surface, rows, "data")
    shares = (given(surface, context).responsibilities(x) for x, context in batches_with_context(rows, BATCH))
    return np.concatenate([places_of(share, surface.nodes, reach).place.numpy() for share in shares])
