"""Cells of a table: detect missing ones, and convert all to text."""

from typing import Any

import numpy as np


def missing(values: np.ndarray) -> np.ndarray:
    """Return whether each cell is missing: NaN, None, NaT, pandas' NA, or empty text.

    >>> missing(np.array([1.0, np.nan])), missing(np.array(["a", ""])), missing(np.array([3, None], dtype=object))
    (array([False,  True]), array([False,  True]), array([False,  True]))
    """
    if values.dtype.kind == "O":  # pandas' NA raises when compared; NaN and NaT differ from themselves
        cells = [v is None or type(v).__name__ == "NAType" or bool(v != v) or v in ("", b"") for v in values.ravel()]
        return np.array(cells, dtype=bool).reshape(values.shape)
    if values.dtype.kind in "US":
        return values == np.zeros((), values.dtype)
    return np.isnan(values) if values.dtype.kind in "fcmM" else np.zeros(values.shape, dtype=bool)


def as_text(values: Any) -> np.ndarray:
    """Convert one-dimensional values of any type, also a pandas column, to NumPy text; '' for a missing cell.

    NumPy's own conversion of objects, `to_numpy(dtype=str)`, writes a missing cell as 'nan' or 'None', or cuts every
    text to one letter.

    >>> as_text(["bee", None, float("nan")]), as_text(np.array([1.5, np.nan])), as_text([b"caf\\xc3\\xa9"])
    (array(['bee', '', ''], dtype='<U3'), array(['1.5', ''], dtype='<U32'), array(['café'], dtype='<U4'))
    """
    cells = np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)
    if cells.dtype.kind not in "OST":  # 0.1 in float32 is '0.1', but as an object 0.10000000149011612
        return np.where(missing(cells), "", cells.astype(str))
    texts = ["" if gone else _text(cell) for cell, gone in zip(cells.astype(object), missing(cells), strict=True)]
    return np.array(texts, dtype=str)


def _text(cell: Any) -> str:
    return cell.decode("utf-8") if isinstance(cell, bytes) else str(cell)
