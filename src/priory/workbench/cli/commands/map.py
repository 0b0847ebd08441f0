"""`priory map`: rows on the grid behind a run's model, in a file and in a picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from priory.grid.landscapes import ClassPrediction
from priory.maps import TopographicMap
from priory.workbench.cli.commands.opening import chosen_rows, opened_model
from priory.workbench.cli.commands.printing import note_rows
from priory.workbench.cli.commands.rows import kept, output_of
from priory.workbench.cli.terminal import row_progress, say
from priory.workbench.data import Dataset, DatasetRows, write_rows
from priory.workbench.pictures.maps import draw_map, some_rows
from priory.workbench.runs.folder import RunFolder
from priory.workbench.runs.kinds import open_run
from priory.workbench.runs.outputs import check_place

PICTURES = (".png", ".svg", ".pdf")
MARK = "priory map"  # in the picture: the next map may replace it
SEED = 0  # of the importance samples


def map_run(
    path: Path,
    data: str | None,
    out: Path | None,
    copy: bool,
    figure: Path | None,
    predict: list[str],
    num_samples: int,
    device: str,
    reading: dict[str, Any],
    safe: bool,
) -> None:
    from priory.plots import save_figure

    out, copied = output_of(open_run(path), data, out, "map.csv", copy, reading, safe)
    asked, figure = figure, figure or out.with_suffix(".png")
    run, model, jobs = opened_model(path, device)
    _check_figure(figure, {data or run.settings.data.source, run.settings.data.source}, asked=asked is not None)
    surface = jobs.surface(model, num_samples)
    no_picture = _why_no_picture(surface.nodes.shape[1], asked)
    known = _rows_with_labels(run, predict)
    rows = chosen_rows(run, data, reading, Dataset.all_rows)
    drawn = TopographicMap(surface, rows)
    with row_progress("map", len(rows)) as progress:
        scores = jobs.score(model, rows, num_samples, SEED, progress=progress)
    columns = {name: column.numpy() for name, column in drawn.places.columns().items()} | {"log_likelihood": scores}
    columns |= _predictions(TopographicMap(surface, known), known, drawn, predict) if known is not None else {}
    if copied["template"] is None:
        columns = kept(rows, run, data, taken=("id", "ids", *columns)) | columns
    places = drawn.places.place.numpy()
    arrays = {"map": places} if out.suffix == ".h5ad" else {}  # obsm, where scanpy draws from
    write_rows(out, ids=rows.ids, columns=columns, arrays=arrays, **copied)
    exist = drawn.places.exist.numpy()
    say(f"{exist.sum()} rows on the map: {out}")
    note_rows("no place on the map for", rows, ~exist)
    note_rows("no density (-inf) for", rows, columns["log_likelihood"] == -np.inf)
    if no_picture:
        say(no_picture)
    else:
        shown = some_rows(rows)
        here = places[np.isin(rows.indices, shown.indices)]
        save_figure(draw_map(shown, here, surface.nodes.numpy(), len(rows)), figure, software=MARK)
        say(f"picture: {figure}")


def _check_figure(figure: Path, reads: Iterable[str], *, asked: bool) -> None:
    """Refuse a picture that cannot be written, or that would replace another file than an earlier map's picture."""
    if figure.suffix.lower() not in PICTURES:
        raise ValueError(
            f"--figure: expected a name that ends in {', '.join(PICTURES)}, got {figure.name!r}; rename it"
        )
    if figure.is_dir():
        raise ValueError(f"--figure: expected a file, got the folder {str(figure)!r}; name a file in it")
    is_ours = figure.is_file() and MARK.encode() in figure.read_bytes()
    check_place(figure, "--figure", reads, may_replace=asked or is_ours)


def _why_no_picture(axes: int, asked: Path | None) -> str:
    """The reason if the grid has not two dimensions; an error if a picture was asked for."""
    if axes != 2 and asked is not None:
        raise ValueError(
            f"--figure: expected a run with a grid of two dimensions, got one of {axes}; leave --figure out and draw "
            "the columns u1, u2, ... of --out"
        )
    return "" if axes == 2 else f"no picture: it is of a grid of two dimensions, and this one has {axes}"


def _rows_with_labels(run: RunFolder, predict: list[str]) -> DatasetRows | None:
    """The run's training rows, whose labels are to be predicted; None where none are asked for."""
    if not predict:
        return None
    rows = run.load_dataset(drawn=True).rows("train")
    unknown = [name for name in predict if name not in rows.labels]
    if unknown:
        raise ValueError(
            f"--predict {unknown[0]}: expected a label of the run's data, which have "
            f"{', '.join(rows.labels) or 'no labels'}; name one of them, or train with --labels {unknown[0]}"
        )
    return rows


def _predictions(
    training: TopographicMap, known: DatasetRows, drawn: TopographicMap, labels: list[str]
) -> dict[str, np.ndarray]:
    """Columns of labels that the landscapes of the training rows predict."""
    columns = {}
    for name in labels:
        found = drawn.predict(training.landscape(known.labels[name]))
        if isinstance(found, ClassPrediction):
            columns[f"{name}_predicted"] = np.array(found.label)
            columns[f"{name}_confidence"] = found.confidence.numpy()
        else:
            columns[f"{name}_predicted"], columns[f"{name}_scale"] = found.mean.numpy(), found.scale.numpy()
    return columns
