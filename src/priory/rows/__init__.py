"""Rows of data in any common form, for `fit`, `refit`, `evaluate`, `log_likelihood`, maps and the GTM.

`as_rows` makes `Rows` from a tensor, an array, a data frame, a sparse matrix, AnnData, a `Dataset`, a `DataLoader` or a
folder of Parquet files.
"""

from priory.rows.arrays import SparseMatrix
from priory.rows.arrow import ArrowTable
from priory.rows.condition import Categories, Quantity
from priory.rows.conditions import Conditions
from priory.rows.context import RowsWithContext, batches_with_context, context_at, read_with_context, with_context
from priory.rows.conversion import RowsLike, as_rows
from priory.rows.frames import AnnotatedData, Frame
from priory.rows.parquet import ParquetMatrix
from priory.rows.protocol import Blocks, Rows, read_batches
from priory.rows.stored import SlicedMatrix, StoredMatrix, StoredRows
from priory.rows.tensors import TensorRows

__all__ = [
    "AnnotatedData",
    "ArrowTable",
    "Blocks",
    "Categories",
    "Conditions",
    "Frame",
    "ParquetMatrix",
    "Quantity",
    "Rows",
    "RowsLike",
    "RowsWithContext",
    "SlicedMatrix",
    "SparseMatrix",
    "StoredMatrix",
    "StoredRows",
    "TensorRows",
    "as_rows",
    "batches_with_context",
    "context_at",
    "read_batches",
    "read_with_context",
    "with_context",
]
