"""The job of `priory refit`: from a run to another one with the same encoder and decoder and a prior fitted to them."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from priory._support.files import TEMPORARY, remove_leftovers, write_json
from priory._support.locking import sole_writer
from priory._support.seeds import own_noise
from priory.evaluation import Estimate
from priory.evaluation.estimates import mean
from priory.priors import PRIORS, GridPrior
from priory.training.refitting import RefitSettings, Refitted, refit
from priory.vae import VAE
from priory.workbench.data import Dataset
from priory.workbench.jobs import vae as experiment
from priory.workbench.models.building import build_prior, facts_of, start_rows
from priory.workbench.models.footprint import require_training_fits
from priory.workbench.report.run import REPORT, write_run_report
from priory.workbench.runs.folder import CONFIG, FIGURES, METRICS, MODEL, SPLITS
from priory.workbench.runs.stored import RefitRecord
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.vae import ModelSettings, RefitRequest, with_options

REFIT = "refit.json"
# The model's settings that a refit may change.
OF_THE_PRIOR = {
    "prior",
    "components",
    "points_per_side",
    "grid_dim",
    "prior_hidden",
    "learn_weights",
    "learn_pseudo_inputs",
    "initialize",
    "flow_transforms",
    "grid_start",
    "grid_network",
    "basis_per_side",
    "basis_width",
}
COMPARED = ("elbo", "nll")


def requested(run: Run, given: Mapping[str, Any], assignments: list[str]) -> RefitRequest:
    """What was asked for, over the run's own settings of the model.

    A grid's network is one of radial functions where nothing else is said: it has a closed form to start from. A guide
    is for training an encoder, which is over.

    Raises:
        ValueError: a setting is not known or its value does not fit, or it is the encoder's or the decoder's.
    """
    prior = PRIORS[given["model.prior"]]
    network = {"model.grid_network": "rbf", "model.grid_start": "mean"} if issubclass(prior, GridPrior) else {}
    base = RefitRequest(model=run.settings.model)
    request = with_options(base, network | dict(given), assignments)
    changed = experiment.changed_settings(base.model.model_dump(), request.model.model_dump())
    kept = [f"model.{name}" for name in changed if name not in OF_THE_PRIOR]
    if request.model.prior != given["model.prior"]:
        raise ValueError("--set model.prior: the new prior is named by --prior")
    if kept:
        settings = (*(OF_THE_PRIOR - {"prior"}), *RefitSettings.model_fields)
        raise ValueError(
            f"--set {kept[0]}: refit keeps the encoder and the decoder as they are; expected a setting of the prior or "
            f"of refit: {', '.join(sorted(settings))}"
        )
    return request


@contextmanager
def free_folder(out: Path) -> Iterator[None]:
    """Hold a folder that is new, or empty, or has what an interrupted refit left, which is not yet a run.

    Raises:
        ValueError: it holds something else.
        BlockingIOError: another process is writing to it.
    """
    experiment.require_free(out, "choose another", _left_by_a_refit)
    with _gone_if_empty(out), sole_writer(out):
        experiment.require_free(out, "choose another", _left_by_a_refit)  # another process may have written since
        for folder in (out, out / FIGURES):
            remove_leftovers(folder)
        yield


@contextmanager
def _gone_if_empty(out: Path) -> Iterator[None]:
    """Where nothing was written because something was wrong, no folder is left that was not there before."""
    there = out.exists()
    try:
        yield
    except BaseException:
        if not there:
            with suppress(OSError):  # it holds something, or was not made
                out.rmdir()
        raise


def _left_by_a_refit(path: Path) -> bool:
    """Its configuration comes last, and the split first: between them, what lies there is nobody's."""
    begun = (path.parent / SPLITS).exists() and not (path.parent / CONFIG).exists()
    ours = path.name in (SPLITS, MODEL, METRICS, FIGURES, REFIT, REPORT) or bool(TEMPORARY.fullmatch(path.name))
    return ours and (begun or path.name.startswith(f".{Path(SPLITS).stem}-"))


def refitted(
    run: Run, vae: VAE, dataset: Dataset, request: RefitRequest, progress: Callable[[int], None] | None = None
) -> Refitted:
    """The run's model with another prior, fitted to its training rows and chosen by its validation rows.

    Raises:
        NotEnoughMemoryError: it would take more memory than there is.
    """
    settings = run.settings.model_copy(update={"model": request.model})
    require_training_fits(settings, dataset, run.facts.image_shape)
    prior = _start(vae, dataset, run, request.model, request.seed)
    valid = dataset.rows("valid") if len(dataset.splits["valid"]) else None
    options: Any = {"settings": request.refit, "seed": request.seed, "progress": progress}
    return refit(vae, dataset.rows("train"), prior, valid, **options)


def _start(vae: VAE, dataset: Dataset, run: Run, model: ModelSettings, seed: int) -> Any:
    """The prior before it is fitted, as `priory fit` would begin with it."""
    facts = facts_of(dataset.rows("train"), run.facts.image_shape, seed, start_rows(model))
    preprocess: Any = copy.deepcopy(vae.preprocess).cpu()
    with own_noise(seed, torch.device("cpu")), torch.no_grad():
        return build_prior(model, facts, preprocess)


def difference(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Estimate]:
    """after - before of each row's ELBO and NLL, averaged: as the rows are the same, its error is small."""
    return {name: mean(after[name] - before[name]) for name in COMPARED}


def write_run(
    run: Run,
    out: Path,
    found: Refitted,
    request: RefitRequest,
    dataset: Dataset,
    measured: Mapping[str, dict[str, Estimate]],
    evaluation: tuple[int, int],
) -> tuple[Run, list[Path]]:
    """Write the new run, its configuration last, so that the folder is a run when it is whole.

    Args:
        run: where encoder and decoder come from.
        out: the new folder, held.
        found: what `refitted` gave.
        request: what it was asked for.
        dataset: for the figures.
        measured: `before`, `after` and `difference`.
        evaluation: importance samples and seed of the measurements.

    Returns:
        The new run and its figures.
    """
    settings = run.settings.model_copy(update={"model": request.model})
    record = RefitRecord(
        run=str(run.path.resolve()), prior=run.settings.model.prior, seed=request.seed, settings=request.refit
    )
    new = replace(run, path=out, settings=settings, refit_of=record)
    new.write_splits(dataset)
    new.save_model(found.vae)
    new.write_metrics(measured["after"], *evaluation)
    compared = {which: {name: m[name]._asdict() for name in COMPARED} for which, m in measured.items()}
    course = {"by_em": found.by_em, "valid_log_prior": found.course, "best": found.best}
    write_json(out / REFIT, compared | course)
    dataset = experiment.as_judged(run, dataset)
    pictures = experiment.draw(new, found.vae, dataset)
    write_run_report(new, found.vae, dataset, experiment)
    new.write_config()
    return new, pictures
