"""Splits into training, validation and test rows, as row indices. Random splits use their own generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SPLITS = ("train", "valid", "test")
MINIMUM_ROWS = 10  # with fewer, 80/10/10 leaves no rows for validation or test


def default_sizes(rows: int) -> tuple[int, int, int]:
    """Return the sizes of an 80/10/10 split, or zeros for fewer than 10 rows.

    >>> default_sizes(1000), default_sizes(5)
    ((800, 100, 100), (0, 0, 0))
    """
    if rows < MINIMUM_ROWS:
        return 0, 0, 0
    tenth = round(rows / 10)
    return rows - 2 * tenth, tenth, tenth


def random_split(rows: int, seed: int, sizes: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """Split rows at random with a seed; indices ascend within each split.

    >>> {name: len(index) for name, index in random_split(50, seed=0).items()}
    {'train': 40, 'valid': 5, 'test': 5}
    """
    return _dealt(np.random.default_rng(seed).permutation(rows), sizes or default_sizes(rows))


def stratified_split(labels: np.ndarray, seed: int, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Split rows at random with a seed, with each label in proportion, up to one or two rows per class.

    Rows are shuffled, sorted by label, and distributed over the splits in proportion along that order. So the sizes are
    exact, and a real-valued label is stratified by its quantiles.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return _dealt(order, sizes)


def _dealt(order: np.ndarray, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Distribute rows over splits so that any stretch is in proportion: member j of n is at (j + 0.5)/n."""
    positions = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes if size] or [np.zeros(0)])
    parts = np.repeat(np.arange(len(sizes), dtype=np.int8), sizes)[np.argsort(positions, kind="stable")]
    order = order[: len(parts)]
    return {name: np.sort(order[parts == i]).astype(np.int64) for i, name in enumerate(SPLITS)}


def consecutive(lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return splits that follow each other in the file; a split without a length is empty."""
    splits, start = {}, 0
    for name in SPLITS:
        length = lengths.get(name, 0)
        splits[name] = np.arange(start, start + length, dtype=np.int64)
        start += length
    return splits


def with_validation(splits: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """If a file has only training and test rows, move a random tenth of the training rows to validation."""
    train = splits["train"]
    if len(splits["valid"]) or not len(splits["test"]) or len(train) < MINIMUM_ROWS:
        return splits
    tenth = round(len(train) / 10)
    parts = random_split(len(train), seed, (len(train) - tenth, tenth, 0))
    return {"train": train[parts["train"]], "valid": train[parts["valid"]], "test": splits["test"]}


def recorded_split(splits: Mapping[str, Sequence[int] | np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Return recorded splits after a check of their indices."""
    if unknown := set(splits) - set(SPLITS):
        raise ValueError(f"splits: expected the names {', '.join(SPLITS)}, got {', '.join(sorted(map(str, unknown)))}")
    checked = {name: _checked_indices(name, splits.get(name, ()), rows) for name in SPLITS}
    together = np.concatenate(list(checked.values()))
    if len(np.unique(together)) < len(together):
        raise ValueError("splits: expected every row once, got a row that occurs twice; give each row to one split")
    return checked


def _checked_indices(name: str, given: Sequence[int] | np.ndarray, rows: int) -> np.ndarray:
    index = np.asarray(given)
    if index.size and (index.ndim != 1 or index.dtype.kind not in "iu"):
        raise ValueError(f"splits: expected a list of row indices for {name!r}, got {index.dtype} values {index.shape}")
    index = index.astype(np.int64).reshape(-1)
    outside = index[(index < 0) | (index >= rows)]
    if outside.size:
        raise ValueError(
            f"splits: expected row indices below {rows}, the number of rows of this data set, got {outside[0]} "
            f"in {name!r}; load the data that the split was recorded for"
        )
    return index


def split_names(rows: np.ndarray, splits: Mapping[str, np.ndarray], otherwise: str) -> np.ndarray:
    """Return the name of the split of each row, by index; `otherwise` for rows in no split.

    >>> split_names(np.array([3, 0, 7]), {"train": np.array([0, 1]), "test": np.array([3])}, "new").tolist()
    ['test', 'train', 'new']
    """
    names = np.full(len(rows), otherwise, dtype="U5")
    for name, index in splits.items():
        names[np.isin(rows, index)] = name
    return names
