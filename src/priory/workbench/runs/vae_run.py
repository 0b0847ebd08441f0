"""The run folder of a VAE: settings, data, metrics and weights; it rebuilds the model without unpickling."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from priory._support.files import replacing, require_readable, write_json
from priory._support.messages import TRAIN_AGAIN
from priory._version import __version__
from priory.evaluation import Estimate
from priory.priors import GridPrior
from priory.rows import Conditions
from priory.training.history import HISTORY_FILE, History
from priory.training.states import STATE_FILE, stored_state
from priory.vae import AnyVAE
from priory.workbench.data import Dataset, encoded, require_complete, require_finite
from priory.workbench.models.building import build_vae, check_support, class_of_prior, input_noise
from priory.workbench.models.facts import DataFacts
from priory.workbench.runs.config import CONFIG, read_config
from priory.workbench.runs.folder import METRICS, MODEL, RunFolder, check_image_shape
from priory.workbench.runs.stored import Config, RefitRecord, StoredFacts
from priory.workbench.settings.networks import DEFAULT_HIDDEN
from priory.workbench.settings.run import RunSettings


@dataclass(frozen=True)
class Run(RunFolder):
    """The run of a VAE: a configuration, a state during training, and a model after training."""

    kind: ClassVar[str] = "vae"
    settings: RunSettings  # with the likelihood chosen for the data
    constants: dict[str, float]
    facts: DataFacts = field(kw_only=True)  # of the training data
    refit_of: RefitRecord | None = field(default=None, kw_only=True)  # set if `priory refit` fitted the prior
    encoding: Conditions | None = field(default=None, kw_only=True)  # the encoding of conditions

    def lengthened(self, epochs: int) -> "Run":
        """Return the same run with more epochs, and record them; it is unfinished until trained to the new end."""
        training = self.settings.training.model_copy(update={"epochs": epochs})
        run = replace(self, settings=self.settings.model_copy(update={"training": training}))
        for name in (METRICS, MODEL):  # metrics first, so that a crash in between leaves a consistent run
            (self.path / name).unlink(missing_ok=True)
        run.write_config()
        return run

    def write_config(self) -> None:
        """Write `config.json`, which makes the folder a run."""
        facts = {name: getattr(self.facts, name) for name in StoredFacts.model_fields}
        config = Config(
            priory=__version__,
            settings=self.settings,
            facts=StoredFacts(**facts),
            columns=self.columns,
            constants=self.constants,
            binarize_scale=self.binarize_scale,
            fingerprint=self.fingerprint,
            split_checksum=self.split_checksum,
            refit_of=self.refit_of,
            encoding=self.encoding,
        )
        write_json(self.path / CONFIG, config.model_dump(mode="json"))

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Read a run folder's configuration."""
        path = Path(path)
        file, config = path / CONFIG, read_config(path, Config, cls.kind)
        check_image_shape(path, config.facts.image_shape, config.columns)
        left = len(config.columns) - len(config.constants)
        if config.facts.num_inputs != left or not config.constants.keys() <= set(config.columns):
            raise ValueError(
                f"{file}: expected facts.num_inputs to be the number of columns that are not constant, {left}, got "
                f"{config.facts.num_inputs}; restore the file that `priory fit` wrote"
            )
        facts = DataFacts(**config.facts.model_dump())
        return cls(
            path,
            config.settings,
            config.columns,
            config.constants,
            config.binarize_scale,
            fingerprint=config.fingerprint,
            split_checksum=config.split_checksum,
            facts=facts,
            refit_of=config.refit_of,
            encoding=config.encoding,
        )

    def with_encoding(self, dataset: Dataset) -> Dataset:
        """Return the same data with the encoding of the model's conditions, if it has any.

        Raises:
            ValueError: a row lacks the value of a condition, or has a value that did not occur in training.
        """
        return encoded(dataset, self.encoding)

    def described(self) -> list[tuple[str, str]]:
        model, training = self.settings.model, self.settings.training
        grid = [str(getattr(model, "points_per_side", "?"))] * getattr(model, "grid_dim", 0)
        size = f", {' x '.join(grid)} nodes" if grid else ""
        networks = " and ".join(dict.fromkeys(model.networks))
        widths = getattr(model, "hidden", None) or DEFAULT_HIDDEN.get(networks, ())
        article = "an" if model.prior[0] in "aeiou" else "a"
        facts = [
            ("model", f"VAE with {article} {model.prior} prior{size}"),
            ("latent dimensions", model.described_dims),
            *([] if self.encoding is None else [("conditions", self.encoding.described())]),
            ("likelihood", str(model.likelihood)),
            ("networks", ", ".join([networks, *([" ".join(map(str, widths))] if widths else [])])),
            ("training", f"at most {training.epochs} epochs of batches of {training.batch_size}"),
            ("learning rate", f"{training.learning_rate:g}, {training.schedule}, {training.optimizer}"),
        ]
        if (history := self.history) is not None and history.epochs:
            best = f"{history.best_epoch} (the first is {history['epoch'][0]:.0f}); its weights are those of the model"
            facts += [("epochs run", str(history.epochs)), ("best epoch", best)]
        if (refit := self.refit_of) is not None:
            how = f"at most {refit.settings.epochs} epochs, learning rate {refit.settings.learning_rate:g}"
            facts.append(("refit", f"the prior was fitted afterwards to the codes of {refit.run}: {how}"))
        return facts

    @property
    def history(self) -> History | None:
        """The history of training; None for a run of `priory refit`."""
        file = self.path / HISTORY_FILE
        return History.read(file) if file.is_file() else None

    @property
    def seconds(self) -> float | None:
        history = self.history
        return super().seconds if history is None else sum(history["seconds"])

    @property
    def has_map(self) -> bool:
        return issubclass(class_of_prior(self.settings.model.prior), GridPrior)

    @property
    def rows_shape(self) -> tuple[int, int] | None:
        return self.facts.image_shape

    def save_model(self, vae: AnyVAE) -> None:
        """Write the weights."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in vae.state_dict().items()}
        with replacing(self.path / MODEL) as temporary:
            temporary.write_bytes(save(state))  # `save_file` makes a file that only its owner can read

    @property
    def begun(self) -> bool:
        """Whether there are weights, of the end or of the epochs so far."""
        return self.finished or self.has_state

    @property
    def has_state(self) -> bool:
        """Whether there is a state from which training can resume."""
        return (self.path / STATE_FILE).is_file()

    def load_model(self) -> AnyVAE:
        """Load the model in evaluation mode on the CPU; if training has not ended, with the best weights so far."""
        if not self.begun:
            raise ValueError(f"{self.path}: has no {MODEL} yet; finish it with `{self.resume_line}`")
        if self.finished:
            file = self.path / MODEL
            weights = _stored_weights(file)
        else:
            file = self.path / STATE_FILE
            state = stored_state(file) or {}
            weights = state["vae"] if state["best"] is None else state["best"]
        return self._with_weights(weights, file).eval()

    def load_state(self) -> AnyVAE | None:
        """Load the model after the last epoch, to resume training; None if there is no state."""
        file = self.path / STATE_FILE
        state = stored_state(file)
        return None if state is None else self._with_weights(state["vae"], file)

    def _with_weights(self, weights: Mapping[str, Tensor], file: Path) -> AnyVAE:
        with torch.random.fork_rng(devices=[]):  # the initial weights, drawn here, are overwritten
            vae = build_vae(self.settings.model, replace(self.facts, rows=None))
        try:
            vae.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(
                f"{file}: expected the weights that {CONFIG} describes, got others; {TRAIN_AGAIN}"
            ) from error
        encoder: Any = vae.encoder
        # now that the weights include the guide
        encoder.input_noise = input_noise(self.settings.model, vae.prior, self.facts.num_train_rows)
        return vae

    @property
    def resume_line(self) -> str:
        """The command that resumes this run."""
        return f"priory fit --resume --out {shlex.quote(str(self.path))}"

    def check_new_rows(self, dataset: Dataset, *, gaps: bool = False) -> None:
        if gaps:
            require_finite(dataset)
        else:
            require_complete(dataset, or_else=f"; or let the model fill them in: priory impute {self.path} DATA")
        check_support(self.settings.model, dataset.summary(), dataset.origin)

    def metrics_tree(self, metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> dict[str, Any]:
        numbers = {name: estimate._asdict() for name, estimate in metrics.items()}
        return numbers | {"evaluation": {"num_samples": num_samples, "seed": seed}}

    def read_metrics(self, num_samples: int, seed: int) -> dict[str, Estimate] | None:
        """Return the metrics of the finished run, estimated with these samples and seed; None if there are none."""
        stored = self.stored_metrics() if self.finished else None
        if stored is None or (stored.evaluation.num_samples, stored.evaluation.seed) != (num_samples, seed):
            return None
        return stored.estimates


def _stored_weights(file: Path) -> dict[str, Tensor]:
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
