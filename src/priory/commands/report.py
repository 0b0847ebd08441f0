"""`priory report`: the page of a run, made again."""

from pathlib import Path

from priory.commands.opening import opened_model
from priory.locking import sole_writer
from priory.run_report import write_run_report
from priory.terminal import console


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
