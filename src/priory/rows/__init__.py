"""Rows of data, from whatever people keep them in: `fit`, `refit`, `evaluate`, `log_likelihood`, maps, the GTM.

`as_rows` makes `Rows` of a tensor, an array, a data frame, a sparse matrix, AnnData, a `Dataset`, a `DataLoader` or a
folder of Parquet files.
"""

from priory.rows.arrays import SparseMatrix
from priory.rows.arrow import ArrowTable
from priory.rows.conversion import RowsLike, as_rows
from priory.rows.frames import AnnotatedData, Frame
from priory.rows.protocol import Rows, read_batches
from priory.rows.tensors import TensorRows

__all__ = [
    "AnnotatedData",
    "ArrowTable",
    "Frame",
    "Rows",
    "RowsLike",
    "SparseMatrix",
    "TensorRows",
    "as_rows",
    "read_batches",
]
