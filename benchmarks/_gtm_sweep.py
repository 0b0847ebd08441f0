"""Find the settings with the best maps of validation rows: a sweep, with one line of a CSV file per fit."""

import csv
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from _gtm_maps import SIDE
from _map_data import Split, load
from _map_judging import accuracy, true_log_likelihood, trustworthiness

Row = dict[str, Any]
# Keywords of `priory.GTM` in the sweep. Every combination of one entry from each table is a cell.
BASES: list[Row] = [{"basis_per_side": side} for side in (7, 10, 13)]
WIDTHS: list[Row] = [{"basis_width": width} for width in (0.75, 1.0, 1.5)]
DECAYS: list[Row] = [{"weight_decay": decay} for decay in (0.1, 1.0)]
ANNEALINGS: list[Row] = [{"annealing": iterations} for iterations in (0, 100)]
SUBSETS, SHARE = 5, 0.8  # subsets average over local optima
MNIST_ROWS, MOST_VALID_ROWS = 2500, 2000
COLUMNS = ["data", "cell", "subset", "log-likelihood", "trustworthiness", "10-NN accuracy", "iterations", "s"]


def cells() -> Iterator[Row]:
    """Yield all combinations."""
    for parts in itertools.product(BASES, WIDTHS, DECAYS, ANNEALINGS):
        yield {name: value for part in parts for name, value in part.items()}


def read(path: Path) -> list[Row]:
    """Read the lines of the file, with numbers as numbers."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{k: v if k in ("data", "cell") else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def training_rows(data: str, data_dir: str | None) -> Split:
    """Return the data set with no more rows than the sweep uses."""
    split = load(data, data_dir)
    most = MNIST_ROWS if data == "MNIST" else len(split.train[0])
    (x, labels), (valid, valid_labels) = split.train, split.valid
    return Split((x[:most], labels[:most]), (valid[:MOST_VALID_ROWS], valid_labels[:MOST_VALID_ROWS]), split.test)


def fit_and_judge(split: Split, cell: Row, subset: int) -> Row:
    """Fit to four fifths of the training rows, and measure on validation rows."""
    from priory import GTM

    x, labels = split.train
    chosen = np.random.default_rng(subset).permutation(len(x))[: round(SHARE * len(x))]
    start = time.perf_counter()
    gtm = GTM(points_per_side=SIDE, random_state=subset, **cell).fit(x[chosen])
    elapsed = time.perf_counter() - start
    valid, valid_labels = split.valid
    train_map, valid_map = gtm.transform(x[chosen]), gtm.transform(valid)
    return {
        "log-likelihood": true_log_likelihood(valid, gtm.means_, gtm.noise_variance_),
        "trustworthiness": trustworthiness(valid, valid_map),
        "10-NN accuracy": accuracy(train_map, labels[chosen], valid_map, valid_labels),
        "iterations": gtm.n_iter_,
        "s": round(elapsed, 3),
    }


def sweep(path: Path, data_sets: list[str], data_dir: str | None, subsets: int = SUBSETS) -> list[Row]:
    """Continue after the last line of the file. Subsets are the outer loop, so partial results are comparable."""
    done = {(row["data"], row["cell"], row["subset"]) for row in read(path)}
    splits = {data: training_rows(data, data_dir) for data in data_sets}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not done and file.tell() == 0:
            writer.writeheader()
        for subset, data, cell in itertools.product(range(subsets), data_sets, cells()):
            name = json.dumps(cell)
            if (data, name, subset) not in done:
                writer.writerow(
                    {"data": data, "cell": name, "subset": subset} | fit_and_judge(splits[data], cell, subset)
                )
                file.flush()
    return read(path)
