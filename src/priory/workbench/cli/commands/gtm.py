"""`priory gtm fit`."""

import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from priory.workbench.cli.commands.evaluate import evaluated
from priory.workbench.cli.commands.interruptions import saying_how_to_go_on
from priory.workbench.cli.commands.opening import chosen_device
from priory.workbench.cli.commands.report import say_where_the_page_is
from priory.workbench.cli.terminal import console, errors, show_metrics
from priory.workbench.data import Dataset, describe_constants, telling_rows
from priory.workbench.jobs import gtm as gtm_jobs
from priory.workbench.models.scaled_gtm import MapModel
from priory.workbench.report.run import REPORT, write_run_report
from priory.workbench.runs.folder import CONFIG, METRICS, MODEL
from priory.workbench.runs.gtm_history import HISTORY_FILE
from priory.workbench.runs.gtm_run import GTMRun
from priory.workbench.settings.base import with_options
from priory.workbench.settings.gtm import MapRunSettings

AGAIN = "nothing was finished; give the same command again"


def gtm_fit_run(given: Mapping[str, Any], assignments: list[str], out: Path | None, device: str) -> None:
    """`priory gtm fit`."""
    settings = with_options(MapRunSettings(), given, assignments)
    if given["data.source"] is None:
        raise ValueError("DATA: expected a file or an embedded data set, such as: priory gtm fit digits --out runs/map")
    out = out or Path("runs") / f"{Path(settings.data.source).name.split('.')[0]}-map"
    device = chosen_device(device)
    with saying_how_to_go_on(out, AGAIN), gtm_jobs.new_gtm_run(settings, out) as (run, found):
        _say_what_was_found(run, found)
        model = _fitted(run, found.dataset, device)
        rows = telling_rows(found.dataset)
        metrics = evaluated(gtm_jobs, model, rows, 1, 0)
        title = f"{found.dataset.name}, map of {run.settings.model.points_per_side} x "
        title += f"{run.settings.model.points_per_side} nodes: {len(rows)} rows"
        show_metrics(metrics, title, gtm_jobs.DESCRIPTIONS)
        pictures = gtm_jobs.write(
            run, model, found, metrics, lambda: write_run_report(run, model, found.dataset, gtm_jobs)
        )
        _say_what_was_written(run, pictures)


def _fitted(run: GTMRun, dataset: Dataset, device: str) -> MapModel:
    """The fitted map, and a note where EM has not settled."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model = gtm_jobs.fit(run, dataset, device)
    gtm = model.gtm
    unsettled = False
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            unsettled = True
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if unsettled:
        more = 2 * gtm.max_iter
        errors.print(f"[yellow]note:[/] EM still moved after {gtm.n_iter_} iterations (--max-iter {more})")
    else:
        console.print(f"EM settled after {gtm.n_iter_} iterations")
    return model


def _say_what_was_found(run: GTMRun, found: gtm_jobs.Found) -> None:
    dataset = found.dataset
    sizes = ", ".join(f"{len(index)} {name}" for name, index in dataset.splits.items())
    console.print(f"[bold]{dataset.name}[/]: {dataset.summary().describe()}\nrows: {sizes}")
    if found.missing:
        cells = len(dataset) * len(dataset.columns)
        share = f"{found.missing} of {cells} cells, {found.missing / cells:.1%}"
        console.print(f"missing: {share}; they are integrated out, nothing is filled in", markup=False)
    constants = {name: value for name, value in run.constants.items() if value is not None}
    empty = [name for name in run.constants if name not in constants]
    if constants:
        number = f"{len(constants)} column{'s have' if len(constants) > 1 else ' has'}"
        shown = describe_constants(constants)
        console.print(f"left out of the model: {number} one value in all training rows ({shown})", markup=False)
    if empty:
        number = f"{len(empty)} column{'s have' if len(empty) > 1 else ' has'}"
        shown = ", ".join(map(repr, empty[:5])) + (", ..." if len(empty) > 5 else "")
        console.print(f"left out of the model: {number} no value in any training row ({shown})", markup=False)
    what = "not standardized" if run.standardized is None else "standardized"
    console.print(f"columns: {what} ({found.why})", markup=False)


def _say_what_was_written(run: GTMRun, pictures: list[Path]) -> None:
    console.print(f"\nwritten to [bold]{run.path}[/]: {', '.join((CONFIG, MODEL, METRICS, HISTORY_FILE))}")
    console.print(f"figures: {', '.join(str(path.relative_to(run.path)) for path in pictures)}")
    say_where_the_page_is(run.path / REPORT)
    folder = shlex.quote(str(run.path))
    console.print(f"next: priory map {folder} --out map.csv   (each row's place, and a picture)")
    console.print(f"      priory map {folder} NEW --out new.csv   (other rows on the same map)")
