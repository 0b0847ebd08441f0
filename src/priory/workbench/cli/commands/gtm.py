"""`priory gtm fit`."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from priory.training.history import HISTORY_FILE
from priory.workbench.cli.commands.evaluate import collected, evaluated
from priory.workbench.cli.commands.interruptions import saying_how_to_go_on
from priory.workbench.cli.commands.opening import chosen_device
from priory.workbench.cli.commands.printing import default_folder, say_data, say_files, say_left_out
from priory.workbench.cli.terminal import console, errors, show_metrics
from priory.workbench.data import Dataset, telling_rows
from priory.workbench.jobs import gtm as gtm_jobs
from priory.workbench.models.scaled_gtm import MapModel
from priory.workbench.report.run import REPORT, write_run_report
from priory.workbench.runs.folder import CONFIG, METRICS, MODEL
from priory.workbench.runs.gtm_run import GTMRun
from priory.workbench.settings.base import with_options
from priory.workbench.settings.gtm import GTMRunSettings

FAR_BELOW = 0.5  # nats a column between training rows and others
AGAIN = "nothing was finished; give the same command again"


def gtm_fit_run(given: Mapping[str, Any], assignments: list[str], out: Path | None, device: str) -> None:
    settings = with_options(GTMRunSettings(), given, assignments)
    if given["data.source"] is None:
        raise ValueError("DATA: expected a file or an embedded data set, such as: priory gtm fit digits --out runs/map")
    out = out or default_folder(settings.data.source, "map")
    device = chosen_device(device)
    with saying_how_to_go_on(out, AGAIN), gtm_jobs.new_gtm_run(settings, out) as (run, found):
        _say_what_was_found(run, found)
        with collected(ConvergenceWarning):
            model = gtm_jobs.fit(run, found.dataset, device)
        iterations, more = model.gtm.n_iter_, 2 * model.gtm.max_iter
        if not model.gtm.converged_ and model.gtm.tol > 0:
            errors.print(f"[yellow]note:[/] EM still moved after {iterations} iterations (--max-iter {more})")
        else:
            console.print(f"EM settled after {iterations} iterations")
        _say_how_stiff(model, found.dataset)
        rows = telling_rows(found.dataset)
        metrics = evaluated(gtm_jobs, model, rows, 1, 0)
        side = settings.model.points_per_side
        title = f"{found.dataset.name}, map of {side} x {side} nodes: {len(rows)} rows"
        show_metrics(metrics, title, gtm_jobs.DESCRIPTIONS)
        pictures = gtm_jobs.write(
            run, model, found, metrics, lambda: write_run_report(run, model, found.dataset, gtm_jobs)
        )
        _say_what_was_written(run, pictures)


def _say_what_was_found(run: GTMRun, found: gtm_jobs.Found) -> None:
    dataset = found.dataset
    say_data(dataset)
    if found.missing:
        cells = len(dataset) * len(dataset.columns)
        share = f"{found.missing} of {cells} cells, {found.missing / cells:.1%}"
        console.print(f"missing: {share}; they are integrated out, nothing is filled in", markup=False)
    say_left_out(run.constants)
    what = "not standardized" if run.standardized is None else "standardized"
    console.print(f"columns: {what} ({found.why})", markup=False)


def _say_how_stiff(model: MapModel, dataset: Dataset) -> None:
    gtm = model.gtm
    if gtm.least_noise_variance_ > 0:
        chosen = f"--tether {gtm.tether_:.4g}, noise variance at least {gtm.least_noise_variance_:.3g}"
        console.print(f"small table: {chosen}, by cross-validation", markup=False)
    change = f"raise --tether (now {gtm.tether_:.4g}) or --weight-decay, or lower --basis-per-side"
    if gtm.collapsed_:
        errors.print(f"[yellow]note:[/] the noise is at its least, so the map passes through the rows; {change}")
    gap = gtm_jobs.gap(model, dataset)
    if gap > FAR_BELOW:
        errors.print(
            f"[yellow]note:[/] rows held out are {gap:.2f} nats a column less likely than training rows; {change}"
        )


def _say_what_was_written(run: GTMRun, pictures: list[Path]) -> None:
    say_files(run.path, (CONFIG, MODEL, METRICS, HISTORY_FILE), pictures, run.path / REPORT)
    folder = shlex.quote(str(run.path))
    console.print(f"next: priory map {folder} --out map.csv   (each row's place, and a picture)")
    console.print(f"      priory map {folder} NEW --out new.csv   (other rows on the same map)")
