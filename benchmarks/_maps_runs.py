"""Train a model for the table of maps, or read its run; measure its NLL, and its map by each way to place rows."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from _map_data import Split, cells, file_of
from _map_judging import judged
from _maps_places import places_of
from _maps_variants import assignments
from priory._support.files import replacing
from priory._support.locking import sole_writer
from priory.training.history import HISTORY_FILE, History
from priory.vae import VAE
from priory.workbench.data import Dataset, DatasetRows, load_dataset
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.runs.folder import CONFIG
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.base import with_options
from priory.workbench.settings.run import RunSettings

Row = dict[str, Any]
NUM_SAMPLES = {"digits": 512, "oil flow": 512, "cells": 512}
MOST_SAMPLES, STEP = 128, 10  # for (Fashion-)MNIST: samples, and every tenth test row


def settings_of(data: str, variant: str, seed: int, extra: tuple[str, ...] = ()) -> list[str]:
    """Return the assignments of a run, with its seed."""
    return [*assignments(data, variant), *extra, f"seed={seed}"]


def folder_of(runs: Path, data: str, variant: str, settings: list[str]) -> Path:
    """Return the folder of a run. Its name depends on the settings, so a variant may change its settings."""
    stamp = hashlib.sha256("\n".join(settings).encode()).hexdigest()[:8]
    return runs / f"{data.replace(', ', '-').replace(' ', '-')}-{variant}-{stamp}"


def trained(folder: Path, source: str, settings: list[str]) -> tuple[Run, VAE]:
    """Return the run in the folder: start it, continue it, or read it if it is finished."""
    wanted = with_options(RunSettings(), {}, [f"data.source={source}", *settings])
    if not (folder / CONFIG).exists():
        with vae_jobs.new_run(wanted, folder) as new:
            return new.run, vae_jobs.train(new.run, new.dataset, new.vae).eval()
    run = Run.open(folder)
    if run.finished:
        return run, run.load_model()
    with sole_writer(folder):
        return run, vae_jobs.train(run, run.load_dataset(), resume=True).eval()


def source_of(data: str, data_dir: str | None, runs: Path) -> str:
    """Return the source of the data of a run; write the counts of cells to a file first."""
    name = data.partition(",")[0]
    if name == "digits":
        return name
    if name != "cells":
        return str(file_of(name, data_dir))
    file = runs / "cells.npz"
    if not file.exists():
        arrays = {
            f"{part}_{key}": each
            for part, rows in cells(data_dir)._asdict().items()
            for key, each in zip("xy", rows, strict=False)
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)
    return str(file)


def encoded_rows(run: Run) -> Dataset:
    """Return the data that the encoder gets: the gray values if training binarizes the images."""
    if run.settings.data.binarize == "none":
        return run.load_dataset()
    gray = load_dataset(run.settings.data.source)
    return replace(gray, x=(gray.x / np.float32(run.binarize_scale)).astype(np.float32))


def judged_places(run: Run, vae: VAE, split: Split) -> Row:
    """Measure each way to place test rows; the first way also with validation rows and binary images."""
    ways, dataset = places_of(vae), encoded_rows(run)
    train, test = dataset.rows("train"), dataset.rows("test")
    result = {name: judged(split, *place(vae, train, test)) for name, place in ways.items()}
    name, place = next(iter(ways.items()))
    valid = place(vae, train, dataset.rows("valid"))
    result[f"{name}, validation rows"] = judged(split._replace(test=split.valid), *valid)
    if run.settings.data.binarize != "none":
        binary = run.load_dataset(drawn=True)
        result[f"{name}, binary rows"] = judged(split, *place(vae, binary.rows("train"), binary.rows("test")))
    return result


def nll(vae: VAE, test: DatasetRows, data: str) -> Row:
    """Estimate the NLL in nats by importance sampling, with its standard error over rows."""
    step = 1 if data in NUM_SAMPLES else STEP
    rows, number = DatasetRows(test.dataset, test.indices[::step]), NUM_SAMPLES.get(data, MOST_SAMPLES)
    values = -vae_jobs.score(vae, rows, number, seed=0)
    return {"nll": float(values.mean()), "nll s.e.": float(values.std(ddof=1) / len(values) ** 0.5)}


def run_row(data: str, data_dir: str | None, split: Split, variant: str, settings: list[str], runs: Path) -> Row:
    """Train or read the model, and measure it; `split` has the rows in which neighbors are searched."""
    run, vae = trained(folder_of(runs, data, variant, settings), source_of(data, data_dir, runs), settings)
    start = time.perf_counter()
    row: Row = {"settings": " ".join(settings)} | nll(vae, run.load_dataset().rows("test"), data)
    row["places"] = judged_places(run, vae, split)
    history = History.read(run.path / HISTORY_FILE)
    row |= {"epochs": history.epochs, "best epoch": history.best_epoch, "s": sum(history["seconds"])}
    return row | {"s to judge": time.perf_counter() - start}
