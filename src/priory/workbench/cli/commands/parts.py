"""Row commands over a data set in parts: `priory score RUN 'shards/*.parquet' --out DIR --workers 8`."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from priory._support.files import remove_leftovers
from priory._support.locking import sole_writer
from priory._support.messages import first_few
from priory._support.patterns import is_pattern
from priory.workbench.cli.commands.interruptions import exiting_on_sigterm, saying_how_to_go_on
from priory.workbench.cli.commands.opening import chosen_device, opened_model
from priory.workbench.cli.errors import can_be_mended, said_in_a_line
from priory.workbench.cli.terminal import row_progress, say, say_on_stderr
from priory.workbench.data import TEXT_OPTIONS, TextOptions
from priory.workbench.data.parts import Part, count_rows, in_parts, numbered, parts_of
from priory.workbench.data.shards import same_files, shards_of
from priory.workbench.jobs.dealing import Deal, dealing
from priory.workbench.jobs.kinds import Opened
from priory.workbench.jobs.parts import (
    PartsJob,
    begin,
    check_outputs,
    do_part,
    model_checksum,
    require_free,
)
from priory.workbench.jobs.rows import ROW_JOBS
from priory.workbench.runs.folder import RunFolder

SHOWN_CAUSES = 5
AGAIN = "give the same command again: it writes only the missing outputs"


class PartsRequest(NamedTuple):
    """The arguments of a row command, apart from its own options."""

    run: Path
    data: str
    out: Path  # a folder, or DIR/*.csv, which sets the suffix of the outputs
    reading: dict[str, Any]
    device: str
    workers: int | None = None
    scheduler: str | None = None
    copy: bool = False
    safe: bool = False


def parts_request(
    run: RunFolder,
    data: str | None,
    out: Path | None,
    reading: dict[str, Any],
    device: str,
    workers: int | None,
    scheduler: str | None,
    *,
    copy: bool = False,
    safe: bool = False,
) -> PartsRequest | None:
    """Return the request for one output per part; None if the command writes a single output.

    Raises:
        ValueError: data in parts have no output folder, --workers or --scheduler is given for other data, or both are
            given.
    """
    if workers is not None and scheduler is not None:
        raise ValueError(
            f"--workers, --scheduler: expected one of them, got {workers} and {scheduler!r}: a cluster has its own "
            "workers; leave one out"
        )
    source = data or run.settings.data.source
    into_folder = out is not None and (out.stem == "*" or not out.suffix or out.is_dir())
    if in_parts(source) and out is not None and into_folder:
        return PartsRequest(run.path, source, out, reading, device, workers, scheduler, copy, safe)
    shared = f"--workers {workers}" if workers is not None else f"--scheduler {scheduler}"
    if (workers, scheduler) != (None, None) and not in_parts(source):
        raise ValueError(
            f"{shared}: expected DATA in parts, such as 'shards/*.parquet' or a folder of .parquet files, got "
            f"{source!r}; write it in parts, or leave {shared.split()[0]} out"
        )
    one_table = not is_pattern(source) or shards_of(source)[0].suffix == ".parquet"
    if (workers, scheduler) != (None, None) or not one_table:
        raise ValueError(
            f"--out: expected a folder for one output per part, such as --out scores or --out 'scores/*.csv', got "
            f"{'none' if out is None else str(out)}; name one"
        )
    return None


class Finished(NamedTuple):
    """A job all of whose parts have outputs."""

    opened: Opened
    job: PartsJob
    parts: list[Part]


def run_parts(command: str, request: PartsRequest, *, tell: Callable[[str], None] = say, **options: Any) -> Finished:
    """Write one output for each part that has none yet; `tell` prints their number.

    Raises:
        ValueError: the folder has other content, or an option is invalid.
        SystemExit: code 1, if parts failed; the outputs of the other parts are written.
    """
    opened = opened_model(request.run, request.device)
    ending = request.out.suffix if request.out.stem == "*" else ".parquet"
    out = request.out.parent if request.out.stem == "*" else request.out
    job = PartsJob(
        command,
        request.run.resolve(),
        model_checksum(opened.run),
        out.resolve(),
        ending,
        tuple(options.items()),
        tuple(request.reading.items()),
        device=chosen_device(request.device),
        copy=request.copy,
        safe=request.safe,
    )
    parts = parts_of(request.data)
    require_free(job, parts)
    check_outputs(job, parts)
    ROW_JOBS[command](opened, 0, **options)  # refuses what no part supports, such as a map without a grid
    with ExitStack() as held:
        held.enter_context(saying_how_to_go_on(job.out, AGAIN))
        held.enter_context(exiting_on_sigterm())
        deal = held.enter_context(dealing(request.workers, request.scheduler))
        held.enter_context(sole_writer(job.out))
        parts = _counted(opened.run, deal, parts, request.reading)
        rows = sum(part.rows or 0 for part in parts)
        own = same_files(request.data, opened.run.settings.data.source) and rows == opened.run.fingerprint.rows
        job = replace(job, rows=rows, own_rows=own)
        missing = begin(job, parts)
        errors = _dealt(deal, job, missing)
        remove_leftovers(job.out)
    _say_written(job, parts, missing, errors, tell)
    return Finished(opened, job, parts)


def _counted(run: RunFolder, deal: Deal, parts: Sequence[Part], reading: dict[str, Any]) -> list[Part]:
    options = run.reading_options() | reading
    text = TextOptions(**{name: options[name] for name in TEXT_OPTIONS}, known=run.modeled)
    results = dict(deal(partial(_count, text), parts))
    counts = [count if isinstance(count := results[part], int) else None for part in parts]
    return numbered(parts, counts)


def _count(text: TextOptions, part: Part) -> int | None:
    """Return the number of rows; None if the part cannot be read, which its own task will report."""
    try:
        return count_rows(part.source, text)
    except Exception as error:
        if not can_be_mended(error):
            raise
        return None


def _dealt(deal: Deal, job: PartsJob, parts: Sequence[Part]) -> dict[Part, str]:
    """Process the parts; return the errors of those that failed."""
    errors = {}
    with row_progress(f"{job.command}: parts", len(parts)) as progress:
        for done, (part, error) in enumerate(deal(partial(attempt, job), parts), 1):
            progress(done)
            if isinstance(error, BaseException):
                errors[part] = _of_dask(error)
            elif error is not None:
                errors[part] = error
    return errors


def _of_dask(error: BaseException) -> str:
    """Describe in a line why Dask gave up a part: it lost the workers. Raise any other error."""
    if type(error).__name__ != "KilledWorker":
        raise error
    return "the workers that processed it were killed, perhaps for lack of memory; use smaller parts"


def attempt(job: PartsJob, part: Part) -> str | None:
    """Write the output of a part; if that fails, return the error in a line."""
    try:
        do_part(job, part)
        return None
    except Exception as error:
        if not can_be_mended(error):
            raise
        return said_in_a_line(error)


def _say_written(
    job: PartsJob,
    parts: Sequence[Part],
    missing: Sequence[Part],
    errors: dict[Part, str],
    tell: Callable[[str], None],
) -> None:
    there = len(parts) - len(missing)
    already = f" ({there} {'was' if there == 1 else 'were'} there)" if there else ""
    tell(f"{len(parts) - len(errors)} of {len(parts)} parts{already}, {job.rows} rows: {job.out}")
    if not errors:
        return
    say_on_stderr(("Error:", "bold red"), f" {len(errors)} of {len(parts)} parts failed")
    for failed in _by_cause(errors)[:SHOWN_CAUSES]:
        say_on_stderr(f"{first_few([part.name for part in failed])}: {errors[failed[0]]}")
    say_on_stderr(f"correct or remove these parts; {AGAIN}")
    raise SystemExit(1)


def _by_cause(errors: dict[Part, str]) -> list[list[Part]]:
    """Group parts whose errors differ only in the name of the file; the largest group comes first.

    >>> a, b, c = (Part(name, Path(f"{name}.csv")) for name in "abc")
    >>> [[part.name for part in parts] for parts in _by_cause({a: "a.csv: gaps", b: "no memory", c: "c.csv: gaps"})]
    [['a', 'c'], ['b']]
    """
    causes: dict[str, list[Part]] = {}
    for part, error in errors.items():
        causes.setdefault(error.replace(part.source.name, ""), []).append(part)
    return sorted(causes.values(), key=len, reverse=True)
