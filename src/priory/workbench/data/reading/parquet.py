"""Parquet files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from priory._support.memory import require_memory
from priory._support.optional import require
from priory.workbench.data.reading.foreign import foreign
from priory.workbench.data.reading.table import Table, as_values

_PARQUET = ("a complete parquet file", "write it again, or fetch it again")


def read_parquet(path: Path, as_written: Collection[str]) -> Table:
    """Read a parquet table; an index that pandas stored becomes the ids."""
    parquet = require("pyarrow.parquet", "tables", "reading .parquet files")
    pandas = require("pandas", "tables", "reading .parquet files")
    with foreign(path.name, *_PARQUET):
        size = parquet.read_metadata(path)
    require_memory(
        2 * 8 * size.num_rows * size.num_columns, f"{path.name}: {size.num_rows} rows x {size.num_columns} columns"
    )
    with foreign(path.name, *_PARQUET):
        frame = pandas.read_parquet(path, engine="pyarrow")
    return Table(frame, ids=None if isinstance(frame.index, pandas.RangeIndex) else as_values(frame.index))
