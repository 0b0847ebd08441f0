"""The experiment of Tomczak's *Deep Generative Modeling*, chapter 4, with this library: six priors on digits.

    python benchmarks/book.py                 # all of it; run it again to continue
    python benchmarks/book.py --table         # only the tables, from the finished runs

Settings of the book: digits (1000 train, 350 validation, 447 test rows of 8 x 8 pixels with 17 levels), categorical
likelihood, encoder 64-256-256-2L and decoder L-256-256-64*17 with LeakyReLU, L = 2, K = 16 (grid 4 x 4), networks g
2-256-256-out with tanh, a flow of three affine couplings, Adamax at 1e-3, batches of 64, one sample, no warm-up, at
most 1000 epochs, the weights of the best validation ELBO. Everything else is this library's default.

Exact NLL is midpoint quadrature over the latent plane (`_book_quadrature.py`); the ELBO is averaged over 64 draws per
datum. Every finished run is written to the results file at once and skipped the next time; a run that fails is recorded
with its error and shown in the tables (remove its entry to try again).

A run does not depend on its patience until it stops. If a run with longer patience has the same best epoch that a run
with shorter patience would have, the weights are the same to the last bit (on one thread). The shorter run is then not
repeated: its record has `same_weights_as`.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # must be set before torch is imported

import torch
from torch import Tensor

from _book_quadrature import exact_nll, latent_window
from _book_report import report, write_report
from priory import VAE, CategoricalDecoder, NormalEncoder, Rescale, elbo, load_dataset, mlp
from priory.distributions.mixture import Mixture
from priory.evaluation import effective_components
from priory.model import evaluation_mode
from priory.training import History, TrainingSettings, fit
from priory.training.selection import Selection
from priory.workbench.models.building import build_prior
from priory.workbench.models.facts import Features
from priory.workbench.settings.model import ModelSettings
from priory.workbench.settings.priors import PRIORS

NUM_LEVELS = 17
LATENT_DIM = 2
HIDDEN = (256, 256)
ELBO_DRAWS = 64
POINTS_PER_SIDE = 256
COARSE_POINTS_PER_SIDE = 128  # for the convergence check, and for the training rows: enough for them
DEFAULT_OUT = Path(__file__).parent / "results" / "book.json"
INITIALIZATIONS = ("data", "mean", "uniform")


@dataclass(frozen=True)
class Cell:
    """One training run."""

    prior: str
    initialize: str  # start of pseudo-inputs; "data", the library's default, for priors without pseudo-inputs
    patience: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.prior}/{self.initialize}/patience {self.patience}/seed {self.seed}"


@dataclass(frozen=True)
class Digits:
    """Levels 0..16, (N, 64)."""

    train: Tensor
    valid: Tensor
    test: Tensor

    @classmethod
    def load(cls) -> "Digits":
        digits = load_dataset("digits")
        return cls(*(digits.rows(split).tensor() for split in ("train", "valid", "test")))


def build(prior: str, initialize: str, train: Tensor) -> VAE:
    """Build the book's model; encoder and decoder come first, so that they start equal for all priors of one seed."""
    num_pixels = train.shape[1]
    preprocess = Rescale(0, NUM_LEVELS - 1)
    encoder = NormalEncoder(mlp(num_pixels, HIDDEN, 2 * LATENT_DIM))
    decoder = CategoricalDecoder(mlp(LATENT_DIM, HIDDEN, num_pixels * NUM_LEVELS), NUM_LEVELS)
    settings = ModelSettings.of_prior(
        prior,
        latent_dim=LATENT_DIM,
        components=16,
        points_per_side=4,
        prior_hidden=HIDDEN,
        initialize=initialize,
        grid_start="mean",
        grid_network="mlp",
    )
    features = Features(preprocess(train), *preprocess.feature_range)
    return VAE(encoder, decoder, build_prior(settings, features), preprocess)


def training_settings(patience: int, epochs: int) -> TrainingSettings:
    """Return the book's settings, on one CPU."""
    return TrainingSettings(
        epochs=epochs,
        batch_size=64,
        optimizer="adamax",
        learning_rate=1e-3,
        warmup=0,
        patience=patience,
        accelerator="cpu",
    )


@torch.no_grad()
def measure(vae: VAE, data: Digits) -> dict[str, float]:
    """Return exact NLL and ELBO in nats per datum, and the prior's effective number of components."""
    torch.manual_seed(0)  # the noise of the estimates is the same for every run
    with evaluation_mode(vae):
        p_z = vae.latent_prior()
        bound = torch.cat([elbo(vae, x, num_samples=ELBO_DRAWS, prior=p_z).value() for x in data.test.split(64)])
        window = latent_window(vae, torch.cat([data.train, data.test]), p_z)
        fine = exact_nll(vae, data.test, POINTS_PER_SIDE, window=window)
        coarse = exact_nll(vae, torch.cat([data.train, data.test]), COARSE_POINTS_PER_SIDE, window=window)
        num_train = len(data.train)
        numbers = {
            "test_elbo": float(bound.double().mean()),
            "test_nll": float(fine.nll.mean()),
            "train_nll": float(coarse.nll[:num_train].mean()),
            "quadrature_change": float((coarse.nll[num_train:] - fine.nll).abs().mean()),
            "prior_mass": fine.prior_mass,
            "window": float((window.high - window.low).max()),
        }
        if isinstance(p_z, Mixture):
            numbers["effective_components"] = effective_components(p_z).value
    return numbers


