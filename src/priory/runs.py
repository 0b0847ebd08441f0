"""A run folder: what was trained, on what, how well; enough to rebuild the model without unpickling anything."""

import json
import math
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
from priory.assembly import DataFacts, build_vae, check_support
from priory.datasets import Dataset, load_dataset, require_complete
from priory.evaluation import Estimate
from priory.files import replacing
from priory.settings import RunSettings, validated
from priory.training.fitting import STATE_FILE
from priory.training.states import read_state
from priory.vae import VAE

CONFIG, MODEL, METRICS, HISTORY, SPLITS, FIGURES = (
    "config.json", "model.safetensors", "metrics.json", "history.csv", "splits.npz", "figures",
)  # fmt: skip
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Run:
    """A run folder that has a configuration, and a state while it trains; a model once training has ended."""

    path: Path
    settings: RunSettings
    facts: DataFacts
    columns: tuple[str, ...]
    binarise_scale: float | None = None

    @classmethod
    def create(cls, path: Path, settings: RunSettings, facts: DataFacts, dataset: Dataset) -> "Run":
        """Write the configuration and the split, before training."""
        run = cls(path, settings, facts, dataset.columns, dataset.binarise_scale)
        with replacing(path / SPLITS) as temporary:
            np.savez_compressed(temporary, **dataset.splits)  # type: ignore[arg-type]
        run._write_config()
        return run

    def lengthened(self, epochs: int) -> "Run":
        """The same run with more epochs, recorded; it counts as unfinished until it has been trained to its new end."""
        training = self.settings.training.model_copy(update={"epochs": epochs})
        run = replace(self, settings=self.settings.model_copy(update={"training": training}))
        for name in (METRICS, MODEL):  # the state holds the weights; in this order what is left fits together
            (self.path / name).unlink(missing_ok=True)
        run._write_config()
        return run

    def _write_config(self) -> None:
        facts = {name: getattr(self.facts, name) for name in ("num_inputs", "num_rows", "image_shape")}
        config = {
            "priory": priory.__version__,
            "settings": self.settings.model_dump(mode="json"),
            "facts": facts,
            "columns": self.columns,
            "binarise_scale": self.binarise_scale,
        }
        write_json(self.path / CONFIG, config)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Read a run folder's configuration.

        Raises:
            ValueError: the folder is no run, or its configuration is damaged.
        """
        path = Path(path)
        if not (path / CONFIG).is_file():
            raise ValueError(f"{path}: expected a run folder with {CONFIG}, as `priory fit ... --out RUN` leaves it")
        try:
            config = json.loads((path / CONFIG).read_text())
            facts = DataFacts(**{**config["facts"], "image_shape": _shape(config["facts"]["image_shape"])})
            settings, columns = validated(config["settings"]), tuple(config["columns"])
            return cls(path, settings, facts, columns, config["binarise_scale"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path / CONFIG}: damaged or of another version of priory ({error})") from error

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """The rows of the data that trained, validated and tested."""
        with np.load(self.path / SPLITS, allow_pickle=False) as stored:
            return dict(stored)

    def save_model(self, vae: VAE) -> None:
        """Write the weights."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in vae.state_dict().items()}
        with replacing(self.path / MODEL) as temporary:
            temporary.write_bytes(save(state))  # `save_file` keeps a file from all but its owner

    @property
    def finished(self) -> bool:
        """Whether training has ended."""
        return (self.path / MODEL).is_file()

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
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn and overwritten
            vae = build_vae(self.settings.model, self.facts)
        try:
            vae.load_state_dict(load_file(file) if self.finished else _best_so_far(file))
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{file}: damaged, or not of this configuration ({error})") from error
        return vae.eval()

    def load_dataset(self, *, drawn: bool = False) -> Dataset:
        """The data that it was trained on, with the recorded split.

        With `drawn`, training rows that are binarised anew in each epoch are binarised once, like the others.
        """
        options = self.reading_options()
        if drawn and options["binarise"] == "dynamic":
            options["binarise"] = "static"
        return load_dataset(**options, splits={k: v.tolist() for k, v in self.splits.items()})

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
        dataset = with_columns(dataset, self.columns)
        require_complete(dataset)
        check_support(self.settings.model, dataset.summary())
        return dataset

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
        tree = json.loads((self.path / METRICS).read_text())
        if tree.pop(EVALUATION, None) != _evaluation(num_samples, seed):
            return None
        return {name: Estimate(*(math.nan if n is None else n for n in e.values())) for name, e in tree.items()}


def metrics_tree(metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> dict[str, Any]:
    """`{"nll": {"value": ..., "se": ...}, ..., "evaluation": {"num_samples": ..., "seed": ...}}`: numbers, and how."""
    return {name: e._asdict() for name, e in metrics.items()} | {EVALUATION: _evaluation(num_samples, seed)}


def _evaluation(num_samples: int, seed: int) -> dict[str, int]:
    return {"num_samples": num_samples, "seed": seed}


def _best_so_far(file: Path) -> dict[str, Tensor]:
    state = read_state(file)
    return state["vae"] if state["best"] is None else state["best"]


def with_columns(dataset: Dataset, columns: tuple[str, ...]) -> Dataset:
    """The data set with these columns in this order.

    Raises:
        ValueError: columns are missing.
    """
    if dataset.columns == columns:
        return dataset
    place = {name: i for i, name in enumerate(dataset.columns)}
    missing = [name for name in columns if name not in place]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{dataset.name}: expected the {len(columns)} columns that the model was trained on, and {len(missing)} "
            f"are missing ({shown}); it has {len(dataset.columns)} columns, from {dataset.columns[0]} on"
        )
    order = [place[name] for name in columns]
    return replace(dataset, x=dataset.x[:, order], columns=columns)


def load(path: str | Path) -> VAE:
    """The model of a run folder, in evaluation mode; nothing is unpickled.

    Where training has not ended, the weights are the best so far.

    Raises:
        ValueError: the folder holds no run, or one without weights yet.
    """
    return Run.open(path).load_model()


def write_json(path: Path, tree: Any) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(tree) + "\n")


def json_text(tree: Any) -> str:
    """Standard JSON, which has no NaN: null stands for what is not known.

    >>> json_text([1.5, float("nan")]).split()
    ['[', '1.5,', 'null', ']']
    """
    return json.dumps(_standard(tree), indent=2, allow_nan=False)


def _standard(tree: Any) -> Any:
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, dict):
        return {key: _standard(value) for key, value in tree.items()}
    return [_standard(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


def _shape(shape: list[int] | None) -> tuple[int, int] | None:
    return None if shape is None else (shape[0], shape[1])
