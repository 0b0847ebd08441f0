"""The page of a comparison: what it says; how it looks is not decided here."""

from pathlib import Path

from priory.workbench.compare.pictures import Picture
from priory.workbench.compare.results import Comparison
from priory.workbench.compare.tables import differences_table, failure_lines, means_table
from priory.workbench.report import Picture as PagePicture
from priory.workbench.report import ReportContents, Table
from priory.workbench.report.run import REPORT


def page_contents(comparison: Comparison, out: Path, pictures: list[Picture], notes: list[str]) -> ReportContents:
    """Gather the page of a comparison in `out`, with what `draw_pictures` gave: tables, pictures, failures, and links
    to the pages of its runs.
    """
    tables = (means_table(comparison), differences_table(comparison))
    reports = [(str(cell), f"{cell.name}/{REPORT}") for cell in comparison.cells if cell in comparison.finished]
    return ReportContents(
        title=f"{_data(comparison)}: {', '.join(comparison.priors)}",
        facts=_facts(comparison),
        tables=[Table(*table) for table in tables if table is not None],
        pictures=[PagePicture(*picture) for picture in pictures],
        notes=notes,
        failures=failure_lines(comparison),
        links=[(name, link) for name, link in reports if (out / link).is_file()],
    )


def _data(comparison: Comparison) -> str:
    return Path(comparison.settings.data.source).name


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    model, training = comparison.settings.model, comparison.settings.training
    shape = f"{model.network}, {model.latent_dim} latent dimensions, {model.likelihood or 'no'} likelihood"
    rows = "" if comparison.num_rows is None else f"{comparison.num_rows} rows, "
    return [
        ("data", _data(comparison)),
        ("priors", ", ".join(comparison.priors)),
        ("baseline", comparison.baseline),
        ("seeds", ", ".join(map(str, comparison.seeds))),
        ("runs", f"{len(comparison.finished)} of {len(comparison.cells)} finished"),
        ("model", shape),
        ("training", f"at most {training.epochs} epochs"),
        ("evaluation", f"{rows}{comparison.num_samples} importance samples each"),
    ]
