"""`priory compare`: one run per prior and seed; means, differences, pictures."""

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from priory._support.locking import sole_writer
from priory._support.messages import did_you_mean, duration, shortened
from priory.training import check_devices
from priory.vae import AnyVAE
from priory.workbench.cli.commands.evaluate import EVALUATION_SEED, evaluated, keeps_better_metrics
from priory.workbench.cli.commands.interruptions import saying_how_to_go_on
from priory.workbench.cli.commands.opening import say_if_newer
from priory.workbench.cli.commands.printing import say_page, say_reading, typed
from priory.workbench.cli.errors import MENDABLE, can_be_mended, said_in_a_line
from priory.workbench.cli.requests import default_folder, settings_of_device
from priory.workbench.cli.terminal import say, say_on_stderr, stderr_is_terminal
from priory.workbench.compare.cells import (
    SCORES,
    Cell,
    Finished,
    RowScores,
    finished_cell,
    write_row_scores,
)
from priory.workbench.compare.pace import seconds_left
from priory.workbench.compare.page import page_contents
from priory.workbench.compare.pictures import draw_pictures
from priory.workbench.compare.results import Comparison
from priory.workbench.compare.tables import aligned, differences_table, failure_lines, means_table
from priory.workbench.data import (
    MAP_TAKES_GAPS,
    Dataset,
    load_dataset,
    require_complete,
    require_float32,
    telling_rows,
)
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.models.building import resolve_likelihood
from priory.workbench.report import write_report
from priory.workbench.report.run import REPORT, write_run_report
from priory.workbench.runs.config import CONFIG
from priory.workbench.runs.folder import COMPARISON, COMPARISON_TABLE, FIGURES, ROW_SCORES
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.base import setting_names, with_options
from priory.workbench.settings.run import RunSettings

SAME_AGAIN = "give the same command again; finished work is not repeated"


def compare_runs(
    given: dict[str, Any],
    assignments: list[str],
    names: tuple[str, ...],
    baseline: str | None,
    seeds: int,
    num_samples: int,
    device: str,
    out: Path | None,
    report: bool,
) -> None:
    """Run `priory compare`. Exit code 1 means that a run failed."""
    given = {**given, **settings_of_device(device, given)}
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
    _fill(comparison, plan, out, device)
    first = next((cell for cell in comparison.cells if cell in comparison.finished), None)
    if first is not None:  # its settings contain the likelihood, chosen from the data
        comparison.settings = Run.open(out / first.name).settings
    comparison.write(out)
    tables = [means_table(comparison), differences_table(comparison)]
    for table in filter(None, tables):
        for line in aligned(table).splitlines():
            say(line)
        say()
    say(f"runs, {COMPARISON} and {COMPARISON_TABLE}: {out}")
    _draw(comparison, out, report)
    if comparison.failures:
        say_on_stderr((f"{len(comparison.failures)} of {len(comparison.cells)} runs failed", "bold red"))
        for line in failure_lines(comparison):
            say_on_stderr(line)
        say_on_stderr(f"to try again: {SAME_AGAIN}")
        raise typer.Exit(1)


def _baseline(baseline: str | None, names: tuple[str, ...]) -> str:
    if baseline is None:
        return "standard" if "standard" in names else names[0]
    if baseline not in names:
        hint = did_you_mean(baseline, names)
        raise ValueError(
            f"--baseline: expected one of the priors {', '.join(names)}, got {shortened(baseline)!r}{hint}"
        )
    return baseline


def _require_free(out: Path, cells: Iterable[Cell]) -> None:
    """Refuse a folder whose files belong to no comparison, if this comparison would replace them."""
    if (out / CONFIG).exists():
        raise ValueError(f"--out {out}: expected a folder for a comparison, got the folder of a run; choose another")
    if (out / COMPARISON).exists() or any((out / cell.name).exists() for cell in cells):
        return
    taken = [name for name in (COMPARISON_TABLE, REPORT, FIGURES) if (out / name).exists()]
    if taken:
        raise ValueError(
            f"--out {out}: expected a folder for a comparison, got one with {', '.join(taken)}, which the comparison "
            "would replace; choose another"
        )


