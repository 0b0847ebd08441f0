"""`priory sample`, `priory embed` and `priory score`: rows, or numbers of rows, in a file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from priory._support.memory import require_memory
from priory.workbench.cli.commands.opening import chosen_rows, opened_model
from priory.workbench.cli.commands.printing import note_rows
from priory.workbench.cli.terminal import console, row_progress
from priory.workbench.data import Dataset, DatasetRows, check_output, write_rows
from priory.workbench.data.splits import split_names
from priory.workbench.runs.folder import RunFolder
from priory.workbench.runs.kinds import open_run

SAMPLE_BYTES = 3 * 4  # bytes of a sampled number: in parts, together, and as it is written


def sample_run(path: Path, number: int, out: Path, seed: int, mean: bool, device: str) -> None:
    check_output(out)
    run, model, jobs = opened_model(path, device)
    require_memory(SAMPLE_BYTES * number * len(run.columns), f"-n {number}: {number} samples", "take fewer at a time")
    x = run.restored(jobs.sample(model, number, seed, mean)).numpy()
    ids = np.array([f"sample-{i}" for i in range(number)])
    if out.suffix == ".npz":
        write_rows(out, ids=ids, columns={}, arrays={"x": x})
    else:
        write_rows(out, ids=ids, columns=dict(zip(run.columns, x.T, strict=True)))
    console.print(f"{number} samples: {out}")


def embed_run(path: Path, data: str | None, out: Path, copy: bool, device: str, reading: dict[str, Any]) -> None:
    template, ids_column = template_of(path, data, out, copy, reading)
    run, model, jobs = opened_model(path, device)
    rows = chosen_rows(run, data, reading, Dataset.all_rows)
    arrays = jobs.embed(model, rows)
    columns = {} if template else kept(rows, run, data, taken=("id", "ids", *arrays))
    write_rows(out, ids=rows.ids, columns=columns, arrays=arrays, template=template, ids_column=ids_column)
    what = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
    console.print(f"{len(rows)} rows ({what}): {out}")
    finite = [np.isfinite(values).reshape(len(rows), -1).all(axis=1) for values in arrays.values()]
    note_rows("no finite place for", rows, ~np.all(finite, axis=0))


def score_run(
    path: Path,
    data: str | None,
    out: Path,
    num_samples: int,
    seed: int,
    copy: bool,
    device: str,
    reading: dict[str, Any],
) -> None:
    template, ids_column = template_of(path, data, out, copy, reading)
    run, model, jobs = opened_model(path, device)
    rows = chosen_rows(run, data, reading, Dataset.all_rows)
    with row_progress("score", len(rows)) as progress:
        scores = jobs.score(model, rows, num_samples, seed, progress=progress)
    columns = {"log_likelihood": scores}
    if template is None:
        columns |= kept(rows, run, data, taken=("id", "ids", "log_likelihood"))
    write_rows(out, ids=rows.ids, columns=columns, template=template, ids_column=ids_column)
    lowest = ", ".join(f"{rows.ids[i]} ({scores[i]:.1f})" for i in np.argsort(scores)[:5])
    console.print(f"{len(rows)} rows scored: {out}\nlowest log-likelihoods in nats: {lowest}")
    note_rows("no density (-inf) for", rows, scores == -np.inf)


def kept(rows: DatasetRows, run: RunFolder, data: str | None, taken: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns for the split and the labels of the rows, under other names than `taken`."""
    labels = {f"label_{name}" if name in (*taken, "split") else name: column for name, column in rows.labels.items()}
    source = run.settings.data.source
    own = data is None or data == source or str(Path(data).resolve()) == source
    return {"split": split_names(rows.indices, run.splits if own else {}, "new"), **labels}


def require_another_file(out: Path, data: str, option: str) -> None:
    """Refuse to write over the table that is read."""
    if os.path.realpath(out) == os.path.realpath(data):
        raise ValueError(f"{option}: expected another file than the data, got {str(out)!r}; name a new file")


def template_of(
    path: Path, data: str | None, out: Path, copy: bool, reading: dict[str, Any]
) -> tuple[Path | None, str | None]:
    """The file to write a copy of, and its column of ids; refuses what cannot be written, before any work."""
    options = open_run(path).reading_options() | reading
    require_another_file(out, data or options["source"], "--out")
    template = Path(data or options["source"]) if copy or out.suffix == ".h5ad" else None
    check_output(out, template)
    return template, options["ids"] if template else None
