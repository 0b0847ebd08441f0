"""Data in Python objects: a data frame, an array, AnnData, a sparse matrix, a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from priory._support.optional import require
from priory.rows import AnnotatedData, ArrowTable, Frame, SparseMatrix, as_rows
from priory.workbench.data.reading.h5ad import annotated_table
from priory.workbench.data.reading.matrices import as_rows as as_matrix
from priory.workbench.data.reading.table import Table

_ROWS_AT_ONCE = 1024


def table_of(source: Any) -> Table:
    """Return the content of an object as a table; read objects without columns, such as datasets, whole."""
    if isinstance(source, Frame) and source.iloc.ndim == 2:
        return Table.of_frame(source)
    if isinstance(source, AnnotatedData):
        return annotated_table(source)
    if isinstance(source, SparseMatrix):
        return Table(source.tocsr())
    if isinstance(source, ArrowTable) and not isinstance(source, Frame):  # a Series of pandas 3 matches both
        return Table.of_frame(require("pyarrow", "tables", "a table of this kind").table(source).to_pandas())
    array = source if isinstance(source, np.ndarray) else _array(source)
    matrix, image_shape = as_matrix(array, type(source).__name__)
    return Table(matrix, image_shape=image_shape)


def _array(source: Any) -> np.ndarray:
    """Return the rows of any other object as an array; a tensor keeps its dtype."""
    if isinstance(source, torch.Tensor) and source.dtype != torch.bfloat16:  # NumPy lacks it
        return source.detach().cpu().numpy()
    return torch.cat([x for x, _ in as_rows(source, "source").batches(_ROWS_AT_ONCE)]).numpy()
