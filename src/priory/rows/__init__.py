"""Rows of data, from whatever people keep them in: `fit`, `refit`, `evaluate`, `log_likelihood`, maps, the GTM.

`as_rows` makes `Rows` of a tensor, an array, a data frame, a sparse matrix, AnnData, a `Dataset`, a `DataLoader` or a
folder of Parquet files.
"""

from priory.rows.arrays import SparseMatrix
from priory.rows.arrow import ArrowTable
from priory.rows.condition import Categories, Quantity
from priory.rows.conditions import Conditions
from priory.rows.context import RowsWithContext, batches_with_context, context_at, read_with_context, with_context
from priory.rows.conversion import RowsLike, as_rows
from priory.rows.frames import AnnotatedData, Frame
from priory.rows.protocol import Rows, read_batches
from priory.rows.tensors import TensorRows

__all__ = [
    "AnnotatedData",
    "ArrowTable",
    "Categories",
    "Conditions",
    "Frame",
    "Quantity",
    "Rows",
    "RowsLike",
    "RowsWithContext",
    "SparseMatrix",
    "TensorRows",
    "as_rows",
    "batches_with_context",
    "context_at",
    "read_batches",
    "read_with_context",
    "with_context",
]
