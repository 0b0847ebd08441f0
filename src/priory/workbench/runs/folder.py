"""The common part of all run folders: the data, their columns, the split, the metrics."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from priory._support.files import read_json, replacing, write_json
from priory._support.messages import TRAIN_AGAIN
from priory.evaluation import Estimate
from priory.rows import Conditions
from priory.workbench.data import (
    TEXT_OPTIONS,
    Dataset,
    DatasetRows,
    Fingerprint,
    Recorded,
    TextOptions,
    checksum_of_split,
    is_text_table,
    load_dataset,
    read_arrays,
    require_as_many,
    with_columns,
)
from priory.workbench.data.splits import SPLITS as SPLIT_NAMES
from priory.workbench.runs.config import CONFIG, FITTED_BY
from priory.workbench.runs.stored import StoredMetrics
from priory.workbench.settings.base import Settings, checked

MODEL, METRICS, SPLITS, FIGURES = "model.safetensors", "metrics.json", "splits.npz", "figures"
MADE = "made.json"
ROW_SCORES = "row_scores.npz"  # in runs of a comparison
COMPARISON, COMPARISON_TABLE = "comparison.json", "comparison.csv"  # in the folder of a comparison


class Made(Settings):
    """How and when a run was made, for its page. It is not in `config.json`, because nothing depends on it."""

    command: str | None = Field(description="the command line; None if a program made the run")
    begun: datetime
    seconds: float | None = Field(description="duration of fitting, unless a history has it")


@dataclass(frozen=True)
class RunFolder(ABC):
    """A folder with a configuration, a model if fitting has ended, and the split of the data."""

    kind: ClassVar[str]
    path: Path
    settings: Any  # as requested; `settings.data` describes how to read the data
    columns: tuple[str, ...]  # of the data, in order
    constants: Mapping[str, float | None]  # values of the columns that the model leaves out; None for empty columns
    binarize_scale: float | None = None  # the value that became mean 1 if the data were binarized
    fingerprint: Fingerprint = field(kw_only=True)  # of the data's values and ids
    split_checksum: str = field(kw_only=True)

    @abstractmethod
    def load_model(self) -> Any:
        """Load the model on the CPU."""

    def loaded(self) -> Any:
        """Return the result of `priory.load`: the model for rows in the data's own units."""
        return self.load_model()

    @abstractmethod
    def check_new_rows(self, dataset: Dataset, *, gaps: bool = False) -> None:
        """Raise a ValueError if the model does not support these rows; `gaps` allows missing cells, to be filled in."""

    @abstractmethod
    def metrics_tree(self, metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> dict[str, Any]:
        """Return the metrics and the settings of their estimation, as in `metrics.json`."""

    @abstractmethod
    def described(self) -> list[tuple[str, str]]:
        """Describe the model and its fit in (name, text) pairs; the model comes first."""

    @property
    def precise(self) -> bool:
        """Whether the model needs its data in float64."""
        return False

    @property
    @abstractmethod
    def has_map(self) -> bool:
        """Whether the model has a grid."""

    @property
    @abstractmethod
    def rows_shape(self) -> tuple[int, int] | None:
        """Height and width if rows with all columns are images, else None."""

    @property
    def seed(self) -> int:
        """The seed of all noise of the run."""
        return int(self.settings.seed)

    @property
    def finished(self) -> bool:
        """Whether fitting has ended."""
        return (self.path / MODEL).exists()

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """The row indices of the training, validation and test data."""
        file = self.path / SPLITS
        try:
            arrays = read_arrays(file)
            if arrays.keys() != set(SPLIT_NAMES):
                raise ValueError(f"arrays named {', '.join(arrays) or 'nothing'}")
            if checksum_of_split(arrays) != self.split_checksum:
                raise ValueError("other rows")
            return arrays
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(
                f"{file}: expected the split that `{FITTED_BY[self.kind]}` wrote, got none or a damaged one ({error}); "
                f"{TRAIN_AGAIN}"
            ) from None

    def write_splits(self, dataset: Dataset) -> None:
        """Record the data set's split."""
        with replacing(self.path / SPLITS) as temporary:
            np.savez_compressed(temporary, **dataset.splits)  # type: ignore[arg-type]

    def write_made(self, command: str | None, seconds: float | None = None) -> None:
        """Record how the run was made, now or `seconds` ago."""
        begun = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=round(seconds or 0))
        made = Made(command=command, begun=begun, seconds=seconds)
        write_json(self.path / MADE, made.model_dump(mode="json"))

    @property
    def made(self) -> Made | None:
        """How the run was made; None if its version did not record it."""
        file = self.path / MADE
        return checked(Made, read_json(file), str(file)) if file.is_file() else None

    @property
    def seconds(self) -> float | None:
        """The duration of fitting; None if unknown."""
        return None if self.made is None else self.made.seconds

    @property
    def modeled(self) -> tuple[str, ...]:
        """The columns that the model has, in the data's order."""
        return tuple(name for name in self.columns if name not in self.constants)

    def restored(self, x: Tensor) -> Tensor:
        """Insert the constant columns into rows of the model: (..., modeled) becomes (..., columns)."""
        if not self.constants:
            return x
        known = {name: math.nan if value is None else value for name, value in self.constants.items()}
        numbers = np.array([known.get(name, math.nan) for name in self.columns])
        exact = np.array_equal(numbers.astype(np.float32), numbers, equal_nan=True)
        values = torch.tensor(numbers, dtype=x.dtype if exact else torch.float64)
        whole = values.to(x.device).repeat(*x.shape[:-1], 1)
        whole[..., whole.new_tensor([name not in known for name in self.columns], dtype=torch.bool)] = x.to(whole.dtype)
        return whole

    def load_dataset(self, *, drawn: bool = False) -> Dataset:
        """Load the training data, with the recorded split and the columns of the model.

        With `drawn`, training rows that are binarized anew in each epoch are binarized once, like the others.

        Raises:
            FileNotFoundError: the file no longer exists.
            ValueError: the file has changed since, or cannot be read.
        """
        options = self.reading_options()
        if drawn and options["binarize"] == "dynamic":
            options["binarize"] = "static"
        try:
            dataset = load_dataset(**options, splits=self.splits, recorded=self.recorded)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path / CONFIG}: its data, {options['source']}, do not exist any more; put the file back, or "
                "give other data to evaluate, embed, map or score: priory evaluate RUN DATA"
            ) from None
        return self.of_model(dataset)

    @property
    def encoding(self) -> Conditions | None:
        """The encoding of the model's conditions; None without conditions."""
        return None

    def with_encoding(self, dataset: Dataset) -> Dataset:
        """Return the same data with the encoding of the model's conditions, if it has any."""
        return dataset

    @property
    def recorded(self) -> Recorded:
        """The recorded data of the run, used to refuse other data."""
        return Recorded(str(self.path), self.columns, self.fingerprint)

    def load_table(self, source: str, **changes: Any) -> Dataset:
        """Load another file with all of its columns, read with the options of the training data except `changes`.

        The file may lack the columns of labels, ids and drop. Gray values are binarized once.
        """
        optional = {"labels", "ids", "drop", "layer"} - set(changes)
        options = self.reading_options() | {"source": source, "optional": optional, "stream": "auto"} | changes
        if not is_text_table(Path(source)):  # the training data's text options do not apply
            options |= {name: getattr(TextOptions(), name) for name in set(TEXT_OPTIONS) - set(changes)}
        options["known_columns"] = self.modeled
        binarize = options.pop("binarize")
        dataset = load_dataset(**options)
        if binarize != "none" and not dataset.summary().binary:
            dataset = load_dataset(**options, binarize="static")
        require_as_many(dataset.columns, len(self.columns), dataset.origin)
        return dataset

    def rows_of_model(self, table: Dataset, *, gaps: bool = False) -> DatasetRows:
        """Return all rows of a table with the columns of the model; `gaps` allows missing cells, to be filled in.

        Raises:
            ValueError: a column is missing, or the model does not support the values.
        """
        dataset = self.of_model(table)
        self.check_new_rows(dataset, gaps=gaps)
        return dataset.all_rows()

    def of_model(self, dataset: Dataset) -> Dataset:
        """Return the same rows with the columns of the model, in its order, and with its encoding of conditions."""
        return self.with_encoding(with_columns(dataset, self.modeled))

    def reading_options(self) -> dict[str, Any]:
        """Return the arguments of `load_dataset` for the training data."""
        return self.settings.data.model_dump() | {"binarize_scale": self.binarize_scale, "precise": self.precise}

    def write_metrics(self, metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> None:
        """Write the result of `metrics_tree`."""
        write_json(self.path / METRICS, self.metrics_tree(metrics, num_samples, seed))

    def stored_metrics(self) -> StoredMetrics | None:
        """Return the content of `metrics.json`; None if the file does not exist."""
        file = self.path / METRICS
        return checked(StoredMetrics, read_json(file), str(file)) if file.is_file() else None

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The metrics of `metrics.json`; empty if the file does not exist."""
        stored = self.stored_metrics()
        return {} if stored is None else stored.estimates

    def samples_of_metrics(self) -> int:
        """Return the number of importance samples of the stored metrics; 0 if there are none worth keeping."""
        with suppress(ValueError):  # the file is damaged
            if stored := self.stored_metrics():
                return stored.evaluation.num_samples or 0
        return 0


def checksums(dataset: Dataset) -> dict[str, Any]:
    """Return the arguments of a `RunFolder` that identify its data."""
    return {"fingerprint": dataset.fingerprint, "split_checksum": checksum_of_split(dataset.splits)}


def check_image_shape(path: Path, shape: tuple[int, int] | None, columns: Collection[str]) -> None:
    """Refuse an image shape that does not fit the number of columns."""
    if shape is not None and (min(shape) < 1 or math.prod(shape) != len(columns)):
        raise ValueError(
            f"{path / CONFIG}: image_shape: expected height times width to be the number of columns, {len(columns)}, "
            f"got {list(shape)}; {TRAIN_AGAIN}"
        )


def model_stamp(path: Path) -> tuple[int, ...] | None:
    """Return a stamp that changes if the model of a run folder is replaced; None if there is no model yet.

    >>> model_stamp(Path("nowhere")) is None
    True
    """
    try:
        status = (path / MODEL).stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
