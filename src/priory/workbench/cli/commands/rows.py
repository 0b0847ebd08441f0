"""`priory sample`, `embed`, `score` and `impute`: write rows, or numbers per row, to a file."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from priory._support.memory import require_memory
from priory.workbench.cli.commands.opening import chosen_rows, opened_model
from priory.workbench.cli.commands.parts import parts_request, run_parts
from priory.workbench.cli.commands.printing import note_rows
from priory.workbench.cli.terminal import row_progress, say
from priory.workbench.data import TEXT_OPTIONS, Dataset, TextOptions, check_output, write_rows
from priory.workbench.data.shards import same_files
from priory.workbench.jobs.rows import imputed, labels_of, split_and_labels
from priory.workbench.runs.folder import RunFolder
from priory.workbench.runs.kinds import open_run
from priory.workbench.runs.outputs import check_place

SAMPLE_BYTES = 3 * 4  # bytes per sampled number: three copies, of the batches, of all samples and in the file


def sample_run(
    path: Path, number: int, out: Path | None, seed: int, mean: bool, given: Sequence[str], device: str, safe: bool
) -> None:
    folder = open_run(path)
    out, _ = output_of(folder, None, out, "samples.npz", False, {}, safe)
    context = context_given(folder, given)
    run, model, jobs = opened_model(path, device)
    require_memory(SAMPLE_BYTES * number * len(run.columns), f"-n {number}: {number} samples", "draw fewer at a time")
    chosen = {} if context is None else {"context": context}
    x = run.restored(jobs.sample(model, number, seed, mean, **chosen)).numpy()
    ids = np.array([f"sample-{i}" for i in range(number)])
    if out.suffix == ".npz":
        write_rows(out, ids=ids, columns={}, arrays={"x": x})
    else:
        write_rows(out, ids=ids, columns=dict(zip(run.columns, x.T, strict=True)), safe=safe)
    say(f"{number} samples: {out}")


def context_given(run: RunFolder, given: Sequence[str]) -> Any:
    """Return the context that --given describes; None for a model without conditions.

    Raises:
        ValueError: a condition is missing, given twice or unknown, or its value did not occur in training.
    """
    encoding = run.encoding
    if encoding is None and given:
        raise ValueError(f"--given {given[0]}: {run.path} has a model without conditions; leave --given out")
    if encoding is None:
        return None
    pairs = [each.partition("=") for each in given]
    values = {name: value for name, _, value in pairs}
    examples = [f"{column.name}={column.examples()[0][0]}" for column in encoding.columns]
    example = " ".join(f"--given {shlex.quote(pair)}" for pair in examples)
    if not all(sign for _, sign, _ in pairs) or len(values) < len(pairs) or set(values) != set(encoding.names):
        got = " ".join(f"--given {each}" for each in given) or "none"
        raise ValueError(f"--given: expected a value of each condition, such as {example}, got {got}")
    try:
        return encoding.encode({name: [value] for name, value in values.items()})[0]
    except ValueError as error:
        raise ValueError(f"--given: {error}") from error


def embed_run(
    path: Path,
    data: str | None,
    out: Path | None,
    copy: bool,
    device: str,
    reading: dict[str, Any],
    safe: bool,
    workers: int | None,
    scheduler: str | None,
) -> None:
    folder = open_run(path)
    shared = parts_request(folder, data, out, reading, device, workers, scheduler, copy=copy, safe=safe)
    if shared is not None:
        run_parts("embed", shared)
        return
    out, copied = output_of(folder, data, out, "embedding.npz", copy, reading, safe)
    run, model, jobs = opened_model(path, device)
    rows = chosen_rows(run, data, reading, Dataset.all_rows)
    arrays = jobs.embed(model, rows)
    columns = {} if copied["template"] else split_and_labels(rows, own_splits(run, data), taken=("id", "ids", *arrays))
    write_rows(out, ids=rows.ids, columns=columns, arrays=arrays, **copied)
    what = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
    say(f"{len(rows)} rows ({what}): {out}")
    finite = [np.isfinite(values).reshape(len(rows), -1).all(axis=1) for values in arrays.values()]
    note_rows("no finite place for", rows, ~np.all(finite, axis=0))


def score_run(
    path: Path,
    data: str | None,
    out: Path | None,
    num_samples: int,
    seed: int,
    copy: bool,
    device: str,
    reading: dict[str, Any],
    safe: bool,
    workers: int | None,
    scheduler: str | None,
) -> None:
    folder = open_run(path)
    shared = parts_request(folder, data, out, reading, device, workers, scheduler, copy=copy, safe=safe)
    if shared is not None:
        run_parts("score", shared, num_samples=num_samples, seed=seed)
        return
    out, copied = output_of(folder, data, out, "scores.csv", copy, reading, safe)
    run, model, jobs = opened_model(path, device)
    rows = chosen_rows(run, data, reading, Dataset.all_rows)
    with row_progress("score", len(rows)) as progress:
        scores = jobs.score(model, rows, num_samples, seed, progress=progress)
    columns = {"log_likelihood": scores}
    if copied["template"] is None:
        columns |= split_and_labels(rows, own_splits(run, data), taken=("id", "ids", "log_likelihood"))
    write_rows(out, ids=rows.ids, columns=columns, **copied)
    lowest = ", ".join(f"{rows.ids[i]} ({scores[i]:.1f})" for i in np.argsort(scores)[:5])
    say(f"{len(rows)} rows scored: {out}")
    say(f"lowest log-likelihoods in nats: {lowest}")
    note_rows("no density (-inf) for", rows, scores == -np.inf)


def impute_run(
    path: Path,
    data: str | None,
    out: Path | None,
    num_steps: int,
    draw: bool,
    seed: int,
    device: str,
    reading: dict[str, Any],
    safe: bool,
    workers: int | None,
    scheduler: str | None,
) -> None:
    if out is not None and out.suffix.lower() == ".h5ad":
        raise ValueError(
            f"--out: expected a name that ends in .csv, .tsv, .npz, .parquet, got {out.name!r}: a copy of an .h5ad "
            "file would keep its missing cells; rename it"
        )
    how: dict[str, Any] = {"num_steps": num_steps, "draw": draw, "seed": seed}
    folder = open_run(path)
    shared = parts_request(folder, data, out, reading, device, workers, scheduler, safe=safe)
    if shared is not None:
        run_parts("impute", shared, **how)
        return
    out, _ = output_of(folder, data, out, "imputed.csv", False, reading, safe)
    opened = opened_model(path, device)
    table = opened.run.load_table(data or opened.run.settings.data.source, **reading)
    rows = table.all_rows()
    with row_progress("impute", len(rows)) as progress:
        columns = imputed(opened, len(rows), **how, progress=progress)(table).columns
    labels, x = labels_of(rows, taken=("id", "ids", "x", *columns)), np.column_stack(list(columns.values()))
    if out.suffix == ".npz":
        write_rows(out, ids=rows.ids, columns=labels, arrays={"x": x})
    else:
        write_rows(out, ids=rows.ids, columns=labels | columns, safe=safe)
    missing = rows.tensor().isnan()
    cells, gaps = int(missing.sum()), int(missing.any(1).sum())
    say(f"{cells} missing cells in {gaps} of {len(rows)} rows filled in: {out}")
    note_rows("no value for a cell of", rows, np.isnan(x).any(1))


def own_splits(run: RunFolder, data: str | None) -> dict[str, np.ndarray]:
    """Return the run's splits if these are its rows; an empty dict for new data, or if the run's file has changed."""
    source = run.settings.data.source
    if data is None:
        return run.splits
    if not same_files(data, source):
        return {}
    splits = run.splits
    with suppress(ValueError):  # the file has changed
        run.load_dataset()
        return splits
    return {}


class Output(NamedTuple):
    """The output file of rows and the options for writing it."""

    path: Path
    options: dict[
        str, Any
    ]  # of `write_rows`: the file to copy, if any, its column of ids and the options for reading it


def output_of(
    run: RunFolder, data: str | None, out: Path | None, default: str, copy: bool, reading: dict[str, Any], safe: bool
) -> Output:
    """Return the requested output; refuse, before any work, a file that cannot or must not be written."""
    options = run.reading_options() | reading
    source = data or options["source"]
    path = out or Path(default)
    template = Path(source) if copy or path.suffix == ".h5ad" else None
    check_place(path, "--out", {source, options["source"]}, may_replace=out is not None)
    check_output(path, template, safe=safe)
    text = TextOptions(**{name: options[name] for name in TEXT_OPTIONS})
    ids_column = options["ids"] if template else None
    return Output(path, {"template": template, "ids_column": ids_column, "text": text, "safe": safe})
