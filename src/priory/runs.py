"""A run folder: what was trained, on what, how well; enough to rebuild the model without unpickling anything."""

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

import priory
from priory.assembly import DataFacts, build_vae, check_name, check_support
from priory.columns import check_width, with_columns
from priory.datasets import Dataset, load_dataset, read_arrays, require_complete
from priory.datasets.splits import SPLITS as SPLIT_NAMES
from priory.evaluation import Estimate
from priory.files import replacing, require_readable
from priory.footprint import require_model_fits
from priory.json_files import read_json, write_json
from priory.likelihoods import LIKELIHOODS
from priory.messages import TRAIN_AGAIN
from priory.priors import PRIORS
from priory.settings import RunSettings, checked
from priory.stored import Config, RefitRecord, StoredFacts, StoredMetrics, estimates, metrics_tree
from priory.training.states import STATE_FILE, stored_state
from priory.vae import VAE

CONFIG, MODEL, METRICS, SPLITS, FIGURES = "config.json", "model.safetensors", "metrics.json", "splits.npz", "figures"


@dataclass(frozen=True)
class Run:
    """A run folder that has a configuration, and a state while it trains; a model once training has ended.

    Attributes:
        path: the folder.
        settings: what the run was asked to do, with the likelihood that the data got.
        facts: what the model must know of its training data.
        columns: of the data, in their order.
        constants: the columns that the model leaves out because the training rows have one value there, and the value.
        binarise_scale: the value that counted as one where the data were binarised, else None.
        refit_of: where encoder and decoder come from, if the prior was fitted to them afterwards; else None.
    """

    path: Path
    settings: RunSettings
    facts: DataFacts
    columns: tuple[str, ...]
    constants: dict[str, float]
    binarise_scale: float | None = None
    refit_of: RefitRecord | None = None

    @classmethod
    def create(
        cls, path: Path, settings: RunSettings, facts: DataFacts, dataset: Dataset, constants: dict[str, float]
    ) -> "Run":
        """Write the configuration and the split, before training; the data set with all of its columns."""
        run = cls(path, settings, facts, dataset.columns, constants, dataset.binarise_scale)
        run.write_splits(dataset.splits)
        run.write_config()
        return run

    def write_splits(self, splits: Mapping[str, np.ndarray]) -> None:
        """Write which rows train, validate and test."""
        with replacing(self.path / SPLITS) as temporary:
            np.savez_compressed(temporary, **splits)  # type: ignore[arg-type]

    def lengthened(self, epochs: int) -> "Run":
        """The same run with more epochs, recorded; it counts as unfinished until it has been trained to its new end."""
        training = self.settings.training.model_copy(update={"epochs": epochs})
        run = replace(self, settings=self.settings.model_copy(update={"training": training}))
        for name in (METRICS, MODEL):  # the state holds the weights; in this order what is left fits together
            (self.path / name).unlink(missing_ok=True)
        run.write_config()
        return run

    def write_config(self) -> None:
        """Write what makes a folder a run."""
        facts = {name: getattr(self.facts, name) for name in StoredFacts.model_fields}
        config = Config(
            priory=priory.__version__,
            settings=self.settings,
            facts=StoredFacts(**facts),
            columns=self.columns,
            constants=self.constants,
            binarise_scale=self.binarise_scale,
            refit_of=self.refit_of,
        )
        write_json(self.path / CONFIG, config.model_dump(mode="json"))

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Read a run folder's configuration.

        Raises:
            ValueError: the folder is no run, or its configuration is damaged.
        """
        path = Path(path)
        file = path / CONFIG
        if not file.is_file():
            raise ValueError(f"{path}: expected a run folder with {CONFIG}, as `priory fit ... --out RUN` leaves it")
        config = checked(Config, read_json(file), str(file))
        model, left = config.settings.model, len(config.columns) - len(config.constants)
        check_name(f"{file}: model.prior", model.prior, PRIORS)
        check_name(f"{file}: model.likelihood", model.likelihood or "gaussian", LIKELIHOODS)
        if config.facts.num_inputs != left or not config.constants.keys() <= set(config.columns):
            raise ValueError(
                f"{file}: expected facts.num_inputs to be the number of columns that are not constant, {left}, got "
                f"{config.facts.num_inputs}; put the file back as `priory fit` wrote it"
            )
        facts = DataFacts(**config.facts.model_dump())
        left_out = (config.columns, config.constants, config.binarise_scale)
        return cls(path, config.settings, facts, *left_out, config.refit_of)

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """The rows of the data that trained, validated and tested.

        Raises:
            ValueError: the file is missing or damaged.
        """
        file = self.path / SPLITS
        try:
            arrays = read_arrays(file)
            if arrays.keys() != set(SPLIT_NAMES):
                raise ValueError(f"arrays named {', '.join(arrays) or 'nothing'}")
            return arrays
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(
                f"{file}: expected the split that `priory fit` wrote, got none or a damaged one ({error}); "
                f"{TRAIN_AGAIN}"
            ) from None

    @property
    def modelled(self) -> tuple[str, ...]:
        """The columns that the model has, in the data's order."""
        return tuple(name for name in self.columns if name not in self.constants)

    def restored(self, x: Tensor) -> Tensor:
        """Rows of the model, (..., modelled), with the constant columns back in their places, (..., columns)."""
        if not self.constants:
            return x
        values = torch.tensor([self.constants.get(name, math.nan) for name in self.columns], dtype=x.dtype)
        whole = values.to(x.device).repeat(*x.shape[:-1], 1)
        whole[..., whole.new_tensor([name not in self.constants for name in self.columns], dtype=torch.bool)] = x
        return whole

    def save_model(self, vae: VAE) -> None:
        """Write the weights."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in vae.state_dict().items()}
        with replacing(self.path / MODEL) as temporary:
            temporary.write_bytes(save(state))  # `save_file` keeps a file from all but its owner

    @property
    def finished(self) -> bool:
        """Whether training has ended."""
        return (self.path / MODEL).exists()

    @property
    def begun(self) -> bool:
        """Whether there are weights: those of the end, or those of the epochs so far."""
        return self.finished or self.has_state

    @property
    def has_state(self) -> bool:
        """Whether there is what training goes on from."""
        return (self.path / STATE_FILE).is_file()

    def load_model(self) -> VAE:
        """The trained model, in evaluation mode, on the CPU; where training has not ended, its best weights so far.

        Raises:
            ValueError: there are no weights yet, they are damaged, or they do not fit the configuration.
        """
        if not self.begun:
            raise ValueError(f"{self.path}: has no {MODEL} yet; finish it with `{self.resume_line}`")
        file = self.path / (MODEL if self.finished else STATE_FILE)
        weights = _weights(file) if self.finished else _best_so_far(file)
        require_model_fits(self.settings.model, self.facts)
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn and overwritten
            vae = build_vae(self.settings.model, self.facts)
        try:
            vae.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"{file}: expected the weights that {CONFIG} describes, got others; {TRAIN_AGAIN}"
            ) from error
        return vae.eval()

    def load_dataset(self, *, drawn: bool = False) -> Dataset:
        """The data that it was trained on, with the recorded split and the columns of the model.

        With `drawn`, training rows that are binarised anew in each epoch are binarised once, like the others.

        Raises:
            FileNotFoundError: the file is not where it was.
            ValueError: the file has changed since, or cannot be read.
        """
        options = self.reading_options()
        if drawn and options["binarise"] == "dynamic":
            options["binarise"] = "static"
        splits = {name: index.tolist() for name, index in self.splits.items()}
        try:
            dataset = load_dataset(**options, splits=splits)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path / CONFIG}: its data, {options['source']}, are not there any more; put the file back, or "
                "name other data: priory evaluate RUN DATA"
            ) from None
        if len(dataset) != sum(map(len, splits.values())):
            raise ValueError(
                f"{dataset.origin}: expected the {sum(map(len, splits.values()))} rows that {self.path} was trained "
                f"with, got {len(dataset)}: the file has changed since; put it back as it was, or name it as new data"
            )
        return self.matched(dataset)

    def load_table(self, source: str, **changes: Any) -> Dataset:
        """Another file, read as the training data were except for `changes`, its columns in the training order.

        Label columns and the like that only the training data have are not missed. Grey values are drawn once.

        Raises:
            ValueError: it lacks columns that the model reads, or its values are outside of the likelihood's support.
        """
        optional = {"labels", "ids", "drop", "layer"} - set(changes)
        options = self.reading_options() | {"source": source, "optional": optional} | changes
        wanted = options.pop("binarise")
        dataset = load_dataset(**options)
        if wanted != "none" and not dataset.summary().binary:
            dataset = load_dataset(**options, binarise="static")
        dataset = self.matched(dataset)
        require_complete(dataset)
        check_support(self.settings.model, dataset.summary(), dataset.origin)
        return dataset

    def matched(self, dataset: Dataset) -> Dataset:
        """The columns that the model has, in its order.

        Raises:
            ValueError: columns are missing, or columns that have only numbers for names are too many.
        """
        if dataset.columns != self.columns and all(re.fullmatch(r"x\d+", name) for name in dataset.columns):
            check_width(dataset, self.columns)
        return with_columns(dataset, self.modelled)

    def reading_options(self) -> dict[str, Any]:
        """How the training data were read, as arguments of `load_dataset`."""
        return self.settings.data.model_dump() | {"binarise_scale": self.binarise_scale}

    @property
    def resume_line(self) -> str:
        """The command that goes on with this run."""
        return f"priory fit --resume --out {shlex.quote(str(self.path))}"

    def write_metrics(self, metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> None:
        """Write what `metrics_tree` gives."""
        write_json(self.path / METRICS, metrics_tree(metrics, num_samples, seed))

    def read_metrics(self, num_samples: int, seed: int) -> dict[str, Estimate] | None:
        """The metrics of the finished run; None where there are none yet that were estimated in this way."""
        if not self.finished or not (self.path / METRICS).is_file():
            return None
        stored = checked(StoredMetrics, read_json(self.path / METRICS), str(self.path / METRICS))
        return estimates(stored, num_samples, seed)


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


def _weights(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ValueError(f"{file}: expected the weights of a model, got no regular file; {TRAIN_AGAIN}")
    require_readable(file)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"{file}: expected the weights of a model in safetensors' format, got a damaged file or another kind "
            f"({error}); {TRAIN_AGAIN}"
        ) from error


def _best_so_far(file: Path) -> dict[str, Tensor]:
    state = stored_state(file) or {}
    return state["vae"] if state["best"] is None else state["best"]


def load(path: str | Path) -> VAE:
    """The model of a run folder, in evaluation mode; nothing is unpickled.

    Where training has not ended, the weights are the best so far.

    Raises:
        ValueError: the folder holds no run, or one without weights yet.
    """
    return Run.open(path).load_model()
