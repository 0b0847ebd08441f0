"""`priory map`: the places of rows on the grid of a run's prior, in a file and in a picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from priory.maps import TopographicMap
from priory.workbench.cli.commands.opening import chosen_rows, opened_model
from priory.workbench.cli.commands.parts import parts_request, run_parts
from priory.workbench.cli.commands.printing import note_rows
from priory.workbench.cli.commands.rows import output_of, own_splits
from priory.workbench.cli.terminal import row_progress, say
from priory.workbench.data import Dataset, write_rows
from priory.workbench.jobs.rows import MAP_SEED, predictions, rows_with_labels, split_and_labels
from priory.workbench.pictures.maps import draw_map, some_rows
from priory.workbench.runs.kinds import open_run
from priory.workbench.runs.outputs import check_place

PICTURES = (".png", ".svg", ".pdf")
MARK = "priory map"  # in the metadata of the picture: the next map may replace it


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
    workers: int | None,
    scheduler: str | None,
) -> None:
    from priory.plots import save_figure

    folder = open_run(path)
    shared = parts_request(folder, data, out, reading, device, workers, scheduler, copy=copy, safe=safe)
    if shared is not None:
        if figure is not None:
            raise ValueError("--figure: there is no picture of DATA in parts; leave --figure out")
        run_parts("map", shared, num_samples=num_samples, predict=tuple(predict))
        return
    out, copied = output_of(folder, data, out, "map.csv", copy, reading, safe)
    requested, figure = figure, figure or out.with_suffix(".png")
    run, model, jobs = opened_model(path, device)
    _check_figure(figure, {data or run.settings.data.source, run.settings.data.source}, requested=requested is not None)
    surface = jobs.surface(model, num_samples)
    no_picture = _why_no_picture(surface.nodes.shape[1], requested)
    known = rows_with_labels(run, predict)
    rows = chosen_rows(run, data, reading, Dataset.all_rows)
    drawn = TopographicMap(surface, rows)
    with row_progress("map", len(rows)) as progress:
        scores = jobs.score(model, rows, num_samples, MAP_SEED, progress=progress)
    columns = {name: column.numpy() for name, column in drawn.places.columns().items()} | {"log_likelihood": scores}
    columns |= predictions(TopographicMap(surface, known), known, drawn, predict) if known is not None else {}
    if copied["template"] is None:
        columns = split_and_labels(rows, own_splits(run, data), taken=("id", "ids", *columns)) | columns
    places = drawn.places.place.numpy()
    arrays = {"map": places} if out.suffix == ".h5ad" else {}  # scanpy plots from obsm
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


def _check_figure(figure: Path, reads: Iterable[str], *, requested: bool) -> None:
    """Refuse a picture that cannot be written, or that would replace anything but the picture of an earlier map."""
    if figure.suffix.lower() not in PICTURES:
        raise ValueError(
            f"--figure: expected a name that ends in {', '.join(PICTURES)}, got {figure.name!r}; rename it"
        )
    if figure.is_dir():
        raise ValueError(f"--figure: expected a file, got the folder {str(figure)!r}; name a file in it")
    is_ours = figure.is_file() and MARK.encode() in figure.read_bytes()
    check_place(figure, "--figure", reads, may_replace=requested or is_ours)


def _why_no_picture(axes: int, requested: Path | None) -> str:
    """Return why there is no picture if the grid is not two-dimensional; raise an error if --figure was given."""
    if axes != 2 and requested is not None:
        raise ValueError(
            f"--figure: expected a run with a grid of two dimensions, got one of {axes}; leave --figure out and draw "
            "the columns u1, u2, ... of --out"
        )
    return "" if axes == 2 else f"no picture: only a grid of two dimensions has one, and this grid has {axes}"
