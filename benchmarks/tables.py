"""Measure the tables of the VampPrior and Exemplar VAE papers, cell by cell, with their networks and latent dimensions.

    python benchmarks/tables.py --data-dir DIR                              # all cells, the most important ones first
    python benchmarks/tables.py --data-dir DIR --only static_mnist vamp ours  # cells whose description has all words
    python benchmarks/tables.py --page                                      # only write the page again

A cell trains on one thread; minutes are processor time. NLL and ELBO are measured on all test images, with 5000
importance samples from q (500 for an exemplar prior). When a cell ends, its numbers go to
`benchmarks/results/tables.json` and to a page beside it, its pictures to `--runs`. Finished cells are not run again. An
interrupted cell continues from its last epoch, whose state is under `--runs`. To use more cores, run one process for
each, with different `--only`. `--precision 32-true` is for processors without bf16 products, where bf16 is much slower.

DIR must have the files that are listed in `DATA`. Validation rows choose the epoch of the weights, and when to stop.
Test rows choose nothing.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch

from _results import RESULTS, read_results, write_results
from _tables_page import page
from priory import draw, evaluate, fit, load_dataset
from priory.rows import RowsLike
from priory.training import History, TrainingSettings
from priory.workbench.models.building import build_vae
from priory.workbench.models.facts import facts_of
from priory.workbench.settings.model import ModelSettings

DATA = {
    "static_mnist": "binarized_mnist.npz",
    "dynamic_mnist": "mnist.npz",  # mnist_dynamic_eval.npz has its binarized validation and test rows
    "omniglot": "omniglot.npz",
    "fashion_mnist": "fashion_mnist.npz",
}
MODEL: dict[str, Any] = {
    "latent_dim": 40,
    "likelihood": "bernoulli",
    "network": "gated",
    "hidden": (300, 300),
    "log_variance_range": (-6.0, 2.0),
    "components": 500,
    "points_per_side": 22,  # 484 nodes
    "exemplars": 2000,  # a training step uses so many; the evaluation uses all training rows
    "grid_start": "mean",  # the published prior: no start, no guide, no noise
    "grid_network": "mlp",
}
PUBLISHED_EPOCHS = {"standard": 600, "vamp": 230}  # the paper: at most 2000; these are about 90 minutes of a core
PUBLISHED: dict[str, Any] = {
    "batch_size": 100,
    "learning_rate": 5e-4,
    "patience": 50,
    "validation_draws": 1,
}
PUBLISHED_WARMUP_EPOCHS = 100
OUR_STEPS = {1: 30_000, 2: 20_000}  # by levels; with one level, 150 epochs of MNIST and 327 of OMNIGLOT
OURS: dict[str, Any] = {
    "batch_size": 250,
    "learning_rate": 2e-3,
    "schedule": "one-cycle",
    "warmup": 0.2,
    "patience": None,
    "objective": "importance-weighted",
    "num_samples": 5,
    "precision": "bf16-mixed",
    "shift_images": 0.8,  # see levers.py
}
NUM_SAMPLES = 5000
NUM_SAMPLES_OF_EXEMPLARS = 500  # 10 000 x 5000 draws and 50 000 exemplars would take hours
SHOWN = ("active_units", "active_units_level_1", "effective_sample_size", "marginal_kl", "used_components")


class Cell(NamedTuple):
    """A number of the tables; its text is also the name of its run folder."""

    data: str
    levels: int
    prior: str
    training: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.data}-{self.levels}-{self.prior}-{self.training}-{self.seed}"


class ProcessorTime(pl.Callback):
    """Measure the mean processor seconds of an epoch with its validation; other work on the cores does not count."""

    def __init__(self) -> None:
        self.seconds, self.epochs, self._began = 0.0, 0, time.process_time()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.process_time()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.process_time()
        self.seconds, self.epochs, self._began = self.seconds + now - self._began, self.epochs + 1, now

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.epochs = state_dict["seconds"], state_dict["epochs"]

    def minutes(self, history: History) -> float:
        """Return the processor minutes of a run; minutes of the clock if it was finished before."""
        seconds = history["seconds"]
        return (len(seconds) * self.seconds / self.epochs if self.epochs else sum(seconds)) / 60


def cells() -> list[Cell]:
    """Return all cells in the order in which they are run."""
    first = [Cell("static_mnist", 1, "vamp", "ours"), Cell("dynamic_mnist", 1, "vamp", "ours")]
    published = [
        Cell(data, 1, prior, "published")
        for data in ("static_mnist", "dynamic_mnist")
        for prior in ("vamp", "standard")
    ]
    static = [Cell("static_mnist", 1, prior, "ours") for prior in ("gtm-vamp", "standard")]
    levels = [Cell("static_mnist", 2, prior, "ours") for prior in ("vamp", "gtm-vamp", "standard")]
    levels += [Cell(data, 2, "vamp", "ours") for data in ("dynamic_mnist", "omniglot")]
    rest = [Cell("static_mnist", 1, prior, "ours") for prior in ("mog", "flow", "gtm", "exemplar")]
    others = ("dynamic_mnist", "omniglot", "fashion_mnist")
    rest += [Cell(data, 1, prior, "ours") for data in others for prior in ("vamp", "standard", "gtm-vamp", "exemplar")]
    seeds = [Cell("static_mnist", levels, "vamp", "ours", seed) for seed in (1, 2) for levels in (1, 2)]
    return list(dict.fromkeys([*first, *published, *static, *levels, *rest, *seeds]))


def rows_of(data: str, folder: Path) -> tuple[Any, RowsLike, RowsLike]:
    """Return the data set, from which the training rows are taken, and the validation and test rows."""
    dataset = load_dataset(folder / DATA[data], binarize="none" if data == "static_mnist" else "dynamic")
    if data != "dynamic_mnist":
        return dataset, dataset.rows("valid"), dataset.rows("test")
    with np.load(folder / "mnist_dynamic_eval.npz", allow_pickle=False) as file:
        bits = [np.unpackbits(file[f"{name}_x"], axis=1, count=int(file["width"])) for name in ("valid", "test")]
    valid, test = (torch.from_numpy(each).float() for each in bits)
    return dataset, valid, test


def settings_of(cell: Cell, num_rows: int, precision: str, steps: int) -> TrainingSettings:
    """Return the training settings of a cell; `precision` and `steps` are those of our training."""
    if cell.training == "ours":
        epochs = -(-steps // -(-num_rows // OURS["batch_size"]))
        return TrainingSettings(**OURS | {"epochs": epochs, "precision": precision})
    steps_per_epoch = -(-num_rows // PUBLISHED["batch_size"])
    return TrainingSettings(
        **PUBLISHED, epochs=PUBLISHED_EPOCHS[cell.prior], warmup=PUBLISHED_WARMUP_EPOCHS * steps_per_epoch
    )


def result_of(cell: Cell, folder: Path, out: Path, precision: str, steps: int, num_samples: int) -> dict[str, Any]:
    """Train and measure a cell.

    Args:
        cell: the cell.
        folder: the folder of the data sets.
        out: the folder for the state of the training and for pictures.
        precision: of our training.
        steps: of our training.
        num_samples: importance samples of each test row.
    """
    dataset, valid, test = rows_of(cell.data, folder)
    train = dataset.rows("train")
    model = ModelSettings.of_prior(cell.prior, levels=cell.levels, **MODEL)
    training = settings_of(cell, len(train), precision, steps)
    torch.manual_seed(cell.seed)
    vae = build_vae(model, facts_of(train, dataset.image_shape, cell.seed))
    clock = ProcessorTime()
    history = fit(vae, train, valid, settings=training, seed=cell.seed, out=out, resume=out.exists(), callbacks=clock)
    began = time.process_time()
    metrics = evaluate(vae, test, num_samples=num_samples, prior_share=0.0, batch_size=100)
    draw(vae, test, out / "figures", history=history, image_shape=dataset.image_shape)
    return {
        **cell._asdict(),
        "nll": metrics["nll"].value,
        "nll_se": metrics["nll"].se,
        "elbo": metrics["elbo"].value,
        "kl": metrics["rate"].value,
        **{name: metrics[name].value for name in SHOWN if name in metrics},
        "minutes": clock.minutes(history),
        "evaluation_minutes": (time.process_time() - began) / 60,
        "epochs": len(history["epoch"]),
        "samples": num_samples,
        "settings": {"model": model.model_dump(mode="json"), "training": training.model_dump(mode="json")},
        "processor": platform.processor() or platform.machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--only", nargs="+", default=(), help="words that the name of a cell must have")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder for the state of unfinished cells")
    parser.add_argument("--out", type=Path, default=RESULTS / "tables.json")
    parser.add_argument("--precision", choices=("bf16-mixed", "32-true"), default=OURS["precision"], help="of ours")
    parser.add_argument("--page", action="store_true", help="only write the page of the results that exist")
    arguments = parser.parse_args()
    if arguments.page:
        done = json.loads(arguments.out.read_text())
        write_results(arguments.out, done, page(done, cells()))
        return
    if arguments.data_dir is None:
        parser.error("--data-dir: expected the folder of the data sets, or set PRIORY_DATA")
    torch.set_num_threads(1)
    for cell in cells():
        done = read_results(arguments.out, [])
        key = tuple(cell)
        if any(tuple(row[name] for name in Cell._fields) == key for row in done):
            continue
        if not {str(each) for each in arguments.only} <= {str(each) for each in key}:
            continue
        print(cell, flush=True)
        num_samples = NUM_SAMPLES_OF_EXEMPLARS if cell.prior == "exemplar" else NUM_SAMPLES
        out = arguments.runs / str(cell)
        steps = OUR_STEPS[cell.levels]
        result = result_of(cell, Path(arguments.data_dir), out, arguments.precision, steps, num_samples)
        # Read the file again: other processes may have added cells in the meantime.
        done = read_results(arguments.out, [])
        done.append(result)
        write_results(arguments.out, done, page(done, cells()))
        print(f"{cell}: NLL {result['nll']:.2f}, {result['minutes']:.0f} minutes", flush=True)


if __name__ == "__main__":
    main()
