"""The contents of the page of a comparison."""

from pathlib import Path

from priory.workbench.compare.results import Comparison
from priory.workbench.compare.tables import differences_table, failure_lines, means_table
from priory.workbench.report import Picture, ReportContents
from priory.workbench.report.run import REPORT


def page_contents(comparison: Comparison, out: Path, pictures: list[Picture], notes: list[str]) -> ReportContents:
    """Return the contents of the page in the folder `out`, with the pictures and notes of `draw_pictures`."""
    model, training = comparison.settings.model, comparison.settings.training
    data, priors = Path(comparison.settings.data.source).name, ", ".join(comparison.priors)
    rows = "" if comparison.num_rows is None else f"{comparison.num_rows} rows, "
    tables = (means_table(comparison), differences_table(comparison))
    reports = [(str(cell), f"{cell.name}/{REPORT}") for cell in comparison.cells if cell in comparison.finished]
    return ReportContents(
        title=f"{data}: {priors}",
        facts=[
            ("data", data),
            ("priors", priors),
            ("baseline", comparison.baseline),
            ("seeds", ", ".join(map(str, comparison.seeds))),
            ("runs", f"{len(comparison.finished)} of {len(comparison.cells)} finished"),
            (
                "model",
                f"{model.network}, {model.described_dims} latent dimensions, {model.likelihood or 'no'} likelihood",
            ),
            ("training", f"at most {training.epochs} epochs"),
            ("evaluation", f"{rows}{comparison.num_samples} importance samples each"),
        ],
        tables=[table for table in tables if table is not None],
        pictures=pictures,
        notes=notes,
        failures=failure_lines(comparison),
        links=[(name, link) for name, link in reports if (out / link).is_file()],
    )
