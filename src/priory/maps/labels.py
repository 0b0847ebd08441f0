"""Labels: classes or measurements."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

MOST_NUMERIC_CLASSES = 50  # with more distinct whole numbers, a label is a measurement


def classes(labels: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the first label that is not a measurement, as text, '' for rows without it; None if there is none.

    >>> classes({"kind": np.array([2.0, np.nan, 1.0])}).tolist()
    ['2', '', '1']
    >>> classes({"weight": np.array([0.5, 1.5])}) is None
    True
    """
    candidates = (as_classes(values) for values in labels.values())
    return next((kinds for kinds in candidates if kinds is not None), None)


def as_classes(values: np.ndarray) -> np.ndarray | None:
    """Return a label as text, '' for rows without one; None for measurements."""
    if values.dtype.kind not in "iuf":
        return values
    there = np.isfinite(values)
    kinds = np.unique(values[there])
    if len(kinds) > MOST_NUMERIC_CLASSES or (kinds != np.rint(kinds)).any():
        return None
    return np.array([f"{value:.0f}" if known else "" for value, known in zip(values, there, strict=True)])


def as_labels(values: Any) -> np.ndarray:
    """Convert values to numbers or texts; None and missing values become NaN or ''.

    >>> as_labels(["a", None, float("nan")]), as_labels([1, None])
    (array(['a', '', ''], dtype='<U1'), array([ 1., nan]))
    """
    array = np.asarray(values, dtype=object if isinstance(values, list | tuple) else None)
    if array.dtype != object or array.ndim != 1:
        return array
    known = [not (each is None or type(each).__name__ == "NAType" or each != each) for each in array]
    if all(isinstance(each, Real) for each in array[known]):
        return np.array([float(each) if there else np.nan for each, there in zip(array, known, strict=True)])
    return np.array([str(each) if there else "" for each, there in zip(array, known, strict=True)])
