"""AnnData files, checked before HDF5 reads their values."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from priory._support.memory import require_memory
from priory._support.optional import require
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.table import Table, as_values, listed

H5AD = ("a complete .h5ad file", "write it again with anndata, or fetch it again")


def read_h5ad(path: Path, as_written: Collection[str]) -> Table:
    """Read AnnData: `X` and layers, ids from obs_names, columns from var_names, side columns from obs."""
    anndata = require("anndata", "anndata", "reading .h5ad files")
    require_memory(check_content(path), path.name)
    with foreign(path.name, *H5AD):
        data = anndata.read_h5ad(path)
    return annotated_table(data)


def annotated_table(data: Any) -> Table:
    """Return the content of AnnData as a table; read it whole if it is in a file."""
    data = data.to_memory() if data.isbacked else data
    return Table(
        data.X,
        tuple(map(str, data.var_names)),
        side={str(name): data.obs[name] for name in data.obs.columns},
        ids=as_values(data.obs_names),
        layers={name: layer for name, layer in data.layers.items() if name is not None},  # anndata 0.13 lists X as None
    )


def check_content(path: Path) -> int:
    """Refuse a file that links to values in other files; return the size of its values in bytes."""
    require("anndata", "anndata", "reading .h5ad files")
    h5py = require("h5py", "anndata", "reading .h5ad files")
    outside: list[str] = []
    sizes: list[int] = []

    def check_node(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            sizes.append(node.size * node.dtype.itemsize if node.size else 0)
            if node.is_virtual or node.external:
                outside.append(name)

    def check_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            outside.append(name)

    with foreign(path.name, *H5AD), h5py.File(path, "r") as file:
        file.visititems_links(check_link)
        file.visititems(check_node)
    if outside:
        raise ValueError(
            f"{path.name}: expected an .h5ad file that contains its values, got links to other files "
            f"({listed(outside)}); write it again with anndata"
        )
    return sum(sizes)
