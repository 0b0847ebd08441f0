"""The computations of the row commands: prepared once for a model, then called with any rows."""

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

MAP_SEED = 0  # seed of a map's importance samples

Columns = dict[str, np.ndarray]


RowJob = Callable[[Dataset], "Values"]  # the table also has the columns that the model leaves out


class Values(NamedTuple):
    """The result of a command: columns and arrays to write, and arrays to store separately for metrics.

    If `is_table`, they are the rows themselves, and get no column for the split.
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


# By the name of the command: functions of a model, the number of all rows and options, which return a `RowJob`.
ROW_JOBS: dict[str, Callable[..., RowJob]] = {
    "embed": embedded,
    "score": scored,
    "map": mapped,
    "impute": imputed,
    "evaluate": evaluated,
}


def rows_with_labels(run: RunFolder, predict: Sequence[str]) -> DatasetRows | None:
    """Return the run's training rows with the labels to predict; None if there are none to predict."""
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
    """Return columns of labels predicted by the landscapes of the training rows."""
    columns = {}
    for name in labels:
        prediction = drawn.predict(training.landscape(known.labels[name]))
        if isinstance(prediction, ClassPrediction):
            columns[f"{name}_predicted"] = np.array(prediction.label)
            columns[f"{name}_confidence"] = prediction.confidence.numpy()
        else:
            columns[f"{name}_predicted"], columns[f"{name}_scale"] = prediction.mean.numpy(), prediction.scale.numpy()
    return columns


def split_and_labels(
    rows: DatasetRows, splits: Mapping[str, np.ndarray], taken: Sequence[str], first: int = 0
) -> dict[str, np.ndarray]:
    """Return columns for split and labels of rows, numbered from `first` on, under names that are not in `taken`."""
    return {"split": split_names(first + rows.indices, splits, "new"), **labels_of(rows, (*taken, "split"))}


def labels_of(rows: DatasetRows, taken: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the labels of the rows; a name in `taken` gets the prefix label_."""
    return {f"label_{name}" if name in taken else name: column for name, column in rows.labels.items()}
