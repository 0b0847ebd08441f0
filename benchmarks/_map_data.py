"""The data sets of the benchmarks of maps."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

Array = np.ndarray
FILES = {"oil flow": ("oil_flow.npz", 1.0), "MNIST": ("mnist.npz", 255.0)}  # the value that becomes one


class Split(NamedTuple):
    """Rows and classes of the three parts."""

    train: tuple[Array, Array]
    valid: tuple[Array, Array]
    test: tuple[Array, Array]

    def standardized(self) -> "Split":
        """Each column by the mean and standard deviation of its training rows."""
        x = self.train[0]
        loc, scale = x.mean(0), x.std(0)
        return Split(*(((rows - loc) / scale, labels) for rows, labels in self))


def file_of(name: str, data_dir: str | None) -> Path:
    """Where the data set is.

    Raises:
        FileNotFoundError: no folder was named.
    """
    if data_dir is None:
        raise FileNotFoundError(f"{name} is a file of the data folder: name the folder by --data-dir or PRIORY_DATA")
    return Path(os.path.join(data_dir, FILES[name][0]))


def load(name: str, data_dir: str | None) -> Split:
    """In the units of the file; MNIST in [0, 1]."""
    if name == "digits":
        from priory import load_dataset

        parts = [load_dataset("digits").rows(part) for part in Split._fields]
        (label,) = parts[0].labels
        return Split(*((rows.tensor().double().numpy(), np.asarray(rows.labels[label])) for rows in parts))
    with np.load(file_of(name, data_dir), allow_pickle=False) as arrays:
        return Split(*((arrays[f"{part}_x"] / FILES[name][1], arrays[f"{part}_y"]) for part in Split._fields))
