"""What a label is good for: classes to tell apart, or a number to shade by."""

from collections.abc import Mapping

import numpy as np

MOST_CLASSES = 50  # of numbers; more are measurements


def classes(labels: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The first label that is no measurement, as text, '' where a row has none; None where there is none.

    >>> classes({"kind": np.array([2.0, np.nan, 1.0])}).tolist()
    ['2', '', '1']
    >>> classes({"weight": np.array([0.5, 1.5])}) is None
    True
    """
    found = (as_classes(values) for values in labels.values())
    return next((kinds for kinds in found if kinds is not None), None)


def as_classes(values: np.ndarray) -> np.ndarray | None:
    """A label as text, '' where a row has none; None for measurements."""
    if values.dtype.kind not in "iuf":
        return values
    there = np.isfinite(values)
    kinds = np.unique(values[there])
    if len(kinds) > MOST_CLASSES or (kinds != np.rint(kinds)).any():
        return None
    return np.array([f"{value:.0f}" if known else "" for value, known in zip(values, there, strict=True)])
