"""A run folder: what was trained, on what, how well; enough to rebuild the model without unpickling anything."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import priory
from priory.assembly import DataFacts, build_vae, check_support
from priory.datasets import Dataset, load_dataset, require_complete
from priory.evaluation import Estimate
from priory.files import replacing
from priory.settings import RunSettings, validated
from priory.vae import VAE

CONFIG, MODEL, METRICS, HISTORY, SPLITS, FIGURES = (
    "config.json", "model.safetensors", "metrics.json", "history.csv", "splits.npz", "figures",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder that has a configuration; it has a model once training has ended."""

    path: Path
    settings: RunSettings
    facts: DataFacts
    columns: tuple[str, ...]
    binarise_scale: float | None = None

    @classmethod
    def create(cls, path: Path, settings: RunSettings, facts: DataFacts, dataset: Dataset) -> "Run":
        """Write the configuration and the split, before training."""
        run = cls(path, settings, facts, dataset.columns, dataset.binarise_scale)
        config = {
            "priory": priory.__version__,
            "settings": settings.model_dump(mode="json"),
            "facts": {"num_inputs": facts.num_inputs, "num_rows": facts.num_rows, "image_shape": facts.image_shape},
            "columns": dataset.columns,
            "binarise_scale": dataset.binarise_scale,
        }
        with replacing(path / SPLITS) as temporary:
            np.savez_compressed(temporary, **dataset.splits)  # type: ignore[arg-type]
        write_json(path / CONFIG, config)
        return run

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
            save_file(state, temporary)

    def load_model(self) -> VAE:
        """The trained model, in evaluation mode, on the CPU.

        Raises:
            ValueError: there are no weights yet, they are damaged, or they do not fit the configuration.
        """
        file = self.path / MODEL
        if not file.is_file():
            raise ValueError(f"{self.path}: has no {MODEL} yet; finish it with `priory fit --resume --out {self.path}`")
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn and overwritten
            vae = build_vae(self.settings.model, self.facts)
        try:
            vae.load_state_dict(load_file(file))
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

    def write_metrics(self, metrics: dict[str, Estimate], name: str = METRICS) -> None:
        """Write `{"name": {"value": ..., "se": ...}}`."""
        write_json(self.path / name, {key: estimate._asdict() for key, estimate in metrics.items()})


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
    """The trained model of a run folder, in evaluation mode; nothing is unpickled.

    Raises:
        ValueError: the folder holds no finished run.
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
