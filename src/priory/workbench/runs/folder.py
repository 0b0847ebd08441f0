"""What all run folders have in common, whatever was fitted: the data, their columns, the split, the metrics."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from priory._support.files import read_json, replacing, write_json
from priory._support.messages import TRAIN_AGAIN
from priory.evaluation import Estimate
from priory.workbench.data import Dataset, load_dataset, read_arrays, with_columns
from priory.workbench.data.splits import SPLITS as SPLIT_NAMES
from priory.workbench.runs.kind import CONFIG, FITTED_BY, kind_of
from priory.workbench.settings.base import checked

MODEL, METRICS, SPLITS, FIGURES = "model.safetensors", "metrics.json", "splits.npz", "figures"

Stored = TypeVar("Stored", bound=BaseModel)


@dataclass(frozen=True)
class RunFolder(ABC):
    """A folder with a configuration, a model if fitting has ended, and the split of the data."""

    kind: ClassVar[str]
    path: Path
    settings: Any  # as requested; `settings.data` describes how to read the data
    columns: tuple[str, ...]  # of the data, in their order
    constants: Mapping[str, float | None]  # columns that the model leaves out, and their value; None for empty ones
    binarize_scale: float | None = None  # the value that counted as one if the data were binarized

    @abstractmethod
    def load_model(self) -> Any:
        """The model, on the CPU."""

    def loaded(self) -> Any:
        """What `priory.load` gives: the model for rows in the data's own units."""
        return self.load_model()

    @abstractmethod
    def check_new_rows(self, dataset: Dataset) -> None:
        """Raise a ValueError where the model cannot take these rows."""

    @abstractmethod
    def metrics_tree(self, metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> dict[str, Any]:
        """The metrics and how they were estimated, as `metrics.json` holds them."""

    @abstractmethod
    def described(self) -> list[tuple[str, str]]:
        """What was fitted and how, as (name, text), in the order to be read; the model comes first."""

    @property
    @abstractmethod
    def has_map(self) -> bool:
        """Whether a grid stands behind the model."""

    @property
    @abstractmethod
    def rows_shape(self) -> tuple[int, int] | None:
        """Height and width, where rows with all columns are images."""

    @property
    def finished(self) -> bool:
        """Whether fitting has ended."""
        return (self.path / MODEL).exists()

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """The rows of the data that trained, validated and tested."""
        file = self.path / SPLITS
        try:
            arrays = read_arrays(file)
            if arrays.keys() != set(SPLIT_NAMES):
                raise ValueError(f"arrays named {', '.join(arrays) or 'nothing'}")
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

    @property
    def modeled(self) -> tuple[str, ...]:
        """The columns that the model has, in the data's order."""
        return tuple(name for name in self.columns if name not in self.constants)

    def restored(self, x: Tensor) -> Tensor:
        """Rows of the model, (..., modeled), with the constant columns back in their places, (..., columns)."""
        if not self.constants:
            return x
        known = {name: math.nan if value is None else value for name, value in self.constants.items()}
        values = torch.tensor([known.get(name, math.nan) for name in self.columns], dtype=x.dtype)
        whole = values.to(x.device).repeat(*x.shape[:-1], 1)
        whole[..., whole.new_tensor([name not in known for name in self.columns], dtype=torch.bool)] = x
        return whole

    def load_dataset(self, *, drawn: bool = False) -> Dataset:
        """The data that it was trained on, with the recorded split and the columns of the model.

        With `drawn`, training rows that are binarized anew in each epoch are binarized once, like the others.

        Raises:
            FileNotFoundError: the file is not where it was.
            ValueError: the file has changed since, or cannot be read.
        """
        options = self.reading_options()
        if drawn and options["binarize"] == "dynamic":
            options["binarize"] = "static"
        splits = {name: index.tolist() for name, index in self.splits.items()}
        try:
            dataset = load_dataset(**options, splits=splits)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path / CONFIG}: its data, {options['source']}, are not there any more; put the file back; "
                "evaluate, embed, map and score take other data instead: priory evaluate RUN DATA"
            ) from None
        if len(dataset) != sum(map(len, splits.values())):
            raise ValueError(
                f"{dataset.origin}: expected the {sum(map(len, splits.values()))} rows that {self.path} was trained "
                f"with, got {len(dataset)}: the file has changed since; put it back as it was, or name it as new data"
            )
        return self.matched(dataset)

    def load_table(self, source: str, **changes: Any) -> Dataset:
        """Another file, read as the training data were except for `changes`, its columns in the training order.

        Label columns and the like that only the training data have are not missed. Gray values are drawn once.
        """
        optional = {"labels", "ids", "drop", "layer"} - set(changes)
        options = self.reading_options() | {"source": source, "optional": optional} | changes
        wanted = options.pop("binarize")
        dataset = load_dataset(**options)
        if wanted != "none" and not dataset.summary().binary:
            dataset = load_dataset(**options, binarize="static")
        dataset = self.matched(dataset)
        self.check_new_rows(dataset)
        return dataset

    def matched(self, dataset: Dataset) -> Dataset:
        """The columns that the model has, in its order."""
        unnamed = all(re.fullmatch(r"x\d+", name) for name in dataset.columns)  # these are matched by their order
        if unnamed and len(dataset.columns) != len(self.columns):
            raise ValueError(
                f"{dataset.origin}: expected {len(self.columns)} columns, as many as the model was trained on, got "
                f"{len(dataset.columns)}; give a file with the same columns in the same order"
            )
        return with_columns(dataset, self.modeled)

    def reading_options(self) -> dict[str, Any]:
        """How the training data were read, as arguments of `load_dataset`."""
        return self.settings.data.model_dump() | {"binarize_scale": self.binarize_scale}

    def write_metrics(self, metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> None:
        """Write what `metrics_tree` gives."""
        write_json(self.path / METRICS, self.metrics_tree(metrics, num_samples, seed))


def read_config(path: Path, stored: type[Stored], kind: str) -> Stored:
    """The configuration of a run folder of this kind."""
    found = kind_of(path, kind)
    if found != kind:
        raise ValueError(
            f"{path}: expected a run that `{FITTED_BY[kind]}` made, got one that `{FITTED_BY[found]}` made; name "
            "another, or see which commands take it: priory --help"
        )
    return checked(stored, read_json(path / CONFIG), str(path / CONFIG))


def model_stamp(path: Path) -> tuple[int, ...] | None:
    """What tells the model of a run folder from one that replaces it; None where training has not ended.

    >>> model_stamp(Path("nowhere")) is None
    True
    """
    try:
        status = (path / MODEL).stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)
