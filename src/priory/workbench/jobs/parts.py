"""A row command over a data set in parts: one output per part, written atomically."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from priory._support.files import not_a_folder, read_json, remove_leftovers, replacing, write_json
from priory._support.messages import first_few
from priory.training.states import STATE_FILE
from priory.workbench.data import TEXT_OPTIONS, Dataset, DatasetRows, TextOptions, check_output, read_arrays, write_rows
from priory.workbench.data.parts import Part
from priory.workbench.jobs.kinds import Opened, opened
from priory.workbench.jobs.rows import ROW_JOBS, RowJob, Values, labels_of, split_and_labels
from priory.workbench.runs.folder import MODEL, RunFolder

RECORD = "parts.json"
ASIDE = "sums"  # the folder of sums and samples for metrics
ANOTHER_FOLDER = "name another folder"
Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class PartsJob:
    """A command with its options, as the processes that work on it receive it.

    Attributes:
        command: a name of `ROW_JOBS`.
        run: the run folder.
        model: the checksum of its weights.
        out: the folder of the outputs.
        ending: suffix of the outputs, such as .parquet.
        options: options of the command.
        reading: options for reading the parts that differ from those of the run's data.
        rows: the number of all rows.
        own_rows: whether the parts are the data of the run, with its splits.
        device: device of the model.
        copy: whether outputs are copies of the parts with new columns.
        safe: whether text that looks like a formula gets an apostrophe.
    """

    command: str
    run: Path
    model: str
    out: Path
    ending: str
    options: Options
    reading: Options
    rows: int = 0
    own_rows: bool = False
    device: str = "cpu"
    copy: bool = False
    safe: bool = False

    def output(self, part: Part) -> Path:
        """Return the file of the part's output."""
        return self.out / f"{part.name}{self.ending}"

    def aside(self, part: Part) -> Path:
        """Return the file of the part's sums and sample."""
        return self.out / ASIDE / f"{part.name}.npz"

    def template(self, part: Part) -> Path | None:
        """Return the file that the output copies; None if it is no copy."""
        return part.source if self.copy or self.ending == ".h5ad" else None

    def described(self) -> dict[str, Any]:
        """Return everything that determines the content of the outputs."""
        settings = {"copy": self.copy, "safe": self.safe, "ending": self.ending}
        return {
            "command": self.command,
            "model": self.model,
            "options": dict(self.options) | dict(self.reading) | settings,
        }


