"""`priory refit`: another prior for a trained encoder and decoder, and its effect on the metrics."""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from priory.evaluation import Estimate
from priory.training.refitting import Refitted
from priory.vae import VAE
from priory.workbench.cli.commands.evaluate import EVALUATION_SEED, evaluated
from priory.workbench.cli.commands.interruptions import saying_how_to_go_on
from priory.workbench.cli.commands.opening import opened_model
from priory.workbench.cli.commands.printing import say_files, typed
from priory.workbench.cli.requests import GRID_FLAGS, allow_modules_here, grid_settings
from priory.workbench.cli.terminal import row_progress, say, say_table
from priory.workbench.data import Dataset, telling_rows
from priory.workbench.jobs import refit as refit_jobs
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.models.building import class_of_prior
from priory.workbench.report.run import REPORT
from priory.workbench.runs.config import CONFIG
from priory.workbench.runs.folder import METRICS, MODEL
from priory.workbench.runs.outputs import require_apart
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.registry import folder_name
from priory.workbench.settings.run import RefitRequest

SAME_AGAIN = "there is nothing to resume; give the same command again"
CLEAR = 2.0  # standard errors; a smaller difference is reported as no change
NAMES = {"elbo": "ELBO", "nll": "NLL"}
Measured = Mapping[str, dict[str, Estimate]]


def refit_run(
    path: Path,
    given: Mapping[str, Any],
    grid: str | None,
    assignments: list[str],
    out: Path | None,
    num_samples: int,
    device: str,
) -> None:
    allow_modules_here(given)
    run = Run.open(path)
    request = refit_jobs.requested(run, {**given, **grid_settings(grid)}, assignments, GRID_FLAGS)
    out = out or path.with_name(f"{path.resolve().name}-{folder_name(request.model.prior)}")
    require_apart(out, run.settings.data.source)
    with saying_how_to_go_on(out, SAME_AGAIN):
        vae = opened_model(path, device).model
        dataset = run.load_dataset()
        with refit_jobs.free_folder(out):
            refitted, measured, seconds = _refitted(run, vae, dataset, request, num_samples)
            _say_what_changed(measured, dataset, num_samples)
            evaluation, made = (num_samples, EVALUATION_SEED), (typed(), seconds)
            new, pictures = refit_jobs.write_run(run, out, refitted, request, dataset, measured, evaluation, made)
            say_files(new.path, (CONFIG, MODEL, METRICS, refit_jobs.REFIT), pictures, new.path / REPORT)
            say(f"next: priory evaluate {shlex.quote(str(new.path))}   (as with any run)")


def _refitted(
    run: Run, vae: VAE, dataset: Dataset, request: RefitRequest, num_samples: int
) -> tuple[Refitted, Measured, float]:
    """Fit the new prior; return the model, the metrics before and after with their difference, and the seconds."""
    telling = telling_rows(vae_jobs.as_judged(run, dataset))
    before = evaluated(vae_jobs, vae, telling, num_samples)
    began = time.monotonic()
    with row_progress("refit", request.refit.epochs) as progress:
        refitted = refit_jobs.refitted(run, vae, dataset, request, progress)
    seconds = time.monotonic() - began
    _say_how(refitted, run, request)
    after = evaluated(vae_jobs, refitted.model, telling, num_samples)
    difference = refit_jobs.difference(before.per_row, after.per_row)
    return refitted, {"before": before, "after": after, "difference": difference}, seconds


def _say_how(refitted: Refitted, run: Run, request: RefitRequest) -> None:
    name = request.model.prior
    say(f"prior: {run.settings.model.prior} before, {name} now ({class_of_prior(name).summary})")
    if not any(p.requires_grad for p in refitted.model.prior.parameters()):
        say("it has no parameters to fit")
        return
    steps = len(refitted.course) - 1
    how = "expectation maximization" if refitted.by_em else "initial values"
    choice = (
        f"best after {refitted.best}" if refitted.best else f"none better than {how}" if steps else "none requested"
    )
    say(f"fitted to q(z) of the training rows: {how}, then {steps} epochs of gradient steps, {choice}")
    course = refitted.course
    say(f"E log p(z) of the validation rows: {course[0]:.3f} at the start, {course[refitted.best]:.3f} kept")


def _say_what_changed(measured: Measured, dataset: Dataset, num_samples: int) -> None:
    """Print a table of the metrics, and a sentence about each change."""
    rows = telling_rows(dataset)
    title = f"{dataset.name}: {len(rows)} rows, nats per row, {num_samples} importance samples"
    header, lines = ("before", "after", "difference"), []
    for name in refit_jobs.COMPARED:
        estimates = [measured[which][name] for which in header]
        lines.append((name, *(f"{estimate:.3f}" for estimate in estimates)))
    say_table(title, ("", *header), lines, right=(1, 2, 3))
    for name in refit_jobs.COMPARED:
        say(verdict(name, measured["difference"][name]))


def verdict(name: str, difference: Estimate) -> str:
    """Describe the difference after - before of the ELBO or the NLL in a sentence.

    >>> verdict("nll", Estimate(-0.5, 0.1))
    'NLL: better by 0.500 ± 0.100 nats'
    >>> verdict("elbo", Estimate(-0.01, 0.1))
    'ELBO: no clear change on these rows (worse by 0.010 ± 0.100 nats)'
    """
    gain = difference.value if name == "elbo" else -difference.value
    size = f"{'better' if gain > 0 else 'worse'} by {abs(gain):.3f} ± {difference.se:.3f} nats"
    if gain == 0:
        return f"{NAMES[name]}: the same"
    if abs(gain) < CLEAR * difference.se:
        return f"{NAMES[name]}: no clear change on these rows ({size})"
    return f"{NAMES[name]}: {size}" + ("" if gain > 0 else "; the old prior is better")
