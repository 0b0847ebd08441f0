"""`priory evaluate`, and the evaluation after a training."""

import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from priory._support.files import write_json
from priory._support.locking import sole_writer
from priory.evaluation import Estimate, Evaluation, LowEffectiveSampleSizeWarning
from priory.workbench.cli.commands.opening import chosen_rows, opened_model
from priory.workbench.cli.commands.parts import PartsRequest, parts_request, run_parts
from priory.workbench.cli.terminal import print_json, row_progress, say, say_on_stderr, show_metrics
from priory.workbench.data import DatasetRows, telling_rows
from priory.workbench.jobs.kinds import Jobs
from priory.workbench.jobs.part_metrics import merged_metrics
from priory.workbench.jobs.parts import asides
from priory.workbench.report.run import REPORT
from priory.workbench.runs.folder import METRICS, RunFolder, model_stamp
from priory.workbench.runs.kinds import open_run

EVALUATION_SEED = 0


def evaluate_run(
    path: Path,
    data: str | None,
    out: Path | None,
    num_samples: int,
    seed: int,
    device: str,
    reading: dict[str, Any],
    as_json: bool,
    replace: bool,
    workers: int | None,
    scheduler: str | None,
) -> None:
    if replace and not (data is None and out is None):
        raise ValueError(
            "--replace: expected no DATA and no --out, because a run stores only the metrics of its own test rows, and "
            "outputs of parts are never replaced; leave --replace out, or name another folder with --out"
        )
    shared = parts_request(open_run(path), data, out, reading, device, workers, scheduler)
    if shared is not None:
        _evaluate_parts(shared, num_samples, seed, as_json)
        return
    if out is not None:
        raise ValueError(
            f"--out {out}: expected DATA in parts, such as 'shards/*.parquet' or a folder of .parquet files, and a "
            "folder for one output per part; leave --out out for other data"
        )
    stamp = model_stamp(path)
    run, model, jobs = opened_model(path, device)
    rows = chosen_rows(run, data, reading, telling_rows)
    if len(rows) < 2:
        raise ValueError(
            f"{rows.dataset.origin}: expected at least two rows to evaluate, for a standard error, got {len(rows)}; "
            f"give more, or ask for the row's log-likelihood: priory score {shlex.quote(str(path))} DATA"
        )
    metrics = evaluated(jobs, model, rows, num_samples, seed)
    if as_json:
        print_json(run.metrics_tree(metrics, num_samples, seed))
    else:
        title = f"{data or run.settings.data.source}: {len(rows)} rows, nats per row"
        show_metrics(metrics, title, jobs.DESCRIPTIONS)
    if data is None and stamp is not None:  # after printing, because the folder may be read-only
        _keep_metrics(run, stamp, metrics, num_samples, seed, replace)


def _evaluate_parts(request: PartsRequest, num_samples: int, seed: int, as_json: bool) -> None:
    """Write one file of numbers per row for each part, and the metrics of all rows."""
    tell = say_on_stderr if as_json else say
    opened, job, parts = run_parts("evaluate", request, tell=tell, num_samples=num_samples, seed=seed)
    with _noting_few_samples(num_samples):
        metrics, rows, sampled_rows = merged_metrics(opened, asides(job, parts), num_samples, seed)
    tree = opened.run.metrics_tree(metrics, num_samples, seed)
    tree["evaluation"] |= {"rows": rows, "sampled_rows": sampled_rows}
    write_json(job.out / METRICS, tree)
    if as_json:
        print_json(tree)
    else:
        show_metrics(metrics, f"{request.data}: {rows} rows, nats per row", opened.jobs.DESCRIPTIONS)
    if sampled_rows < rows and opened.run.has_map:
        say_on_stderr(
            "note: trustworthiness and continuity are left out, because they need neighbors among all rows; `priory "
            "evaluate` computes them for rows in one file, or in .parquet files without --out"
        )
    if job.own_rows:
        alone = f"priory evaluate {shlex.quote(str(request.run))}"
        say_on_stderr(
            "note: these metrics cover all rows of the run, including its training rows; for its test rows only: "
            + alone
        )


def _keep_metrics(
    run: RunFolder, stamp: object, metrics: dict[str, Estimate], num_samples: int, seed: int, replace: bool
) -> None:
    """Write the metrics of the model with this stamp, unless a training of the run is going on or came in between.

    Metrics from more samples stay, unless `replace` is set.
    """
    if not replace and keeps_better_metrics(run, num_samples):
        return
    try:
        with sole_writer(run.path):
            if model_stamp(run.path) == stamp:
                before = file.read_bytes() if (file := run.path / METRICS).is_file() else b""
                run.write_metrics(metrics, num_samples, seed)
                if file.read_bytes() != before and (run.path / REPORT).is_file():
                    again = f"priory report {shlex.quote(str(run.path))}"
                    say_on_stderr(f"note: {REPORT} still has the previous numbers; write it again: {again}")
                return
            reason = "the run was trained further in the meantime"
    except BlockingIOError as error:
        reason = str(error.strerror)
    say_on_stderr(f"note: {run.path / METRICS} was not written: {reason}")


def keeps_better_metrics(run: RunFolder, num_samples: int) -> bool:
    """Return whether the run has metrics from more importance samples; if so, print a note that they stay."""
    stored = run.samples_of_metrics()
    if stored <= num_samples:
        return False
    again = f"priory evaluate {shlex.quote(str(run.path))} --samples {num_samples} --replace"
    reason = f"{run.path / METRICS} keeps its metrics from {stored} samples"
    say_on_stderr(f"note: {reason}; to store these from {num_samples}: {again}")
    return True


def evaluated(jobs: Jobs, model: Any, rows: DatasetRows, num_samples: int, seed: int = EVALUATION_SEED) -> Evaluation:
    """Compute the metrics of these rows; show a progress bar, and a note if more samples would help."""
    with _noting_few_samples(num_samples), row_progress("evaluate", len(rows)) as progress:
        return jobs.measure(model, rows, num_samples, seed, progress)


@contextmanager
def _noting_few_samples(num_samples: int) -> Iterator[None]:
    with collected(LowEffectiveSampleSizeWarning) as notes:
        yield
    for note in notes:
        say_on_stderr(("note:", "yellow"), f" {note} (--samples {8 * num_samples})")


@contextmanager
def collected(category: type[Warning]) -> Iterator[list[Warning | str]]:
    """Collect the block's warnings of this category in a list; when the block ends, fill it and show other warnings."""
    ours: list[Warning | str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", category)
        yield ours
    for warning in caught:
        if issubclass(warning.category, category):
            ours.append(warning.message)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
