"""Tables that scikit-learn cannot read: AnnData, datasets, folders of Parquet files."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from priory.rows import AnnotatedData, Rows, RowsLike, SparseMatrix, as_rows

TableLike: TypeAlias = ArrayLike | RowsLike


class RowsTable:
    """Rows as a table (N, D) that is read when it is sliced; rows of another shape are flattened.

    >>> table = RowsTable(as_rows(torch.arange(6.0).reshape(3, 2), "X"))
    >>> table.shape, table[1:].tolist()
    ((3, 2), [[2.0, 3.0], [4.0, 5.0]])
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.shape = len(rows), rows.batch(torch.zeros(1, dtype=torch.int64))[0].numel()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> NDArray[Any]:
        positions = torch.arange(*part.indices(len(self))) if isinstance(part, slice) else torch.from_numpy(part)
        x = self.rows.batch(positions)[0].flatten(1).double().cpu().numpy()
        return check_array(x, ensure_all_finite="allow-nan", input_name="X")


def is_dask(X: Any) -> bool:
    """Return whether X is a Dask array or data frame.

    >>> is_dask(np.zeros((3, 2)))
    False
    """
    return hasattr(X, "__dask_graph__")


def as_table(X: Any) -> Any:
    """Return rows that scikit-learn reads, such as an array or a data frame, unchanged; others as a `RowsTable`.

    Images in a tensor are flattened, too.
    """
    if isinstance(X, Tensor):  # latents, for example from an encoder
        X = X.detach().cpu()
        X = X.float() if X.dtype == torch.bfloat16 else X  # NumPy has no bfloat16
        return X.flatten(1) if X.ndim > 2 else X
    if isinstance(X, SparseMatrix):  # scikit-learn's checks require this error
        raise TypeError(
            "X: expected dense rows, got a sparse matrix; give priory.rows.as_rows(X, 'X'), which is read block by "
            "block, or X.toarray()"
        )
    others = AnnotatedData | Dataset | DataLoader | str | Path | Rows
    return RowsTable(as_rows(X, "X")) if isinstance(X, others) else X
