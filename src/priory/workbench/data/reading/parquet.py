"""Parquet files, and folders of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from priory._support.memory import require_memory
from priory._support.optional import require
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.table import Table

_PARQUET = ("a complete parquet file", "write it again, or fetch it again")


def read_parquet(path: Path, as_written: Collection[str]) -> Table:
    """Read a parquet table, or all in a folder by name; an index that pandas stored becomes the ids."""
    dataset = require("pyarrow.dataset", "tables", "reading .parquet files").dataset
    require("pandas", "tables", "reading .parquet files")
    files = parquet_files(path) if path.is_dir() else [str(path)]
    with foreign(path.name, *_PARQUET):
        source = dataset(files, format="parquet", partitioning="hive", partition_base_dir=str(path))
        rows, columns = source.count_rows(), len(source.schema)
    require_memory(2 * 8 * rows * columns, f"{path.name}: {rows} rows x {columns} columns")
    with foreign(path.name, *_PARQUET):
        frame = source.to_table().to_pandas()
    return Table.of_frame(frame)


def parquet_files(folder: Path) -> list[str]:
    """The .parquet files in a folder and the folders in it, by name."""
    return sorted(map(str, folder.rglob("*.parquet")))
