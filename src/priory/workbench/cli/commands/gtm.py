"""`priory gtm fit`."""

import shlex
import time
from pathlib import Path

from sklearn.exceptions import ConvergenceWarning

from priory.training.history import HISTORY_FILE
from priory.workbench.cli.commands.evaluate import collected, evaluated
from priory.workbench.cli.commands.interruptions import saying_how_to_go_on
from priory.workbench.cli.commands.opening import chosen_device
from priory.workbench.cli.commands.printing import say_data, say_files, say_left_out, typed
from priory.workbench.cli.terminal import say, say_on_stderr, show_metrics
from priory.workbench.data import Dataset, telling_rows
from priory.workbench.jobs import gtm as gtm_jobs
from priory.workbench.models.scaled_gtm import MapModel
from priory.workbench.report.run import REPORT, write_run_report
from priory.workbench.runs.config import CONFIG
from priory.workbench.runs.folder import METRICS, MODEL
from priory.workbench.runs.gtm_run import GTMRun
from priory.workbench.settings.gtm import GTMRunSettings

FAR_BELOW = 0.5  # nats per column between training rows and held-out rows
AGAIN = "nothing was finished; give the same command again"


def gtm_fit_run(settings: GTMRunSettings, out: Path, device: str, dataset: Dataset | None) -> None:
    device = chosen_device(device)
    with saying_how_to_go_on(out, AGAIN), gtm_jobs.new_gtm_run(settings, out, dataset) as (run, data):
        _say_what_was_found(run, data)
        began = time.monotonic()
        with collected(ConvergenceWarning):
            model = gtm_jobs.fit(run, data.dataset, device)
        made = typed(), time.monotonic() - began
        iterations, more = model.gtm.n_iter_, 2 * model.gtm.max_iter
        if not model.gtm.converged_ and model.gtm.tol > 0:
            say_on_stderr(
                ("note:", "yellow"), f" EM had not converged after {iterations} iterations (--max-iter {more})"
            )
        else:
            say(f"EM converged after {iterations} iterations")
        _say_how_stiff(model, data.dataset)
        rows = telling_rows(data.dataset)
        metrics = evaluated(gtm_jobs, model, rows, 1, 0)
        side = settings.model.points_per_side
        title = f"{data.dataset.name}, map of {side} x {side} nodes: {len(rows)} rows"
        show_metrics(metrics, title, gtm_jobs.DESCRIPTIONS)
        pictures = gtm_jobs.write(
            run, model, data, metrics, made, lambda: write_run_report(run, model, data.dataset, gtm_jobs)
        )
        _say_what_was_written(run, pictures)


def _say_what_was_found(run: GTMRun, data: gtm_jobs.FitData) -> None:
    dataset = data.dataset
    say_data(dataset)
    if data.missing:
        cells = len(dataset) * len(dataset.columns)
        share = f"{data.missing} of {cells} cells, {data.missing / cells:.1%}"
        say(f"missing: {share}; the likelihood integrates over them, nothing is filled in")
    say_left_out(run.constants)
    what = "not standardized" if run.standardized is None else "standardized"
    say(f"columns: {what} ({data.why})")


def _say_how_stiff(model: MapModel, dataset: Dataset) -> None:
    gtm = model.gtm
    if gtm.least_noise_variance_ > 0:
        chosen = f"--tether {gtm.tether_:.4g}, noise variance at least {gtm.least_noise_variance_:.3g}"
        say(f"small table: {chosen}, by cross-validation")
    change = f"raise --tether (now {gtm.tether_:.4g}) or --weight-decay, or lower --basis-per-side"
    if gtm.collapsed_:
        say_on_stderr(
            ("note:", "yellow"), f" the noise is at its lower bound, so the map passes through the rows; {change}"
        )
    gap = gtm_jobs.gap(model, dataset)
    if gap > FAR_BELOW:
        less = f"held-out rows are {gap:.2f} nats per column less likely than training rows"
        say_on_stderr(("note:", "yellow"), f" {less}; {change}")


def _say_what_was_written(run: GTMRun, pictures: list[Path]) -> None:
    say_files(run.path, (CONFIG, MODEL, METRICS, HISTORY_FILE), pictures, run.path / REPORT)
    folder = shlex.quote(str(run.path))
    say(f"next: priory map {folder} --out map.csv   (each row's place, and a picture)")
    say(f"      priory map {folder} NEW --out new.csv   (other rows on the same map)")
