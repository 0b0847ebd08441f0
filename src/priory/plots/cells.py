"""Points counted in the cells of a regular grid: a picture whose size does not depend on the number of points."""

import numpy as np


def cell_sums(
    points: np.ndarray, low: np.ndarray, high: np.ndarray, cells: int, values: np.ndarray | None = None
) -> np.ndarray:
    """Count the points (n, 2) in each of cells x cells cells between two corners, or sum their values.

    The shape is (line, column), with y upwards. Points outside do not count; points on the upper or right edge do.
    """
    window = [(low[1], high[1]), (low[0], high[0])]
    return np.histogram2d(points[:, 1], points[:, 0], cells, window, weights=values)[0]


def cell_means(
    points: np.ndarray, values: np.ndarray, low: np.ndarray, high: np.ndarray, cells: int
) -> np.ma.MaskedArray:
    """Return the mean value of the points in each cell; cells without points are masked."""
    counts = cell_sums(points, low, high, cells)
    sums = cell_sums(points, low, high, cells, values)
    return np.ma.masked_array(sums / np.maximum(counts, 1), counts == 0)
