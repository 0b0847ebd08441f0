"""Binarization of gray values, the means of Bernoulli variables: once (static) or in each epoch (dynamic)."""

from __future__ import annotations

import numpy as np

from priory.workbench.data.reading.matrices import Matrix, is_sparse
from priory.workbench.data.summary import Summary

# Fixed, so that different runs are tested on the same binary data. The authors of the VampPrior use the same seed, but
# another generator.
_SEED = 777
_BLOCK_ROWS = 4096


def unit_scale(summary: Summary, given: float | None = None) -> float:
    """Return the divisor that scales values into [0, 1]: 1 for reals in [0, 1], 255 for bytes, the maximum for 0..31.

    If `given`, such as the scale of the training data, is set, check the values against it and return it.

    >>> from dataclasses import replace
    >>> gray = Summary(10, 4, 0.0, 16.0, integers=True, binary=False, missing=0, sparse=False, density=0.5)
    >>> unit_scale(gray), unit_scale(replace(gray, high=200.0))
    (16.0, 255.0)
    """
    if summary.binary:
        raise ValueError("binarize: expected gray values, got data of 0 and 1; leave --binarize out")
    if summary.missing or summary.infinite:
        raise ValueError(
            f"binarize: expected a finite number in every cell, got {summary.missing} missing and {summary.infinite} "
            "infinite values; fill them in or remove these rows"
        )
    if given is not None:
        if not (np.isfinite(given) and given > 0):
            raise ValueError(f"binarize_scale: expected a finite number above 0, got {given:g}")
        rescaled = summary.high <= 1 < given and not summary.integers
        if summary.low < 0 or summary.high > given or rescaled:
            raise ValueError(
                f"binarize: expected values in 0..{given:g}, the range of the data that set the scale, got values in "
                f"{summary.low:g}..{summary.high:g}; give the data in the same units"
            )
        return float(given)
    if summary.low >= 0 and summary.high <= 1:
        return 1.0
    if summary.low >= 0 and summary.integers and summary.high <= 255:
        return float(summary.high) if summary.high < 32 else 255.0
    raise ValueError(
        f"binarize: expected real values in [0, 1] or integers in 0..255, got values in "
        f"{summary.low:g}..{summary.high:g}; rescale the data, or leave --binarize out"
    )


def binarized(matrix: Matrix, scale: float, rows_of_means: np.ndarray | None = None) -> Matrix:
    """Draw 0 or 1 for every value with a fixed seed, in uint8; rows in `rows_of_means` keep means, in float32."""
    # Draw for all values in the file's order, used or not, so that a row's draw does not depend on the split.
    generator = np.random.default_rng(_SEED)
    keep_means = np.zeros(matrix.shape[0], dtype=bool)
    dtype: type[np.generic] = np.uint8
    if rows_of_means is not None:
        keep_means[rows_of_means] = True
        dtype = np.float32
    if is_sparse(matrix):
        keep = np.repeat(keep_means, np.diff(matrix.indptr))
        result = matrix.astype(dtype)
        result.data = _draw(matrix.data, scale, keep, generator).astype(dtype)
        result.eliminate_zeros()
        return result
    result = np.empty(matrix.shape, dtype)
    for start in range(0, len(matrix), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        result[block] = _draw(matrix[block], scale, keep_means[block, None], generator)
    return result


def draw_rows(rows: np.ndarray, scale: float, keep_means: np.ndarray, first_row: int) -> np.ndarray:
    """Repeat the draws of `binarized` for dense rows from `first_row` on, in float32; some rows keep their means."""
    numbers = first_row * rows.shape[1]  # used by the earlier rows; the generator makes two from 64 bits
    generator = np.random.default_rng(_SEED)
    generator.bit_generator.advance(numbers // 2)  # type: ignore[attr-defined]
    generator.random(numbers % 2, dtype=np.float32)
    return _draw(rows, scale, keep_means[:, None], generator)


def _draw(values: np.ndarray, scale: float, keep: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    means = values.astype(np.float32) / np.float32(scale)
    uniform = generator.random(means.shape, dtype=np.float32)  # in [0, 1): mean 0 gives 0, mean 1 gives 1
    return np.where(keep, means, (uniform < means).astype(np.float32))