def model_checksum(run: RunFolder) -> str:
    """Return the SHA-256 checksum of a run's weights: the final ones, or the best so far."""
    with (run.path / (MODEL if run.finished else STATE_FILE)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_free(job: PartsJob, parts: Sequence[Part]) -> None:
    """Refuse an output folder with files other than the outputs of this job.

    Raises:
        ValueError: it is not a folder, or it has other files, or outputs of another job.
    """
    out = job.out
    if blocking := not_a_folder([out, *out.parents]):
        raise ValueError(
            f"--out {out}: expected a folder for one output per part, got the file {str(blocking)!r}; {ANOTHER_FOLDER}"
        )
    if any(out == part.source.parent for part in parts):
        raise ValueError(f"--out {out}: expected a folder other than the folder of the parts; {ANOTHER_FOLDER}")
    record = _record(out)
    if record is None:
        if out.is_dir() and any(out.iterdir()):
            raise ValueError(
                f"--out {out}: expected an empty or a new folder, or one with outputs of this job, got one with other "
                f"files and without {RECORD}; {ANOTHER_FOLDER}"
            )
        return
    _require_same(f"--out {out}", record, job)
    moved = [part.name for part in parts if record["parts"].get(part.name, [str(part.source)])[0] != str(part.source)]
    if moved:
        raise ValueError(
            f"--out {out}: expected outputs of these parts, got those of other files with the same names "
            f"({first_few(moved)}); {ANOTHER_FOLDER}"
        )


def _record(out: Path) -> dict[str, Any] | None:
    file = out / RECORD
    return read_json(file, "remove the folder, and give the command again") if file.is_file() else None


def _require_same(where: str, record: Mapping[str, Any], job: PartsJob) -> None:
    """Refuse outputs of another command, of another model or with other options."""
    now, before = _as_stored(job.described()["options"]), record["options"]
    changed = [name for name in now | before if now.get(name) != before.get(name)]
    if record["command"] != job.command:
        expected, got = f"of `priory {job.command}`", f"those of `priory {record['command']}`"
    elif record["model"] != job.model:
        expected, got = f"of the model of {job.run}", "those of another model, or of this one before further training"
    elif changed:
        name = changed[0]
        expected, got = f"with {name} {now.get(name)!r}", f"those with {before.get(name)!r}"
    else:
        return
    raise ValueError(f"{where}: expected outputs {expected}, got {got}; {ANOTHER_FOLDER}")


def _as_stored(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def begin(job: PartsJob, parts: Sequence[Part]) -> list[Part]:
    """Record the job in its folder, which must be locked; return the parts that have no output yet.

    Remove outputs of parts whose row numbers have changed, because the number of rows of an earlier part has.
    """
    remove_leftovers(job.out)
    before = (_record(job.out) or {"parts": {}})["parts"]
    for part in parts:
        if part.name in before and before[part.name][1] != part.first:
            job.output(part).unlink(missing_ok=True)
    table = {part.name: [str(part.source), part.first] for part in parts}
    write_json(job.out / RECORD, job.described() | {"parts": before | table})
    return [part for part in parts if not job.output(part).is_file()]


def do_part(job: PartsJob, part: Part) -> None:
    """Write the output of a part.

    Raises:
        OSError, ValueError: the part cannot be read or the output cannot be written.
    """
    with _one_thread():
        run_and_model, compute = _prepared(job)
        table, names = _table(run_and_model.run, job, part)
        values = compute(table)
        if values.aside:
            with replacing(job.aside(part)) as temporary:
                np.savez(temporary, **values.aside)  # type: ignore[arg-type]
        _write(run_and_model.run, job, part, table.all_rows(), names, values)


@lru_cache(maxsize=1)
def _prepared(job: PartsJob) -> tuple[Opened, RowJob]:
    """Load the model and prepare the command for any part, once per process."""
    run_and_model = opened(job.run, job.device)
    return run_and_model, ROW_JOBS[job.command](run_and_model, job.rows, **dict(job.options))


def _table(run: RunFolder, job: PartsJob, part: Part) -> tuple[Dataset, np.ndarray]:
    """Return the rows of a part, and their ids in the file; rows without names are numbered across parts."""
    dataset = run.load_table(str(part.source), **dict(job.reading))
    if not dataset.numbered:
        return dataset, dataset.ids
    return replace(dataset, ids=part.first + np.arange(len(dataset))), dataset.ids


def _write(run: RunFolder, job: PartsJob, part: Part, rows: DatasetRows, names: np.ndarray, values: Values) -> None:
    options = run.reading_options() | dict(job.reading)
    template = job.template(part)
    columns = values.columns
    if template is None:
        splits = run.splits if job.own_rows else {}
        taken = ("id", "ids", *columns, *values.arrays)
        columns = (
            labels_of(rows, taken) if values.is_table else split_and_labels(rows, splits, taken, part.first)
        ) | columns
    arrays = values.arrays if job.command != "map" or job.ending == ".h5ad" else {}
    write_rows(
        job.output(part),
        ids=rows.ids if template is None else names,
        columns=columns,
        arrays=arrays,
        template=template,
        ids_column=options["ids"] if template else None,
        text=TextOptions(**{name: options[name] for name in TEXT_OPTIONS}),
        safe=job.safe,
    )


def check_outputs(job: PartsJob, parts: Sequence[Part]) -> None:
    """Refuse a suffix that cannot be written for these parts."""
    for part in parts:
        check_output(job.output(part), job.template(part), safe=job.safe)


def asides(job: PartsJob, parts: Sequence[Part]) -> Iterator[dict[str, np.ndarray]]:
    """Iterate over the sums and samples of the parts, in order."""
    return (read_arrays(job.aside(part)) for part in parts)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread inside the block, because sums in several threads round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
