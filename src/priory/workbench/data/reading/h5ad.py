"""AnnData's files, checked before HDF5 reads their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from priory._support.optional import require
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.hdf5 import H5AD, check_h5
from priory.workbench.data.reading.matrices import Matrix, checked_csr
from priory.workbench.data.reading.table import Claims, Table, as_values, listed, met_claims


def read_h5ad(path: Path, claims: Claims) -> Table:
    """AnnData: `X` or a layer, ids from obs_names, labels from obs, columns from var_names."""
    anndata = require("anndata", "anndata", "reading .h5ad files")
    check_h5(path)
    with foreign(path.name, *H5AD):
        data = anndata.read_h5ad(path)
    layer = None if "layer" in claims.optional and claims.layer not in data.layers else claims.layer
    matrix = _layer(data, layer, path.name)
    columns = tuple(map(str, data.var_names))
    claims = met_claims(claims, [*data.obs.columns, *columns], path.name)
    for name in claims.drop:
        if name not in columns and "drop" not in claims.optional:
            raise ValueError(f"drop: {name!r} is a column of obs, which is not part of the matrix; leave it out")
    side = {name: as_values(data.obs[name]) for name in claims.names() if name in data.obs.columns}
    return Table(matrix, columns, side, (), as_values(data.obs_names))


def _layer(data: Any, layer: str | None, name: str) -> Matrix:
    if layer is not None and layer not in data.layers:
        raise ValueError(f"layer: expected one of {name}'s layers ({listed(data.layers)}), got {layer!r}")
    matrix = data.X if layer is None else data.layers[layer]
    if matrix is None:
        raise ValueError(f"{name}: expected a matrix X, got none; name a layer with --layer ({listed(data.layers)})")
    if isinstance(matrix, np.ndarray):
        return matrix
    return checked_csr(matrix, name)
