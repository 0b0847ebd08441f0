"""`priory compare`: a run per prior and seed; means, differences, pictures."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from priory._support.locking import sole_writer
from priory._support.messages import did_you_mean, shortened
from priory.training import check_devices
from priory.vae import VAE
from priory.workbench.cli.commands.evaluate import EVALUATION_SEED, evaluated
from priory.workbench.cli.commands.interruptions import saying_how_to_go_on
from priory.workbench.cli.commands.opening import allow_modules_here
from priory.workbench.cli.commands.printing import default_folder, say_page, say_reading
from priory.workbench.cli.errors import MENDABLE, can_be_mended, said_in_a_line
from priory.workbench.cli.terminal import console, errors
from priory.workbench.compare.cells import (
    ROW_SCORES,
    SCORES,
    Cell,
    Finished,
    RowScores,
    finished_cell,
    write_row_scores,
)
from priory.workbench.compare.pace import in_words, seconds_left
from priory.workbench.compare.page import page_contents
from priory.workbench.compare.pictures import draw_pictures
from priory.workbench.compare.results import CSV, JSON, Comparison
from priory.workbench.compare.tables import aligned, differences_table, failure_lines, means_table
from priory.workbench.data import Dataset, load_dataset, require_complete, require_float32, telling_rows
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.models.building import resolve_likelihood
from priory.workbench.report import write_report
from priory.workbench.report.run import REPORT, write_run_report
from priory.workbench.runs.folder import CONFIG
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.base import setting_names, with_options
from priory.workbench.settings.priors import PRIORS
from priory.workbench.settings.run import RunSettings

SAME_AGAIN = "give the same command again; what is finished is not done again"


def compare_runs(
    given: dict[str, Any],
    assignments: list[str],
    priors: str,
    baseline: str | None,
    seeds: int,
    num_samples: int,
    out: Path | None,
    report: bool,
) -> None:
    """`priory compare`. Exit code 1: a run failed."""
    allow_modules_here(priors, assignments)
    names = _names(priors)
    of_all = {path for name in names for path in setting_names(RunSettings, {"model": {"prior": name}})}

    def settings_of(cell: Cell) -> RunSettings:
        options = {**given, "model.prior": cell.prior, "seed": cell.seed}
        return with_options(RunSettings(), options, assignments, known_elsewhere=of_all)

    settings = settings_of(Cell(names[0], 0))
    out = out or default_folder(settings.data.source, "compare")
    baseline = _baseline(baseline, names)
    comparison = Comparison(settings, names, tuple(range(seeds)), baseline, num_samples, EVALUATION_SEED)
    plan = {cell: settings_of(cell) for cell in comparison.cells}
    _find_what_is_done(comparison, plan, out)
    _fill(comparison, plan, out)
    first = next((cell for cell in comparison.cells if cell in comparison.finished), None)
    if first is not None:  # its settings have the likelihood that the data got
        comparison.settings = Run.open(out / first.name).settings
    comparison.write(out)
    tables = [means_table(comparison), differences_table(comparison)]
    console.print("\n\n".join(aligned(table) for table in tables if table is not None), markup=False)
    console.print(f"\nruns, {JSON} and {CSV}: {out}", markup=False)
    _draw(comparison, out, report)
    if comparison.failures:
        errors.print(f"[bold red]{len(comparison.failures)} of {len(comparison.cells)} runs failed[/]")
        for line in failure_lines(comparison):
            errors.print(line, markup=False)
        errors.print(f"to try again: {SAME_AGAIN}", markup=False)
        raise typer.Exit(1)


def _names(priors: str) -> tuple[str, ...]:
    names = list(PRIORS) if priors == "all" else [name.strip() for name in priors.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--priors {priors!r}: expected names with commas between them, or all; see: priory priors")
    for name in names:
        PRIORS.asked_for(name, "--priors")
    return tuple(dict.fromkeys(names))


def _baseline(asked: str | None, names: tuple[str, ...]) -> str:
    if asked is None:
        return "standard" if "standard" in names else names[0]
    if asked not in names:
        hint = did_you_mean(asked, names)
        raise ValueError(f"--baseline: expected one of the priors {', '.join(names)}, got {shortened(asked)!r}{hint}")
    return asked


def _find_what_is_done(comparison: Comparison, plan: dict[Cell, RunSettings], out: Path) -> None:
    """Read the finished cells; refuse folders, data and devices that would make all other cells fail."""
    for cell, settings in plan.items():
        folder = out / cell.name
        found = finished_cell(folder, settings, comparison.num_samples, comparison.evaluation_seed)
        if found is not None:
            comparison.finished[cell] = found
            continue
        if folder.is_dir():
            with sole_writer(folder):  # refuses if another process holds it
                pass
        if not (folder / CONFIG).exists():
            vae_jobs.require_free(folder)
    if len(comparison.finished) < len(plan):
        settings = comparison.settings
        check_devices(settings.training)
        dataset = load_dataset(**settings.data.model_dump())
        say_reading(dataset)
        require_complete(dataset, or_else=vae_jobs.MAP_TAKES_GAPS)
        require_float32(dataset)
        resolve_likelihood(settings.model, dataset.summary(), dataset.origin)


def _fill(comparison: Comparison, plan: dict[Cell, RunSettings], out: Path) -> None:
    """Train and evaluate what is not done; a cell that fails is recorded, and the others go on."""
    left = [cell for cell in plan if cell not in comparison.finished]
    took: dict[str, list[float]] = {}  # seconds of the runs of each prior
    if len(left) < len(plan):
        errors.print(f"{len(plan) - len(left)} of {len(plan)} runs are done already")
    for number, cell in enumerate(left):
        estimate = f"; about {in_words(seconds_left(took, left[number:]))} left" if took else ""
        errors.print(f"run {number + 1} of {len(left)}: {cell}{estimate}")
        began = time.monotonic()
        try:
            with saying_how_to_go_on(out / cell.name, SAME_AGAIN):
                found = _compared(out / cell.name, plan[cell], comparison)
        except MENDABLE as error:
            if not can_be_mended(error):
                raise
            comparison.failures[cell] = said_in_a_line(error)
            errors.print(f"[bold red]failed:[/] {cell}: {escape(comparison.failures[cell])}")
        else:
            comparison.finished[cell] = found
            took.setdefault(cell.prior, []).append(time.monotonic() - began)
            errors.print(f"{cell}: nll {found.metrics['nll'].value:.2f}")
        gc.collect()  # a trainer is full of cycles, and the next run needs the memory of one that failed for lack of it


def _compared(folder: Path, settings: RunSettings, comparison: Comparison) -> Finished:
    """Train and evaluate a cell, as far as that has not been done; `metrics.json` is written last."""
    how = (comparison.num_samples, comparison.evaluation_seed)
    with _run_to_compare(folder, settings) as (run, dataset, start):
        vae = vae_jobs.train(run, dataset, start, resume=True, progress=errors.is_terminal)
        rows = telling_rows(vae_jobs.as_judged(run, dataset))
        metrics = evaluated(vae_jobs, vae, rows, *how)
        nll, elbo = (metrics.per_row[name].double().numpy() for name in SCORES)
        scores = RowScores(rows.indices.copy(), nll, elbo)
        write_row_scores(folder / ROW_SCORES, scores, *how)
        run.write_metrics(metrics, *how)
    return Finished(metrics, scores)


@contextmanager
def _run_to_compare(folder: Path, settings: RunSettings) -> Iterator[tuple[Run, Dataset, VAE | None]]:
    if (folder / CONFIG).exists():
        with sole_writer(folder):
            run = Run.open(folder)
            yield run, run.load_dataset(), None
        return
    with vae_jobs.new_run(settings, folder) as new:
        yield new.run, new.dataset, new.vae


def _draw(comparison: Comparison, out: Path, report: bool) -> None:
    """Draw the pictures; write the pages of the runs and of the comparison."""
    with saying_how_to_go_on(out, SAME_AGAIN):
        pictures, left_out = draw_pictures(comparison, out)
        if report:
            _write_pages(comparison, out)
            page = write_report(out / REPORT, page_contents(comparison, out, pictures, left_out))
    for sentence in left_out:
        console.print(sentence, markup=False)
    names = [str(each.image.relative_to(out)) for each in pictures if isinstance(each.image, Path)]
    console.print(f"figures: {', '.join(names) or 'none'}", markup=False)
    say_page(page if report else None)


def _write_pages(comparison: Comparison, out: Path) -> None:
    """Write the pages of the runs that have none yet."""
    missing = [cell for cell in comparison.finished if not (out / cell.name / REPORT).is_file()]
    for number, cell in enumerate(missing):
        errors.print(f"page {number + 1} of {len(missing)}: {cell}")
        run = Run.open(out / cell.name)
        with sole_writer(run.path):
            vae, dataset = run.load_model(), run.load_dataset(drawn=True)
            vae_jobs.draw(run, vae, dataset)
            write_run_report(run, vae, dataset, vae_jobs)
