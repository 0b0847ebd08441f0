"""The main jobs, from settings to a run folder: fit, evaluate, embed, score. The command line prints around them."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from priory._support.files import not_a_folder, remove_leftovers
from priory._support.locking import sole_writer
from priory._support.seeds import own_noise
from priory.evaluation import DESCRIPTIONS as LIKELIHOOD_DESCRIPTIONS
from priory.evaluation import Estimate, device_of, evaluate, log_likelihood
from priory.maps import TopographicMap
from priory.maps.quality import MAP_DESCRIPTIONS
from priory.maps.surfaces import Surface
from priory.maps.vae_surface import VAESurface
from priory.priors import PRIORS, GridPrior
from priory.training import History, check_devices, fit, process_rank
from priory.training.history import HISTORY_FILE
from priory.vae import VAE
from priory.workbench.data import Dataset, LikelihoodProposal, Rows, constant_columns, load_dataset, require_complete
from priory.workbench.data.columns import with_columns
from priory.workbench.jobs.map_quality import quality_on_map
from priory.workbench.models.building import build_vae, check_name, facts_of, resolve_likelihood, start_rows
from priory.workbench.models.footprint import require_training_fits
from priory.workbench.runs.folder import CONFIG, FIGURES, FITTED_BY, SPLITS, kind_of
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.vae import ModelSettings, RunSettings

Progress = Callable[[int], None]
DESCRIPTIONS = LIKELIHOOD_DESCRIPTIONS | MAP_DESCRIPTIONS
MOST_NAMED = 5  # columns in a message
TELLING_SPLITS = ("test", "valid")  # evaluation uses the first that has rows


@contextmanager
def new_run(settings: RunSettings, out: Path) -> Iterator[tuple[Run, Dataset, LikelihoodProposal]]:
    """Read the data, settle the likelihood, write the run's configuration, and hold the folder while the block lasts.

    Raises:
        ValueError: the data do not fit, or `out` holds something already.
        BlockingIOError: another process is writing to `out`.
    """
    require_free(out)
    check_devices(settings.training)
    dataset = load_dataset(**settings.data.model_dump())
    require_complete(dataset)
    model, proposal = resolve_likelihood(settings.model, dataset.summary(), dataset.origin)
    settings = settings.model_copy(update={"model": model})
    constants = _left_out(dataset, model)
    modeled = with_columns(dataset, tuple(name for name in dataset.columns if name not in constants))
    check_name("--prior", model.prior, PRIORS)
    require_training_fits(settings, modeled, dataset.image_shape)
    facts = facts_of(modeled.rows("train"), dataset.image_shape, settings.seed, start_rows(model))
    quickly = settings.model_copy(update={"model": model.model_copy(update={"grid_start": "mean"})})
    _seeded_vae(quickly, facts)  # a model that cannot be built should fail before anything is written
    with sole_writer(out):
        require_free(out)  # another process may have begun a run since
        yield Run.create(out, settings, facts, dataset, constants), modeled, proposal


def require_free(
    out: Path,
    go_on: str | None = None,
    left: Callable[[Path], bool] | None = None,
) -> None:
    """Refuse a folder that holds anything but what an interrupted run, or `left`, says may go.

    Raises:
        ValueError: it is not empty, or no folder; `go_on` says what to do where it is a run; None finds out.
    """
    may_go = left or _left_by_an_interruption
    if blocking := not_a_folder([out, *out.parents]):
        raise ValueError(
            f"--out {out}: expected a folder to make the run in, got the file {str(blocking)!r}; name another"
        )
    if out.exists() and any(not may_go(path) for path in out.iterdir()):
        raise ValueError(
            f"--out {out}: expected an empty or a new folder, so that nothing is lost; "
            + (go_on or _how_to_go_on(out) if (out / CONFIG).exists() else "choose another")
        )


def _how_to_go_on(out: Path) -> str:
    try:
        kind = kind_of(out)
    except ValueError:
        return "choose another"
    if kind != Run.kind:
        return f"choose another, or remove what `{FITTED_BY[kind]}` left there"
    return "go on with --resume, or choose another"


def _left_out(dataset: Dataset, model: ModelSettings) -> dict[str, float]:
    """Constant columns that the model is to leave out: a Gaussian has no density for them.

    A convolutional network keeps them, because an image must stay whole.

    Raises:
        ValueError: there is one training row, or all of its columns are constant.
    """
    rows = dataset.rows("train")
    if len(rows) < 2:
        raise ValueError(f"{dataset.origin}: expected at least two training rows, got one; give more rows")
    constants = constant_columns(rows)
    if len(constants) == len(dataset.columns):
        raise ValueError(
            f"{dataset.origin}: expected at least one column with different values in the training rows, got "
            f"{len(constants)} columns that are constant ({describe_constants(constants)}); there is nothing to learn, "
            "check how the file was made"
        )
    return constants if model.likelihood == "gaussian" and model.network != "conv" else {}


def describe_constants(constants: Mapping[str, float]) -> str:
    """Columns and their values, for a message."""
    shown = ", ".join(f"{name!r} = {value:g}" for name, value in list(constants.items())[:MOST_NAMED])
    return shown + (", ..." if len(constants) > MOST_NAMED else "")


def train(
    run: Run, dataset: Dataset, *, resume: bool = False, progress: bool = False, tensorboard: bool = False
) -> VAE:
    """Train the run's model and write its weights; what has been done already is not done again."""
    if process_rank() == 0:
        for folder in (run.path, run.path / FIGURES):
            remove_leftovers(folder)
    require_training_fits(run.settings, dataset, run.facts.image_shape)
    began = run.load_state() if resume else None  # which spares a grid the fit of the GTM that it started as
    vae = _new_model(run, dataset) if began is None else began
    fit(
        vae,
        dataset.rows("train"),
        dataset.rows("valid"),
        settings=run.settings.training,
        seed=run.settings.seed,
        out=run.path,
        resume=resume,
        progress=progress,
        tensorboard=tensorboard,
    )
    if process_rank() == 0:
        run.save_model(vae)
    return vae


