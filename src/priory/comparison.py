"""One table over priors and seeds."""

import math
from pathlib import Path

from rich.table import Table

from priory.evaluation import Estimate
from priory.json_files import write_json
from priory.run_folder import CONFIG
from priory.runs import Run
from priory.settings import RunSettings

TABLE = "comparison.json"
SHOWN = ("nll", "elbo", "distortion", "rate", "active_units", "effective_components")


def finished_metrics(folder: Path, settings: RunSettings, num_samples: int, seed: int) -> dict[str, Estimate] | None:
    """The metrics of a finished run with these settings, estimated in this way; None where there are none yet.

    Raises:
        ValueError: the folder holds a run with other settings, or its metrics are damaged.
    """
    if not (folder / CONFIG).exists():
        return None
    run = Run.open(folder)
    recorded = run.settings
    resolved = {"likelihood": recorded.model.likelihood, "num_levels": recorded.model.num_levels}
    asked = {key: getattr(settings.model, key) for key in resolved}
    model = settings.model.model_copy(update={key: asked[key] or resolved[key] for key in resolved})
    if run.refit_of is not None or settings.model_copy(update={"model": model}) != recorded:
        raise ValueError(f"{folder}: holds a run with other settings; choose another --out, or remove it")
    return run.read_metrics(num_samples, seed)


def comparison_table(results: dict[str, list[dict[str, Estimate]]], path: Path) -> Table:
    """Mean and standard error over seeds, as a table, and as JSON at `path`."""
    summary = {
        prior: {name: over_seeds([m[name].value for m in runs]) for name in SHOWN if all(name in m for m in runs)}
        for prior, runs in results.items()
    }
    write_json(path, {prior: {n: e._asdict() for n, e in row.items()} for prior, row in summary.items()})
    table = Table("prior", *SHOWN, box=None, pad_edge=False)
    for prior, row in summary.items():
        table.add_row(prior, *[_cell(row.get(name)) for name in SHOWN])
    return table


def over_seeds(values: list[float]) -> Estimate:
    """Mean and its standard error; NaN for the error of a single run.

    >>> over_seeds([1.0, 3.0])
    Estimate(value=2.0, se=1.0)
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, math.nan)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return Estimate(mean, math.sqrt(variance / len(values)))


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    return f"{estimate.value:.2f}" + ("" if math.isnan(estimate.se) else f" ± {estimate.se:.2f}")
