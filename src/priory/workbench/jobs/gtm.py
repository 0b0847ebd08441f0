"""The jobs of a map: fit, measure, embed, score, impute, sample, and write the run folder."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from priory._support.files import remove_leftovers, replacing
from priory._support.locking import sole_writer
from priory._support.memory import require_memory
from priory._support.seeds import row_seed
from priory.evaluation import Estimate, Evaluation
from priory.evaluation.estimates import mean
from priory.gtm import GTM
from priory.maps.gtm_surface import log_volume
from priory.maps.quality import MAP_DESCRIPTIONS
from priory.maps.surfaces import Surface
from priory.training.history import HISTORY_FILE
from priory.workbench.data import (
    Dataset,
    DatasetRows,
    constant_columns,
    load_dataset,
    require_finite,
    telling_rows,
    with_columns,
)
from priory.workbench.data.reading.matrices import crowded_columns
from priory.workbench.jobs.map_quality import quality_on_map
from priory.workbench.jobs.vae import require_finite_metrics, require_free
from priory.workbench.models.scaled_gtm import BATCH, MapModel, Progress, batches, means_and_scales
from priory.workbench.report.run import REPORT
from priory.workbench.runs.config import CONFIG, kind_of
from priory.workbench.runs.folder import FIGURES, METRICS, MODEL, checksums
from priory.workbench.runs.gtm_run import GTMRun
from priory.workbench.runs.outputs import require_apart
from priory.workbench.runs.stored import StoredScaling
from priory.workbench.settings.gtm import GTMRunSettings, GTMSettings

PICTURES = ("map", "nodes", "magnification", "landscape", "training")  # an unfinished fit may have written these

DESCRIPTIONS = {
    "nll": "-log p(x), exact, in the data's units",
    **MAP_DESCRIPTIONS,
    "noise_variance": "around the sheet, in the model's units",
}


@dataclass(frozen=True)
class FitData:
    """The data of a fit and their properties."""

    dataset: Dataset  # with the columns of the model
    missing: int  # number of missing cells in these columns, over all rows
    why: str  # the reason for standardizing columns or not


@contextmanager
def new_gtm_run(
    settings: GTMRunSettings, out: Path, dataset: Dataset | None = None
) -> Iterator[tuple[GTMRun, FitData]]:
    """Read the data, choose the scaling of columns, and lock the folder during the block, without writing yet.

    Args:
        settings: settings of the run.
        out: folder of the run.
        dataset: the data, if already read and checked to be finite.

    Raises:
        ValueError: the data do not fit the settings, or `out` is not empty.
        BlockingIOError: another process is writing to `out`.
    """
    _require_free(out)
    require_apart(out, settings.data.source)
    if dataset is None:
        dataset = load_dataset(**settings.data.model_dump())
        require_finite(dataset)
    settings = settings.model_copy(update={"data": settings.data.as_decided(streamed=dataset.streamed)})
    known = dataset.known
    crowded = crowded_columns(dataset.x) if known is None else known.crowded
    dataset = replace(dataset, precise=bool(crowded.size))
    if len(dataset.rows("train")) < 2:
        raise ValueError(f"{dataset.origin}: expected at least two training rows, got one; give more rows")
    standardize, why = _standardize(settings.model, dataset)
    constants = _left_out(dataset, standardize)
    modeled = with_columns(dataset, tuple(name for name in dataset.columns if name not in constants))
    _require_memory(settings.model, modeled)
    scaling = None
    if standardize:
        loc, scale = means_and_scales(modeled.rows("train"))
        scaling = StoredScaling(loc=tuple(loc.tolist()), scale=tuple(scale.tolist()))
    run = GTMRun(
        out,
        settings,
        dataset.columns,
        constants,
        **checksums(dataset),
        image_shape=dataset.image_shape,
        standardized=scaling,
        precise=dataset.precise,
    )
    with sole_writer(out):
        _require_free(out)  # another process may have begun a run in the meantime
        yield run, FitData(modeled, modeled.summary().missing, why)


def _require_free(out: Path) -> None:
    """Refuse a folder with a run, unless its fit did not end: the same command then starts it again."""
    with suppress(ValueError):  # the folder has no run
        if kind_of(out) == GTMRun.kind and not (out / MODEL).exists():
            return
    require_free(out, go_on="choose another, or remove the run in it")


def _standardize(settings: GTMSettings, dataset: Dataset) -> tuple[bool, str]:
    """Decide whether to standardize columns, because a GTM's noise has one variance; return also the reason."""
    if settings.standardize is not None:
        return settings.standardize, "as requested"
    if dataset.image_shape is not None:
        return False, "images: pixels have a common unit; --standardize gives each the same weight"
    if dataset.summary().binary:
        return False, "all values are 0 or 1; --standardize gives rare ones more weight"
    return True, "so that units do not matter; --raw keeps the original units"


