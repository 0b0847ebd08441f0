"""From a pandas DataFrame to a matrix of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from priory._support.messages import shortened

_SHOWN_COLUMNS = 5
_TOO_LARGE = 2.0**63  # integers from here on do not fit into 64 bits, and are not rounded to real numbers
_SHOWN_DIGITS = 24


def is_frame(matrix: Any) -> bool:
    """Whether it is a DataFrame; pandas is optional and is not imported to ask."""
    return hasattr(matrix, "iloc")


def numbers_of(frame: Any, name: str, is_text: bool = False) -> np.ndarray:
    """The values of a DataFrame as numbers; missing ones become NaN."""
    from pandas.api.types import is_numeric_dtype

    others = [i for i, dtype in enumerate(frame.dtypes) if not is_numeric_dtype(dtype) or dtype.kind == "c"]
    if others:
        examples = [
            f"{shortened(str(frame.columns[i]))!r} holds {_example(frame.iloc[:, i])}" for i in others[:_SHOWN_COLUMNS]
        ]
        more = f"; ... ({len(others)} columns)" if len(others) > _SHOWN_COLUMNS else ""
        raise ValueError(
            f"{name}: expected numbers, got other values: {'; '.join(examples)}{more}. Correct them, or say what these "
            "columns are: --labels COLUMN for labels, --ids COLUMN for row names, --drop COLUMN to leave one out"
        )
    kinds = {np.dtype(getattr(dtype, "numpy_dtype", dtype)).kind for dtype in frame.dtypes}
    nullable = any(hasattr(dtype, "numpy_dtype") for dtype in frame.dtypes)  # pandas' own types hold NA
    return frame.to_numpy(dtype=np.float64, na_value=np.nan) if nullable or kinds > {"b"} else frame.to_numpy()


def _example(column: Any) -> str:
    """Text that names a value that is no number, and its row."""
    import pandas

    numbers = pandas.to_numeric(column.astype(str), errors="coerce")
    texts = column[numbers.isna() & column.notna()]
    if texts.empty and (numbers.abs() >= _TOO_LARGE).any():  # pandas keeps such integers as text
        row = int((numbers.abs() >= _TOO_LARGE).to_numpy().argmax())
        text = shortened(str(column.iloc[row]), _SHOWN_DIGITS)
        return (
            f"{text!r} in row {row + 1}, a whole number of more than 64 bits: written as {numbers.iloc[row]:g} it fits"
        )
    if texts.empty:  # such as dates, or only empty cells
        return f"values of type {column.dtype}"
    row = int((numbers.isna() & column.notna()).to_numpy().argmax()) + 1
    return f"{shortened(str(texts.iloc[0]))!r} in row {row} ({len(texts)} of {len(column)} values are not numbers)"
