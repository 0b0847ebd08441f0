"""Columns with the same value in all rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from priory._support.messages import first_few
from priory.workbench.data.dataset import DatasetRows
from priory.workbench.data.reading.matrices import ends_of, is_one_value

_LISTED_COLUMNS = 5


def constant_columns(rows: DatasetRows) -> dict[str, float]:
    """Return the columns that have one value in all of these rows, up to rounding in float64, with that value.

    Missing cells are ignored.

    >>> from priory.workbench.data import load_dataset
    >>> list(constant_columns(load_dataset("digits").rows("train")))
    ['x0', 'x32', 'x39']
    """
    known = rows.dataset.known
    if known is not None and np.array_equal(rows.indices, rows.dataset.splits["train"]):
        low, high = known.train_ends
    else:
        low, high = ends_of(rows.dataset.x, rows.indices)
    return {rows.dataset.columns[i]: float(low[i]) for i in np.flatnonzero(is_one_value(low, high))}


def describe_constants(constants: Mapping[str, float]) -> str:
    """List columns and their values for a message.

    >>> describe_constants({"a": 0.0, "b": 2.5})
    "'a' = 0, 'b' = 2.5"
    """
    return first_few([f"{name!r} = {value:g}" for name, value in constants.items()], _LISTED_COLUMNS)
