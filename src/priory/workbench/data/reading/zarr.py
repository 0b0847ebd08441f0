"""Zarr folders: AnnData, or one array."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from priory._support.memory import require_memory
from priory._support.optional import require
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.h5ad import annotated_table
from priory.workbench.data.reading.matrices import as_rows
from priory.workbench.data.reading.table import Table

ZARR = ("a complete zarr folder", "write it again with anndata or zarr, or fetch it again")


def read_zarr(path: Path, as_written: Collection[str]) -> Table:
    """Read AnnData, or one array of rows or gray images, from a zarr folder."""
    require_memory(zarr_size(path), path.name)
    with foreign(path.name, *ZARR):
        store = require("zarr", "anndata", "reading zarr").open(path, mode="r")
        if not hasattr(store, "shape"):
            return annotated_table(require("anndata", "anndata", "reading zarr").read_zarr(path))
        array = store[:]
    matrix, image_shape = as_rows(array, path.name)
    return Table(matrix, image_shape=image_shape)


def zarr_size(path: Path) -> int:
    """Return the size of all arrays in memory, in bytes."""
    with foreign(path.name, *ZARR):
        store = require("zarr", "anndata", "reading zarr").open(path, mode="r")
        if hasattr(store, "shape"):
            return int(store.nbytes)
        return sum(int(node.nbytes) for _, node in store.members(max_depth=None) if hasattr(node, "nbytes"))