def _new_model(run: Run, dataset: Dataset) -> VAE:
    model, seed = run.settings.model, run.settings.seed
    return _seeded_vae(run.settings, facts_of(dataset.rows("train"), run.facts.image_shape, seed, start_rows(model)))


def as_judged(run: Run, dataset: Dataset) -> Dataset:
    """The data that a model is judged by: rows that are binarized anew in each epoch of training are binarized once."""
    return run.load_dataset(drawn=True) if dataset.dynamic_binarization else dataset


def draw(run: Run, vae: VAE, dataset: Dataset) -> list[Path]:
    """The run's figures, with noise of the run's seed: whether it was interrupted makes no difference."""
    from priory.workbench.pictures.vae import draw_figures

    history = History.read(run.path / HISTORY_FILE) if (run.path / HISTORY_FILE).is_file() else None
    shown = (run.facts.image_shape, run.restored)
    with own_noise(run.settings.seed, device_of(vae)):
        return draw_figures(vae, telling_rows(dataset), *shown, history, run.path / FIGURES)


def telling_rows(dataset: Dataset) -> Rows:
    """Rows that the model has not seen: test, or validation where these are too few for a standard error; else all."""
    for split in TELLING_SPLITS:
        if len(dataset.splits.get(split, ())) >= 2:
            return dataset.rows(split)
    return dataset.all_rows()


def measure(
    vae: VAE,
    rows: Rows,
    num_samples: int,
    seed: int,
    progress: Progress | None = None,
    per_row: Callable[[dict[str, Tensor]], None] | None = None,
) -> dict[str, Estimate]:
    """`evaluate` with noise of its own seed, so that the same model gives the same numbers; and with a grid prior,
    how good its map is.

    Raises:
        ArithmeticError: a number is NaN or infinite, so some rows have no likelihood under the model.
    """
    with own_noise(seed, device_of(vae)):
        metrics = evaluate(vae, rows, num_samples, progress=progress, per_row=per_row)
    if isinstance(vae.prior, GridPrior):
        metrics |= quality_on_map(TopographicMap(vae, rows), rows)
    bad = [name for name, estimate in metrics.items() if not math.isfinite(estimate.value)]
    if bad:
        raise ArithmeticError(
            f"evaluation: expected finite numbers, got NaN or infinity for {', '.join(bad)}; some rows have no "
            "likelihood under this model: `priory score` writes each row's, and shows which they are"
        )
    return metrics


@torch.no_grad()
def embed(vae: VAE, rows: Rows, batch_size: int = 1024) -> dict[str, np.ndarray]:
    """`z_mean`, `z_scale` of q(z|x); with a grid prior `map`, each row's place, and `map_scale`, the spread of u."""
    parts: list[tuple[Tensor, ...]] = []
    for x, _ in rows.batches(batch_size):
        q = vae.encode(x.to(device_of(vae)))
        parts.append((q.mean, q.stddev))
    columns = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
    found = dict(zip(("z_mean", "z_scale"), columns, strict=True))
    if isinstance(vae.prior, GridPrior):
        places = TopographicMap(vae, rows).places
        found |= {"map": places.place.numpy(), "map_scale": places.scale.numpy()}
    return found


@torch.no_grad()
def score(
    vae: VAE, rows: Rows, num_samples: int, seed: int, batch_size: int = 128, progress: Progress | None = None
) -> np.ndarray:
    """The estimated log p(x) of each row, in nats."""
    with own_noise(seed, device_of(vae)):
        p_z = vae.latent_prior()
        parts = []
        for x, _ in rows.batches(batch_size):
            parts.append(log_likelihood(vae, x.to(device_of(vae)), num_samples, prior=p_z))
            if progress is not None:
                progress(sum(map(len, parts)))
    return torch.cat(parts).cpu().numpy()


@torch.no_grad()
def sample(vae: VAE, number: int, seed: int, mean: bool) -> Tensor:
    """New rows, (number, columns of the model), on the CPU; with `mean`, E[x|z] instead of draws from p(x|z)."""
    torch.manual_seed(seed)
    return torch.cat([vae.sample(min(1024, number - start), mean=mean).cpu() for start in range(0, number, 1024)])


def surface(vae: VAE, num_samples: int) -> Surface:
    """The map that the model draws, if its prior has a grid; likelihoods by so many importance samples."""
    return VAESurface(vae, num_samples)


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> list[str]:
    """Names of the settings that differ, for a message."""
    names = []
    for key, value in before.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            names += changed_settings(value, after[key], name)
        elif value != after[key]:
            names.append(name)
    return names


def _left_by_an_interruption(path: Path) -> bool:
    """What a run leaves that was stopped before its configuration was written."""
    return path.name == SPLITS or path.name.startswith((f".{Path(SPLITS).stem}-", f".{Path(CONFIG).stem}-"))


def _seeded_vae(settings: RunSettings, facts: Any) -> VAE:
    with own_noise(settings.seed, torch.device("cpu")):
        return build_vae(settings.model, facts)