def _left_out(dataset: Dataset, standardize: bool) -> dict[str, float | None]:
    """Return the columns to leave out: those without a value in training rows, and if standardized, constant ones."""
    rows = dataset.rows("train")
    filled = torch.zeros(len(dataset.columns), dtype=torch.bool)
    for x, _ in rows.batches(BATCH):
        filled |= ~x.isnan().all(0)
    empty = [name for name, some in zip(dataset.columns, filled.tolist(), strict=True) if not some]
    constants = constant_columns(rows)
    if len(constants) + len(empty) == len(dataset.columns):
        raise ValueError(
            f"{dataset.origin}: expected at least one column with different values in the training rows, got "
            f"{len(constants)} constant and {len(empty)} empty columns; there is nothing to learn, check the file"
        )
    return dict.fromkeys(empty) | (constants if standardize else {})


def _require_memory(settings: GTMSettings, dataset: Dataset) -> None:
    nodes, columns = settings.points_per_side**2, len(dataset.columns)
    basis = (settings.basis_per_side or (settings.points_per_side + 1) // 2) ** 2 + 1
    numbers = len(dataset) * columns
    rows = 8 * (
        3 * numbers if settings.batch_size else min(4 * numbers, 2**26)
    )  # batches are drawn from all rows in memory
    require_memory(
        rows + 8 * (4 * nodes * columns + 2 * nodes * basis + 3 * basis**2 + 2 * basis * columns),
        f"a map of {nodes} nodes, {basis - 1} radial functions and {columns} columns",
        "use a smaller --points-per-side or --basis-per-side, or fewer columns",
    )


def fit(run: GTMRun, dataset: Dataset, device: str) -> MapModel:
    """Fit the map to the training rows, after removing the files of an earlier fit that did not end."""
    figures = [run.path / FIGURES / f"{name}.png" for name in PICTURES]
    for file in (*(run.path / name for name in (CONFIG, METRICS, HISTORY_FILE, REPORT)), *figures):
        file.unlink(missing_ok=True)
    for folder in (run.path, run.path / FIGURES):
        remove_leftovers(folder)
    settings = run.settings.model
    gtm = GTM(**settings.model_dump(exclude={"standardize"}), device=device, random_state=run.settings.seed)
    model = MapModel(gtm, run.scaler, run.precise)
    rows = dataset.rows("train")
    if settings.batch_size is None:
        held = held_out_rows(dataset)
        held_out = None if held is None else lambda: map(model.scaled, batches(held))
        gtm.fit_batches(lambda: map(model.scaled, batches(rows)), held_out)
    else:
        gtm.fit(model.scaled(rows.tensor().double().numpy()))
    return model


def held_out_rows(dataset: Dataset) -> DatasetRows | None:
    """Return the held-out rows that measure the map; None if all rows are training rows."""
    return telling_rows(dataset) if len(dataset.rows("train")) < len(dataset) else None


def _history(model: MapModel, dataset: Dataset) -> dict[str, np.ndarray]:
    """Return, for each iteration, the mean log-likelihood of training rows before it, without and with the penalty.

    If there are held-out rows and EM is not incremental, the last column is their mean. All values are in nats, in the
    data's units.
    """
    gtm, rows, held = model.gtm, dataset.rows("train"), held_out_rows(dataset)
    volume = _mean_log_volume(model, rows)
    history = {
        "iteration": np.arange(1, gtm.n_iter_ + 1),
        "log_likelihood": gtm.log_likelihoods_ - volume,
        "penalized_log_likelihood": gtm.penalized_log_likelihoods_ - volume,
    }
    if held is not None and len(gtm.held_out_log_likelihoods_):
        history["held_out_log_likelihood"] = gtm.held_out_log_likelihoods_ - _mean_log_volume(model, held)
    return history


def _mean_log_volume(model: MapModel, rows: DatasetRows) -> float:
    return float(sum(log_volume(model.scaler, x).sum() for x in batches(rows)) / len(rows))


def gap(model: MapModel, dataset: Dataset) -> float:
    """Return by how many nats per column held-out rows are less likely than training rows; 0 if there are none."""
    history = _history(model, dataset)
    if "held_out_log_likelihood" not in history:
        return 0.0
    return float(history["log_likelihood"][-1] - history["held_out_log_likelihood"][-1]) / model.gtm.n_features_in_


def write(
    run: GTMRun,
    model: MapModel,
    data: FitData,
    metrics: dict[str, Estimate],
    made: tuple[str, float],
    page: Callable[[], object],
) -> list[Path]:
    """Write the run folder, its figures and its page; the model comes last, so a folder with a model is complete.

    `made` contains the command line and the seconds that `fit` took.
    """
    from priory.workbench.pictures.gtm import draw_figures

    run.write_splits(data.dataset)
    run.write_made(*made)
    run.write_config()
    history = _history(model, data.dataset)
    lines = [history, *zip(*(map(repr, column.tolist()) for column in history.values()), strict=True)]
    with replacing(run.path / HISTORY_FILE) as temporary:  # repr keeps every bit of a number
        temporary.write_text("".join(f"{','.join(line)}\n" for line in lines), encoding="utf-8")
    run.write_metrics(metrics, 0, 0)
    pictures = draw_figures(run, model, data.dataset, history)
    page()
    model.gtm.save(run.path / MODEL)
    return pictures


def measure(
    model: MapModel, rows: DatasetRows, num_samples: int, seed: int, progress: Progress | None = None
) -> Evaluation:
    """Return the metrics in `DESCRIPTIONS`; the likelihood is exact, so samples and seed are not used."""
    drawn = model.drawn(rows, progress)
    each = -drawn.log_likelihood
    noise = Estimate(model.gtm.noise_variance_, math.nan)
    metrics = Evaluation({"nll": mean(each), **quality_on_map(drawn, rows), "noise_variance": noise}, {"nll": each})
    require_finite_metrics(metrics, rows)
    return metrics


def embed(model: MapModel, rows: DatasetRows) -> dict[str, np.ndarray]:
    """Return `map`, each row's place, and `map_scale`, the standard deviation of u given x."""
    places = model.drawn(rows).places
    return {"map": places.place.numpy(), "map_scale": places.scale.numpy()}


def score(
    model: MapModel, rows: DatasetRows, num_samples: int, seed: int, *, progress: Progress | None = None
) -> np.ndarray:
    """Return the exact log p(x) of each row in nats, in the data's units."""
    parts, done = [], 0
    for x, _ in rows.batches(BATCH):
        parts.append(model.surface.log_likelihood(x))
        done += len(x)
        if progress is not None:
            progress(done)
    return torch.cat(parts).numpy()


def filled(
    model: MapModel, rows: DatasetRows, num_steps: int, seed: int, draw: bool, *, progress: Progress | None = None
) -> Tensor:
    """Return the rows with missing cells filled in; exact, so the number of steps is not used."""
    parts, done = [], 0
    for x, index in rows.batches(BATCH):
        own_seed = row_seed(seed, " ".join(rows.dataset.ids[index.numpy()].astype(str)))
        random = np.random.RandomState(np.random.MT19937(own_seed))
        gtm = copy(model.gtm).set_params(random_state=random)
        restored = torch.from_numpy(model.restored(gtm.impute(model.scaled(x.double().numpy()), draw=draw)))
        parts.append(torch.where(x.isnan(), restored.to(x), x))
        done += len(x)
        if progress is not None:
            progress(done)
    return torch.cat(parts)


def row_numbers(model: MapModel, rows: DatasetRows, num_samples: int, seed: int) -> dict[str, np.ndarray]:
    """Return the numbers per row whose means `measure` returns."""
    return {"nll": -score(model, rows, num_samples, seed)}


def sample(model: MapModel, number: int, seed: int, mean: bool) -> Tensor:
    """Draw rows in the data's units, (number, columns of the model); with `mean`, images of drawn nodes."""
    random = np.random.RandomState(np.random.MT19937(seed))
    x, node = copy(model.gtm).set_params(random_state=random).sample(number)
    rows = torch.from_numpy(model.restored(model.gtm.means_[node] if mean else x))
    return rows if model.precise else rows.float()


def surface(model: MapModel, num_samples: int) -> Surface:
    """Return the map; its likelihoods are exact, so the number of samples is not used."""
    return model.surface
