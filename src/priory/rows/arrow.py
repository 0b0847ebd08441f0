"""Rows of tables that speak Arrow's interface (polars, pyarrow, ...) and of folders of Parquet files.

pyarrow reads both; it comes with the extra `tables`.
"""

import tempfile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from priory._support.messages import first_few, shortened
from priory._support.optional import require
from priory.rows.arrays import ArrayRows, float_dtype


@runtime_checkable
class ArrowTable(Protocol):
    """A table that can be read through Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def arrow_rows(data: ArrowTable, argument: str) -> ArrayRows:
    """Return the rows of a table of numbers; missing cells become NaN."""
    table = require("pyarrow", "tables", "a table of this kind").table(data)
    return ArrayRows(_matrix(table, _dtype(table.schema, argument, "frame.select(polars.selectors.numeric())")))


def parquet_rows(folder: str | Path, argument: str) -> ArrayRows:
    """Return the rows of all .parquet files in a folder, in the order of their names.

    Parquet cannot be read row by row. So the numbers are decoded once, into a temporary file that is mapped into
    memory.
    """
    files = sorted(map(str, Path(folder).rglob("*.parquet")))
    if not files:
        raise ValueError(
            f"{argument}: expected a folder of .parquet files, got {str(folder)!r}, which has none; of another file or "
            f"an embedded data set give priory.load_dataset({str(folder)!r}).all_rows()"
        )
    arrow = require("pyarrow.dataset", "tables", "a folder of Parquet files")
    try:
        source = arrow.dataset(files, format="parquet", partitioning="hive", partition_base_dir=str(folder))
        return ArrayRows(_mapped(source, _dtype(source.schema, argument, "priory.load_dataset(folder, drop=[...])")))
    except require("pyarrow", "tables", "Parquet").ArrowException as error:
        raise ValueError(
            f"{argument}: expected .parquet files with the same columns in {str(folder)!r}, got a damaged file or "
            f"other columns ({shortened(str(error), 300)}); write the file again"
        ) from error


def _mapped(source: Any, dtype: np.dtype) -> np.ndarray:
    """The values of a data set of Arrow's in a temporary file, which is deleted when nothing uses it anymore."""
    shape = source.count_rows(), len(source.schema)
    with tempfile.TemporaryFile() as file:
        for batch in source.to_batches():
            file.write(_matrix(batch, dtype).data)
        file.flush()
        return np.memmap(file, dtype, "r", shape=shape) if all(shape) else np.empty(shape, dtype)


def _dtype(schema: Any, argument: str, cure: str) -> np.dtype:
    """The type of floats that holds all columns."""
    others = [f"{field.name!r} ({field.type})" for field in schema if not _is_number(field.type)]
    if others:
        raise ValueError(
            f"{argument}: expected columns of numbers, got {first_few(others)}; convert them, or leave them out: {cure}"
        )
    kinds = (np.dtype(field.type.to_pandas_dtype()) for field in schema)
    # decimal numbers are Python's objects in NumPy
    return np.result_type(*(np.float64 if kind.kind == "O" else float_dtype(kind) for kind in kinds))


def _is_number(kind: Any) -> bool:
    types = require("pyarrow", "tables", "Arrow").types
    return any(test(kind) for test in (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal))


def _matrix(table: Any, dtype: np.dtype) -> np.ndarray:
    """The columns of a table or a batch of one, (rows, columns)."""
    kind = require("pyarrow", "tables", "Arrow").from_numpy_dtype(dtype)
    matrix = np.empty((table.num_rows, table.num_columns), dtype)
    for i, column in enumerate(table.columns):
        matrix[:, i] = column.cast(kind, safe=False).to_numpy(zero_copy_only=False)
    return matrix
