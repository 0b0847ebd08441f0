"""The data sets of the benchmarks of maps."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

Array = np.ndarray
FILES = {"oil flow": ("oil_flow.npz", 1.0), "MNIST": ("mnist.npz", 255.0)}  # file, and the value that becomes 1.0


class Split(NamedTuple):
    """Rows and classes of the three parts."""

    train: tuple[Array, Array]
    valid: tuple[Array, Array]
    test: tuple[Array, Array]

    def standardized(self) -> "Split":
        """Return the columns, standardized by the mean and standard deviation of the training rows."""
        x = self.train[0]
        loc, scale = x.mean(0), x.std(0)
        return Split(*(((rows - loc) / scale, labels) for rows, labels in self))


def file_of(name: str, data_dir: str | None) -> Path:
    """Return the path of the data set.

    Raises:
        FileNotFoundError: `data_dir` is None.
    """
    if data_dir is None:
        raise FileNotFoundError(f"{name}: expected a data folder with this file; give --data-dir or set PRIORY_DATA")
    return Path(os.path.join(data_dir, FILES[name][0]))


def load(name: str, data_dir: str | None) -> Split:
    """Load a data set in the units of the file; MNIST in [0, 1]."""
    if name == "digits":
        from priory import load_dataset

        parts = [load_dataset("digits").rows(part) for part in Split._fields]
        (label,) = parts[0].labels
        return Split(*((rows.tensor().double().numpy(), np.asarray(rows.labels[label])) for rows in parts))
    with np.load(file_of(name, data_dir), allow_pickle=False) as arrays:
        return Split(*((arrays[f"{part}_x"] / FILES[name][1], arrays[f"{part}_y"]) for part in Split._fields))
