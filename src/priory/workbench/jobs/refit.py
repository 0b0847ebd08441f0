"""The job of `priory refit`: a new run with the encoder and decoder of another run, and a prior fitted to them."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from priory._support.files import TEMPORARY, remove_leftovers, write_json
from priory._support.locking import sole_writer
from priory._support.seeds import own_noise
from priory.evaluation import Estimate
from priory.evaluation.estimates import mean
from priory.priors import HierarchicalPrior, ResampledPrior
from priory.training.refitting import Refitted, refit
from priory.training.settings import RefitSettings
from priory.vae import AnyVAE
from priory.workbench.data import Dataset
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.models.building import build_prior
from priory.workbench.models.facts import facts_of
from priory.workbench.report.run import REPORT, write_run_report
from priory.workbench.runs.config import CONFIG
from priory.workbench.runs.folder import FIGURES, MADE, METRICS, MODEL, SPLITS
from priory.workbench.runs.stored import RefitRecord
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.base import changed_settings, with_options
from priory.workbench.settings.model import prior_settings, stands_on
from priory.workbench.settings.priors import PRIORS, BaseSettings, GridSettings
from priory.workbench.settings.run import RefitRequest

REFIT = "refit.json"
COMPARED = ("elbo", "nll")


def requested(
    run: Run, given: Mapping[str, Any], assignments: list[str], flags: Mapping[str, str] | None = None
) -> RefitRequest:
    """Return the model settings of the run, changed by options and assignments.

    By default, the network of a grid has radial functions, so that EM can fit it, and no guide, which only trains an
    encoder. The default base prior is the run's own prior.
    """
    name, before = given["model.prior"], run.settings.model
    base = RefitRequest(model=before)
    new = PRIORS.asked_for(name, "--prior").settings
    usual = {"model.grid_network": "rbf", "model.grid_start": "mean"} if issubclass(new, GridSettings) else {}
    if issubclass(new, BaseSettings) and not issubclass(PRIORS[before.prior].settings, BaseSettings):
        usual = {"model.base_prior": before.prior}
    request = with_options(base, usual | dict(given), assignments, flags=flags)
    if request.model.prior != name:
        raise ValueError("--set model.prior: expected the new prior in --prior; leave --set model.prior out")
    changed = changed_settings(base.model.model_dump(), request.model.model_dump())
    others = [
        setting
        for setting in changed
        if setting not in {"prior"} | prior_settings(before) | prior_settings(request.model)
    ]
    if others:
        settings = (*prior_settings(request.model), *RefitSettings.model_fields)
        raise ValueError(
            f"--set model.{others[0]}: refit does not change the encoder and the decoder; expected a setting of the "
            f"prior or of refit: {', '.join(sorted(settings))}"
        )
    if isinstance(model := request.model, GridSettings):
        return request.model_copy(update={"model": model.for_rows(run.facts.num_train_rows)})
    return request


@contextmanager
def free_folder(out: Path) -> Iterator[None]:
    """Lock a folder that is new, empty, or contains only files of an interrupted refit.

    Raises:
        ValueError: it has other files.
        BlockingIOError: another process is writing to it.
    """
    vae_jobs.require_free(out, "choose another", _left_by_a_refit)
    is_new = not out.exists()
    try:
        with sole_writer(out):
            vae_jobs.require_free(
                out, "choose another", _left_by_a_refit
            )  # another process may have written in the meantime
            for folder in (out, out / FIGURES):
                remove_leftovers(folder)
            yield
    except BaseException:
        if is_new:
            with suppress(OSError):  # it is not empty, or was not created
                out.rmdir()
        raise


def _left_by_a_refit(path: Path) -> bool:
    """Return whether an interrupted refit left this file: a refit writes the split first, the configuration last."""
    begun = (path.parent / SPLITS).exists() and not (path.parent / CONFIG).exists()
    ours = path.name in (SPLITS, MADE, MODEL, METRICS, FIGURES, REFIT, REPORT) or bool(TEMPORARY.fullmatch(path.name))
    return ours and (begun or path.name.startswith(f".{Path(SPLITS).stem}-"))


def refitted(
    run: Run, vae: AnyVAE, dataset: Dataset, request: RefitRequest, progress: Callable[[int], None] | None = None
) -> Refitted:
    """Return the run's model with another prior, fitted to the training rows and selected by the validation rows."""
    components = getattr(request.model, "components", 1)
    facts = facts_of(dataset.rows("train"), run.facts.image_shape, request.seed, components)
    preprocess: Any = copy.deepcopy(vae.preprocess).cpu()
    with own_noise(request.seed, torch.device("cpu")), torch.no_grad():  # the same initial values as in `priory fit`
        prior = build_prior(request.model, facts.features(preprocess))
        if isinstance(prior, HierarchicalPrior):
            prior.conditional.load_state_dict(vae.prior.conditional.state_dict())  # type: ignore[union-attr]
    valid = dataset.rows("valid") if len(dataset.splits["valid"]) else None
    fitted: Any = partial(
        refit, vae, train=dataset.rows("train"), valid=valid, settings=request.refit, seed=request.seed
    )
    try:
        if isinstance(prior, ResampledPrior):
            if stands_on(request.model, run.settings.model):
                prior.base.load_state_dict(vae.prior.state_dict())
            else:
                fitted(prior.base)
        return fitted(prior, progress=progress)
    except ArithmeticError as error:
        error.add_note(f"(--set refit.learning_rate={request.refit.learning_rate / 10:g})")
        raise


def difference(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Estimate]:
    """Return the mean of after - before of ELBO and NLL over rows; its error is small, because rows are paired."""
    return {name: mean(after[name] - before[name]) for name in COMPARED}


def write_run(
    run: Run,
    out: Path,
    refitted_model: Refitted,
    request: RefitRequest,
    dataset: Dataset,
    measured: Mapping[str, dict[str, Estimate]],
    evaluation: tuple[int, int],
    made: tuple[str, float],
) -> tuple[Run, list[Path]]:
    """Write the new run into `out`; the configuration comes last, so that the folder is a run only when complete.

    Args:
        run: the run with the encoder and decoder.
        out: the new folder, locked.
        refitted_model: the result of `refitted`.
        request: the request given to `refitted`.
        dataset: the data of the figures.
        measured: metrics by `before`, `after` and `difference`.
        evaluation: importance samples and seed of the measurements.
        made: the command line, and the seconds that `refitted` took.

    Returns:
        The new run and its figures.
    """
    settings = run.settings.model_copy(update={"model": request.model})
    record = RefitRecord(
        run=str(run.path.resolve()), prior=run.settings.model.prior, seed=request.seed, settings=request.refit
    )
    new = replace(run, path=out, settings=settings, refit_of=record)
    new.write_splits(dataset)
    new.write_made(*made)
    new.save_model(refitted_model.model)
    new.write_metrics(measured["after"], *evaluation)
    compared = {which: {name: m[name]._asdict() for name in COMPARED} for which, m in measured.items()}
    course = {"by_em": refitted_model.by_em, "valid_log_prior": refitted_model.course, "best": refitted_model.best}
    write_json(out / REFIT, compared | course)
    dataset = vae_jobs.as_judged(run, dataset)
    pictures = vae_jobs.draw(new, refitted_model.model, dataset)
    write_run_report(new, refitted_model.model, dataset, vae_jobs)
    new.write_config()
    return new, pictures
