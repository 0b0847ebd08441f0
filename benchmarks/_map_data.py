"""The data sets of the benchmarks of maps."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA

Array = np.ndarray
FILES = {  # the file, and the value that is divided by
    "oil flow": ("oil_flow.npz", 1.0),
    "MNIST": ("mnist.npz", 255.0),
    "Fashion-MNIST": ("fashion_mnist.npz", 255.0),
    "cells": ("mouse_bladder.npz", 1.0),
}
NUM_GENES, NUM_TEST_CELLS, NUM_PCA = 2000, 350, 50


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


def cells(data_dir: str | None) -> Split:
    """Return counts of the genes that vary most over the training cells; a fixed permutation splits the cells."""
    with np.load(file_of("cells", data_dir), allow_pickle=False) as file:
        shape = tuple(file["matrix_shape"])
        counts = csr_matrix((file["data"], file["indices"], file["indptr"]), shape=shape).toarray()
        labels = file["label"]
    order = np.random.default_rng(0).permutation(len(counts))
    valid, test, train = np.split(order, [NUM_TEST_CELLS, 2 * NUM_TEST_CELLS])
    genes = np.sort(np.argsort(log_proportions(counts[train]).var(0))[-NUM_GENES:])
    return Split(*((counts[part][:, genes], labels[part]) for part in (train, valid, test)))


def log_proportions(counts: Array) -> Array:
    """Return log(1 + 10 000 times the share of a count in its cell), the usual normalization."""
    return np.log1p(1e4 * counts / np.maximum(counts.sum(1, keepdims=True), 1))


def in_principal_components(split: Split) -> Split:
    """Project the log proportions of the cells onto the first principal components of the training cells."""
    pca = PCA(NUM_PCA, random_state=0).fit(log_proportions(split.train[0]))
    return Split(*((pca.transform(log_proportions(rows)), labels) for rows, labels in split))


def load(name: str, data_dir: str | None) -> Split:
    """Load a data set: images in [0, 1], cells as principal components of log proportions, others in their units."""
    if name == "digits":
        from priory import load_dataset

        parts = [load_dataset("digits").rows(part) for part in Split._fields]
        (label,) = parts[0].labels
        return Split(*((rows.tensor().double().numpy(), np.asarray(rows.labels[label])) for rows in parts))
    if name == "cells":
        return in_principal_components(cells(data_dir))
    with np.load(file_of(name, data_dir), allow_pickle=False) as arrays:
        return Split(*((arrays[f"{part}_x"] / FILES[name][1], arrays[f"{part}_y"]) for part in Split._fields))