def _find_what_is_done(comparison: Comparison, plan: dict[Cell, RunSettings], out: Path) -> None:
    """Read the finished cells; refuse folders, data and devices that would make all other cells fail."""
    _require_free(out, plan)
    for cell, settings in plan.items():
        folder = out / cell.name
        if (folder / CONFIG).exists():
            say_if_newer(folder)
        finished = finished_cell(folder, settings, comparison.num_samples, comparison.evaluation_seed)
        if finished is not None:
            comparison.finished[cell] = finished
            continue
        if folder.is_dir():
            with sole_writer(folder):  # raises an error if another process has locked it
                pass
        if not (folder / CONFIG).exists():
            vae_jobs.require_free(folder)
    if len(comparison.finished) < len(plan):
        settings = comparison.settings
        check_devices(settings.training)
        begun = (folder for cell in plan if ((folder := out / cell.name) / CONFIG).exists())
        recorded = next((Run.open(folder).recorded for folder in begun), None)
        dataset = load_dataset(**settings.data.model_dump(), recorded=recorded)
        say_reading(dataset, say_on_stderr)
        require_complete(dataset, or_else=MAP_TAKES_GAPS)
        require_float32(dataset)
        resolve_likelihood(settings.model, dataset.summary(), dataset.origin)


def _fill(comparison: Comparison, plan: dict[Cell, RunSettings], out: Path, device: str) -> None:
    """Train and evaluate the unfinished cells; record the cells that fail and continue with the others."""
    left = [cell for cell in plan if cell not in comparison.finished]
    took: dict[str, list[float]] = {}  # seconds of the runs of each prior
    if len(left) < len(plan):
        say_on_stderr(f"{len(plan) - len(left)} of {len(plan)} runs are finished already")
    for number, cell in enumerate(left):
        estimate = f"; about {duration(seconds_left(took, left[number:]))} left" if took else ""
        say_on_stderr(f"run {number + 1} of {len(left)}: {cell}{estimate}")
        began = time.monotonic()
        try:
            with saying_how_to_go_on(out / cell.name, SAME_AGAIN):
                finished = _compared(out / cell.name, plan[cell], comparison, device)
        except MENDABLE as error:
            if not can_be_mended(error):
                raise
            comparison.failures[cell] = said_in_a_line(error)
            say_on_stderr(("failed:", "bold red"), f" {cell}: {comparison.failures[cell]}")
        else:
            comparison.finished[cell] = finished
            took.setdefault(cell.prior, []).append(time.monotonic() - began)
            say_on_stderr(f"{cell}: nll {finished.metrics['nll'].value:.2f}")
        gc.collect()  # a trainer contains reference cycles, and the next run may need its memory


def _compared(folder: Path, settings: RunSettings, comparison: Comparison, device: str) -> Finished:
    """Train and evaluate a cell, or complete an interrupted one; write `metrics.json` last."""
    how = (comparison.num_samples, comparison.evaluation_seed)
    with _run_to_compare(folder, settings) as (run, dataset, start):
        vae = vae_jobs.train(run, dataset, start, resume=True, progress=stderr_is_terminal())
        if device != "auto":  # Lightning leaves the model on the CPU
            vae.to(device)
        rows = telling_rows(vae_jobs.as_judged(run, dataset))
        metrics = evaluated(vae_jobs, vae, rows, *how)
        nll, elbo = (metrics.per_row[name].double().numpy() for name in SCORES)
        scores = RowScores(rows.indices.copy(), nll, elbo)
        if not keeps_better_metrics(run, comparison.num_samples):
            write_row_scores(folder / ROW_SCORES, scores, *how)
            run.write_metrics(metrics, *how)
    return Finished(metrics, scores)


@contextmanager
def _run_to_compare(folder: Path, settings: RunSettings) -> Iterator[tuple[Run, Dataset, AnyVAE | None]]:
    if (folder / CONFIG).exists():
        with sole_writer(folder):
            run = Run.open(folder)
            yield run, run.load_dataset(), None
        return
    with vae_jobs.new_run(settings, folder, command=typed()) as new:
        yield new.run, new.dataset, new.vae


def _draw(comparison: Comparison, out: Path, report: bool) -> None:
    """Draw the pictures; write the pages of the runs and of the comparison."""
    with saying_how_to_go_on(out, SAME_AGAIN):
        pictures, left_out = draw_pictures(comparison, out)
        if report:
            _write_pages(comparison, out)
            page = write_report(out / REPORT, page_contents(comparison, out, pictures, left_out))
    for sentence in left_out:
        say(sentence)
    names = [str(each.image.relative_to(out)) for each in pictures if isinstance(each.image, Path)]
    say(f"figures: {', '.join(names) or 'none'}")
    say_page(page if report else None)


def _write_pages(comparison: Comparison, out: Path) -> None:
    """Write the pages of the runs that have none yet."""
    missing = [cell for cell in comparison.finished if not (out / cell.name / REPORT).is_file()]
    for number, cell in enumerate(missing):
        say_on_stderr(f"page {number + 1} of {len(missing)}: {cell}")
        run = Run.open(out / cell.name)
        with sole_writer(run.path):
            vae, dataset = run.load_model(), run.load_dataset(drawn=True)
            vae_jobs.draw(run, vae, dataset)
            write_run_report(run, vae, dataset, vae_jobs)
