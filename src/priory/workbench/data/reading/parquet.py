"""Parquet files, and folders of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from priory._support.fragments import columns_of, require_same_columns
from priory._support.memory import require_memory
from priory._support.optional import require
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.table import Table

PARQUET = ("a complete parquet file", "write it again, or fetch it again")


def read_parquet(path: Path, as_written: Collection[str], files: Sequence[Path] = ()) -> Table:
    """Read a parquet file, all such files of a folder, or `files`; an index stored by pandas becomes the ids."""
    require("pandas", "tables", "reading .parquet files")
    source = _source(path, files)
    with foreign(path.name, *PARQUET):
        columns = columns_of(source.get_fragments())
    require_same_columns(columns)
    require_memory(parquet_size(path, files), f"{path.name}: {source.count_rows()} rows x {len(source.schema)} columns")
    with foreign(path.name, *PARQUET):
        frame = source.to_table().to_pandas()
    return Table.of_frame(frame)


def parquet_size(path: Path, files: Sequence[Path] = ()) -> int:
    """Return the size in memory, in bytes, of the table and its data frame together."""
    source = _source(path, files)
    with foreign(path.name, *PARQUET):
        return 2 * 8 * source.count_rows() * len(source.schema)


def _source(path: Path, files: Sequence[Path]) -> Any:
    dataset = require("pyarrow.dataset", "tables", "reading .parquet files").dataset
    with foreign(path.name, *PARQUET):
        names = list(map(str, files or (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])))
        return dataset(names, format="parquet", partitioning="hive", partition_base_dir=str(path))
