"""`priory report`: the page of a run, made again."""

from pathlib import Path

from priory._support.locking import sole_writer
from priory.workbench.cli.commands.opening import opened_model
from priory.workbench.cli.terminal import console
from priory.workbench.report.run import write_run_report


def report_run(path: Path, device: str) -> None:
    """`priory report`."""
    run, model, jobs = opened_model(path, device)
    dataset = run.load_dataset(drawn=True)
    with sole_writer(run.path):
        page = write_run_report(run, model, dataset, jobs)
    say_where_the_page_is(page)


def say_where_the_page_is(page: Path | None) -> None:
    """Where there is one."""
    if page is not None:
        console.print(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB; open it in a browser)", markup=False)
