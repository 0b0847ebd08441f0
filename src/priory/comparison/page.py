"""What a page about a comparison says; how it looks is not decided here."""

from dataclasses import dataclass
from pathlib import Path

from priory.comparison.pictures import Picture
from priory.comparison.results import Comparison
from priory.comparison.tables import TextTable, differences_table, failure_lines, means_table

REPORT = "report.html"


@dataclass(frozen=True)
class PageContents:
    """All of it, as text that has not been escaped, in its order.

    Attributes:
        title: what was compared on what.
        facts: (name, text).
        tables: means over seeds; where there are several priors, the differences to the baseline.
        pictures: PNG files with a title and a caption each.
        notes: sentences: pictures that were left out, and why.
        failures: a line for each reason, with the runs that it stopped.
        links: (the run, its own page relative to the comparison's folder), of finished runs that have one.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[TextTable, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    links: tuple[tuple[str, str], ...]


def page_contents(comparison: Comparison, out: Path, pictures: list[Picture], notes: list[str]) -> PageContents:
    """Gather the page of a comparison in `out`, with what `draw_pictures` gave."""
    tables = (means_table(comparison), differences_table(comparison))
    reports = [(str(cell), f"{cell.name}/{REPORT}") for cell in comparison.cells if cell in comparison.finished]
    return PageContents(
        title=f"{_data(comparison)}: {len(comparison.priors)} priors compared",
        facts=tuple(_facts(comparison)),
        tables=tuple(table for table in tables if table is not None),
        pictures=tuple(pictures),
        notes=tuple(notes),
        failures=tuple(failure_lines(comparison)),
        links=tuple((name, link) for name, link in reports if (out / link).is_file()),
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