def run(cell: Cell, data: Digits, epochs: int) -> dict[str, Any]:
    """Train and measure one model; record an error if one occurs."""
    began = time.perf_counter()
    record: dict[str, Any] = asdict(cell)
    try:
        torch.manual_seed(cell.seed)
        vae = build(cell.prior, cell.initialize, data.train)
        settings = training_settings(cell.patience, epochs)
        history = fit(vae, data.train, data.valid, settings=settings, seed=cell.seed)
        record |= _course(history) | {"train_seconds": time.perf_counter() - began}
        record |= measure(vae, data)
    except Exception as error:  # a failed seed must not end the experiment, and must be shown
        record["failure"] = f"{type(error).__name__}: {error}"
    return record | {"seconds": time.perf_counter() - began}


def _course(history: History) -> dict[str, Any]:
    return {
        "epochs": history.epochs,
        "best_epoch": history.best_epoch,
        "stopped_early": history.stopped_early,
        "valid_elbo": [round(value, 5) for value in history["valid_elbo"]],
    }


def stop_and_best(valid_elbo: list[float], patience: int) -> tuple[int, int] | None:
    """Return (epochs done, best epoch) of a run of this patience, from a longer run; None if that run ends first.

    >>> stop_and_best([-3.0, -2.0, -2.5, -2.5, -1.0], patience=2)
    (4, 1)
    """
    selection = Selection(patience)
    for epoch, value in enumerate(valid_elbo):
        selection.update(epoch, value, warm=True)
        if selection.stop:
            assert selection.best_epoch is not None
            return epoch + 1, selection.best_epoch
    return None


def derive(cell: Cell, runs: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the record of a run with the same weights as a run of longer patience, or None if there is no such run."""
    for other in runs.values():
        same = all(other[name] == getattr(cell, name) for name in ("prior", "initialize", "seed"))
        if not same or other["patience"] <= cell.patience or "failure" in other or "same_weights_as" in other:
            continue
        stop = stop_and_best(other["valid_elbo"], cell.patience)
        if stop is None or stop[1] != other["best_epoch"]:
            continue
        epochs, best_epoch = stop
        key = Cell(cell.prior, cell.initialize, other["patience"], cell.seed).key
        changed = {"epochs": epochs, "best_epoch": best_epoch, "stopped_early": True, "seconds": 0.0}
        copied = {name: value for name, value in other.items() if name not in ("train_seconds", "valid_elbo")}
        return copied | asdict(cell) | changed | {"same_weights_as": key}
    return None


def cells(priors: list[str], patiences: list[int], seeds: list[int]) -> Iterator[Cell]:
    """Yield the longest patience first, the six priors before the other initializations, seed by seed."""
    for patience in sorted(patiences, reverse=True):
        for initializations in (INITIALIZATIONS[:1], INITIALIZATIONS[1:]):
            for seed in seeds:
                for prior in priors:
                    if initializations == INITIALIZATIONS[:1] or prior == "vamp":
                        yield from (Cell(prior, initialize, patience, seed) for initialize in initializations)


def read_runs(path: Path) -> dict[str, dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}


def write_runs(path: Path, runs: dict[str, dict[str, Any]]) -> None:
    """Replace the file in one step; one line per run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(record)}" for key, record in runs.items())
    content = f'{{"torch": {json.dumps(torch.__version__)}, "runs": {{\n{lines}\n}}}}\n'
    temporary = path.with_suffix(".part")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)


def run_all(todo: list[Cell], out: Path, data: Digits, epochs: int) -> None:
    """Run the cells that the file does not have yet."""
    for number, cell in enumerate(todo, 1):
        runs = read_runs(out)
        if cell.key in runs:
            continue
        record = derive(cell, runs) or run(cell, data, epochs)
        write_runs(out, runs | {cell.key: record})
        print(f"{number}/{len(todo)} {cell.key}: {_summary(record)}", flush=True)


def _summary(record: dict[str, Any]) -> str:
    if "failure" in record:
        return record["failure"]
    numbers = f"nll {record['test_nll']:.2f}, elbo {record['test_elbo']:.2f}, best epoch {record['best_epoch']}"
    return f"{numbers} of {record['epochs']}, {record['seconds']:.0f} s"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The book's experiment: six priors on digits.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--patience", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--priors", nargs="+", choices=list(PRIORS), default=list(PRIORS))
    parser.add_argument("--epochs", type=int, default=1000, help="largest number of epochs")
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, help="file of results; the tables are written beside it as .md"
    )
    parser.add_argument("--table", action="store_true", help="print the tables of the finished runs, and run nothing")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)
    if not options.table:
        todo = list(cells(options.priors, options.patience, options.seeds))
        run_all(todo, options.out, Digits.load(), options.epochs)
    runs = list(read_runs(options.out).values())
    print(report(runs))
    if runs:
        write_report(options.out.with_suffix(".md"), runs)


if __name__ == "__main__":
    main()
