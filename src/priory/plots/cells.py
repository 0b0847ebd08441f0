"""Points counted in the cells of a regular grid over a window: a picture whose size does not grow with their number."""

import numpy as np


def cell_counts(points: np.ndarray, low: np.ndarray, high: np.ndarray, cells: int) -> np.ndarray:
    """How many points (n, 2) lie in each of cells x cells cells between two corners; shape (line, column), y upwards.

    Points outside are not counted; those on the upper or right edge are.
    """
    return _sums(points, None, low, high, cells)


def cell_means(
    points: np.ndarray, values: np.ndarray, low: np.ndarray, high: np.ndarray, cells: int
) -> np.ma.MaskedArray:
    """The mean value of the points in each cell, masked where there are none."""
    counts = _sums(points, None, low, high, cells)
    return np.ma.masked_array(_sums(points, values, low, high, cells) / np.maximum(counts, 1), counts == 0)


def _sums(points: np.ndarray, values: np.ndarray | None, low: np.ndarray, high: np.ndarray, cells: int) -> np.ndarray:
    inside = ((points >= low) & (points <= high)).all(axis=1)
    place = np.minimum(((points[inside] - low) / (high - low) * cells).astype(int), cells - 1)
    weights = None if values is None else values[inside]
    sums = np.bincount(place[:, 1] * cells + place[:, 0], weights, minlength=cells**2)
    return sums.reshape(cells, cells).astype(float)
