"""Rows of tables with Arrow's interface (polars, pyarrow, ...). pyarrow reads them (the extra `tables`)."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from priory._support.messages import first_few
from priory._support.optional import require
from priory.rows.arrays import ArrayRows, float_dtype


@runtime_checkable
class ArrowTable(Protocol):
    """A table that can be read through Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


def arrow_rows(data: ArrowTable, argument: str) -> ArrayRows:
    """Return the rows of a table of numbers; missing cells become NaN."""
    table = require("pyarrow", "tables", "a table of this kind").table(data)
    require_numbers(table.schema, argument, "frame.select(polars.selectors.numeric())")
    return ArrayRows(_matrix(table, _dtype(table.schema)))


def _dtype(schema: Any) -> np.dtype:
    """Return the floating-point type that holds all columns."""
    kinds = (np.dtype(field.type.to_pandas_dtype()) for field in schema)
    # NumPy has decimal numbers only as Python objects.
    return np.result_type(*(np.float64 if kind.kind == "O" else float_dtype(kind) for kind in kinds))


def require_numbers(schema: Any, argument: str, cure: str) -> None:
    """Raise a ValueError that names the columns that are not real numbers."""
    others = [f"{field.name!r} ({field.type})" for field in schema if not is_number(field.type)]
    if others:
        raise ValueError(
            f"{argument}: expected columns of numbers, got {first_few(others)}; convert them, or leave them out: {cure}"
        )


def is_number(kind: Any) -> bool:
    """Return whether an Arrow type holds real numbers or truth values."""
    types = require("pyarrow", "tables", "Arrow").types
    return any(test(kind) for test in (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal))


def _matrix(table: Any, dtype: np.dtype) -> np.ndarray:
    """Return the columns of a table or of a batch as a matrix (rows, columns)."""
    kind = require("pyarrow", "tables", "Arrow").from_numpy_dtype(dtype)
    matrix = np.empty((table.num_rows, table.num_columns), dtype)
    for i, column in enumerate(table.columns):
        matrix[:, i] = column.cast(kind, safe=False).to_numpy(zero_copy_only=False)
    return matrix
