"""`priory fit`: begin or resume a run, train, evaluate, draw."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from priory._support.locking import sole_writer
from priory.maps.model_surface import grid_prior_of
from priory.training import LostProcessError, process_rank
from priory.training.history import HISTORY_FILE
from priory.training.settings import TrainingSettings
from priory.training.states import STATE_FILE
from priory.training.trainer import wait_for_all
from priory.vae import AnyVAE
from priory.workbench.cli.commands.evaluate import EVALUATION_SEED, evaluated, keeps_better_metrics
from priory.workbench.cli.commands.interruptions import how_to_go_on, saying_how_to_go_on
from priory.workbench.cli.commands.opening import say_if_newer
from priory.workbench.cli.commands.printing import say_data, say_files, say_left_out, typed
from priory.workbench.cli.requests import GRID_FLAGS, FitRequest
from priory.workbench.cli.terminal import say, show_metrics, stderr_is_terminal
from priory.workbench.data import RULE, Dataset, LikelihoodProposal, lost_digits, telling_rows
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.models.building import class_of_prior
from priory.workbench.report.run import write_run_report
from priory.workbench.runs.config import CONFIG
from priory.workbench.runs.folder import METRICS, MODEL
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.base import changed_settings, with_options

# These settings may change when a run is resumed.
MACHINE = tuple(f"training.{name}" for name in ("accelerator", "devices", "strategy", "shard_components"))
EPOCHS = "training.epochs"  # may grow


def fit_run(request: FitRequest, num_samples: int | None, device: str, tensorboard: bool, report: bool) -> None:
    if process_rank() > 0:  # the first process prints and writes everything, unless it is lost
        try:
            _train_with_first_process(request)
        except LostProcessError as error:
            error.add_note(how_to_go_on(request.out))
            raise
        return
    with saying_how_to_go_on(request.out), _run_to_fit(request) as (run, dataset, start):
        wait_for_all(run.settings.training)
        was_trained = run.finished and run.has_state  # if so, its stored metrics belong to the same model
        how = {"resume": request.resume, "progress": stderr_is_terminal(), "tensorboard": tensorboard}
        vae = vae_jobs.train(run, dataset, start, **how)
        if device != "auto":  # Lightning leaves the model on the CPU
            vae.to(device)
        dataset = vae_jobs.as_judged(run, dataset)
        if num_samples is not None:
            rows = telling_rows(dataset)
            metrics = evaluated(vae_jobs, vae, rows, num_samples)
            if not (was_trained and keeps_better_metrics(run, num_samples)):
                run.write_metrics(metrics, num_samples, EVALUATION_SEED)
            title = f"{dataset.name}, {run.settings.model.prior} prior: {len(rows)} rows, nats per row"
            show_metrics(metrics, title, vae_jobs.DESCRIPTIONS)
        pictures = vae_jobs.draw(run, vae, dataset)
        page = write_run_report(run, vae, dataset, vae_jobs) if report else None
        _say_what_was_written(run, vae, pictures, page)


def _train_with_first_process(request: FitRequest) -> None:
    """Train the run in the same way as the first process, which wrote the configuration."""
    settings = request.settings
    if request.resume and (request.out / CONFIG).exists():
        settings = with_options(Run.open(request.out).settings, request.given, request.assignments, flags=GRID_FLAGS)
    wait_for_all(settings.training)
    run = Run.open(request.out)
    run = replace(run, settings=run.settings.model_copy(update={"training": settings.training}))
    vae_jobs.train(run, run.load_dataset(), resume=request.resume)


@contextmanager
def _run_to_fit(request: FitRequest) -> Iterator[tuple[Run, Dataset, AnyVAE | None]]:
    """Open or create the run, and lock its folder; yield the run, its data, and the model if the run is new."""
    out = request.out
    if request.resume and (out / CONFIG).exists():
        with sole_writer(out):
            yield *_resumed(out, request.given, request.assignments), None
        return
    if request.given["data.source"] is None:
        raise ValueError(f"--resume: {out} has no run yet; give DATA to begin one, or check --out")
    with vae_jobs.new_run(request.settings, out, request.dataset, typed()) as new:
        _say_what_was_found(new.run, new.dataset, new.proposal)
        yield new.run, new.dataset, new.vae


def _resumed(out: Path, given: Mapping[str, Any], assignments: list[str]) -> tuple[Run, Dataset]:
    run = Run.open(out)
    say_if_newer(out)
    if run.refit_of is not None:
        raise ValueError(
            f"--resume: {out} has its prior from `priory refit` and its other parts from {run.refit_of.run}; there is "
            "no training to resume; fit another run with another --out"
        )
    requested = with_options(run.settings, given, assignments, flags=GRID_FLAGS)
    changed = changed_settings(run.settings.model_dump(), requested.model_dump())
    if not set(changed) <= {*MACHINE, EPOCHS}:
        raise ValueError(
            f"--resume: {out} was begun with other values of {', '.join(changed)}; leave these options out, or start "
            "another run with another --out"
        )
    if EPOCHS in changed:
        _check_more_epochs(run, requested.training)
    dataset = run.load_dataset()
    run.load_state()  # both refuse damaged or changed files, before anything is removed
    if EPOCHS in changed:
        run = run.lengthened(requested.training.epochs)
    say(f"{out}: resuming")
    return replace(run, settings=requested), dataset  # the run may continue on another machine


def _check_more_epochs(run: Run, now: TrainingSettings) -> None:
    """Refuse a number of epochs that would have changed the epochs already trained."""
    out, was = run.path, run.settings.training
    if run.finished and not run.has_state:
        raise ValueError(f"--epochs {now.epochs}: {out} has no {STATE_FILE} to resume from; start another run")
    if now.epochs < was.epochs:
        raise ValueError(f"--epochs {now.epochs}: {out} was begun with {was.epochs}; --resume needs at least as many")
    if not was.independent_of_epochs():
        raise ValueError(
            f"--epochs {now.epochs}: {out} was begun with {was.epochs} and training.schedule={was.schedule}, "
            f"training.warmup={was.warmup}, training.shift_images={was.shift_images}; --resume can add epochs only if "
            "the schedule is constant, the warm-up is a number of steps (--warmup 1000) and no images are shifted, "
            "because otherwise the first epochs depend on the total number; "
            "start another run with another --out"
        )


def _say_what_was_found(run: Run, dataset: Dataset, proposal: LikelihoodProposal) -> None:
    settings = run.settings
    say_data(dataset)
    if lost := lost_digits(dataset):
        say(lost)
    say_left_out(run.constants)
    if settings.model.likelihood == proposal.likelihood:
        say(proposal.describe())
        for line in RULE.splitlines():
            say((line, "dim"))
    else:
        say(f"likelihood: {settings.model.likelihood}, as requested (proposed: {proposal.likelihood})")
    say(f"prior: {settings.model.prior} ({class_of_prior(settings.model.prior).summary})")
    if run.encoding is not None:
        what = "p(z | c)" if settings.model.prior_condition and settings.model.prior != "standard" else "one p(z)"
        say(f"conditions c: {run.encoding.described()}; the model has q(z | x, c), p(x | z, c) and {what}")
    if settings.model.levels > 1:
        say(
            f"levels: {settings.model.described_dims} latent dimensions; the first level is the top one, with the prior"
        )


def _say_what_was_written(run: Run, vae: AnyVAE, pictures: list[Path], page: Path | None) -> None:
    files = [name for name in (CONFIG, MODEL, METRICS, HISTORY_FILE) if (run.path / name).exists()]
    say_files(run.path, files, pictures, page)
    what = "means, scales and map coordinates" if grid_prior_of(vae) is not None else "means and scales"
    folder = shlex.quote(str(run.path))
    say(f"next: priory embed {folder} --out z.csv   ({what} of every row)")
    say(f"      priory sample {folder} -n 100 --out x.npz   (new data)")
    if run.settings.model.latent_dim == 2:
        say("      priory fit ... --latent-dim 16   (a better likelihood; 2 is for pictures)")
