"""`priory report`: write the page of a run again."""

from pathlib import Path

from priory._support.locking import sole_writer
from priory.workbench.cli.commands.opening import opened_model
from priory.workbench.cli.commands.printing import say_page
from priory.workbench.report.run import write_run_report


def report_run(path: Path, device: str) -> None:
    run, model, jobs = opened_model(path, device)
    dataset = run.load_dataset(drawn=True)
    with sole_writer(run.path):
        page = write_run_report(run, model, dataset, jobs)
    say_page(page)
