"""What the row commands compute of rows: prepared once for a model, then called with any rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from priory.grid.landscapes import ClassPrediction
from priory.maps import TopographicMap
from priory.workbench.data import Dataset, DatasetRows
from priory.workbench.data.splits import split_names
from priory.workbench.jobs.kinds import Opened
from priory.workbench.jobs.part_metrics import numbers_of_rows
from priory.workbench.runs.folder import RunFolder

MAP_SEED = 0  # of a map's importance samples

Columns = dict[str, np.ndarray]


RowJob = Callable[[Dataset], "Values"]  # of a table with the columns that the model leaves out too


class Values(NamedTuple):
    """What a command computes of rows: columns and arrays that are written, and arrays that are kept beside them.

    If `is_table`, they are the rows themselves, which get no column for the split.
    """

    columns: Columns
    arrays: Columns
    aside: Columns
    is_table: bool = False


def embedded(opened: Opened, rows: int) -> RowJob:
    return lambda table: Values({}, opened.jobs.embed(opened.model, opened.run.rows_of_model(table)), {})


def scored(opened: Opened, rows: int, *, num_samples: int, seed: int) -> RowJob:
    def values(table: Dataset) -> Values:
        scores = opened.jobs.score(opened.model, opened.run.rows_of_model(table), num_samples, seed)
        return Values({"log_likelihood": scores}, {}, {})

    return values


def mapped(opened: Opened, rows: int, *, num_samples: int, predict: Sequence[str]) -> RowJob:
    surface = opened.jobs.surface(opened.model, num_samples)
    known = rows_with_labels(opened.run, predict)
    training = None if known is None else TopographicMap(surface, known)

    def values(table: Dataset) -> Values:
        part = opened.run.rows_of_model(table)
        drawn = TopographicMap(surface, part)
        columns = {name: column.numpy() for name, column in drawn.places.columns().items()}
        columns["log_likelihood"] = opened.jobs.score(opened.model, part, num_samples, MAP_SEED)
        if training is not None and known is not None:
            columns |= predictions(training, known, drawn, predict)
        return Values(columns, {"map": drawn.places.place.numpy()}, {})

    return values


def imputed(opened: Opened, rows: int, *, num_steps: int, draw: bool, seed: int, progress: Any = None) -> RowJob:
    def values(table: Dataset) -> Values:
        part = opened.run.rows_of_model(table, gaps=True)
        filled = opened.run.restored(opened.jobs.filled(opened.model, part, num_steps, seed, draw, progress=progress))
        x = table.all_rows().tensor()
        whole = torch.where(x.isnan(), filled.to(x), x).numpy()
        return Values(dict(zip(table.columns, whole.T, strict=True)), {}, {}, is_table=True)

    return values


def evaluated(opened: Opened, rows: int, *, num_samples: int, seed: int) -> RowJob:
    def values(table: Dataset) -> Values:
        return Values(*numbers_of_rows(opened, opened.run.rows_of_model(table), rows, num_samples, seed))

    return values


# By the name of the command: from a model, the number of all rows and the command's options to a function of rows.
ROW_JOBS: dict[str, Callable[..., RowJob]] = {
    "embed": embedded,
    "score": scored,
    "map": mapped,
    "impute": imputed,
    "evaluate": evaluated,
}


def rows_with_labels(run: RunFolder, predict: Sequence[str]) -> DatasetRows | None:
    """The run's training rows, whose labels are to be predicted; None where none are asked for."""
    if not predict:
        return None
    rows = run.load_dataset(drawn=True).rows("train")
    unknown = [name for name in predict if name not in rows.labels]
    if unknown:
        raise ValueError(
            f"--predict {unknown[0]}: expected a label of the run's data, which have "
            f"{', '.join(rows.labels) or 'no labels'}; name one of them, or train with --labels {unknown[0]}"
        )
    return rows


def predictions(
    training: TopographicMap, known: DatasetRows, drawn: TopographicMap, labels: Sequence[str]
) -> dict[str, np.ndarray]:
    """Columns of labels that the landscapes of the training rows predict."""
    columns = {}
    for name in labels:
        found = drawn.predict(training.landscape(known.labels[name]))
        if isinstance(found, ClassPrediction):
            columns[f"{name}_predicted"] = np.array(found.label)
            columns[f"{name}_confidence"] = found.confidence.numpy()
        else:
            columns[f"{name}_predicted"], columns[f"{name}_scale"] = found.mean.numpy(), found.scale.numpy()
    return columns


def kept(
    rows: DatasetRows, splits: Mapping[str, np.ndarray], taken: Sequence[str], first: int = 0
) -> dict[str, np.ndarray]:
    """Columns for the split and the labels of rows, numbered from `first` on, under other names than `taken`."""
    return {"split": split_names(first + rows.indices, splits, "new"), **labels_of(rows, (*taken, "split"))}


def labels_of(rows: DatasetRows, taken: Sequence[str]) -> dict[str, np.ndarray]:
    """The labels of the rows; those with a name of `taken` get the prefix label_."""
    return {f"label_{name}" if name in taken else name: column for name, column in rows.labels.items()}
