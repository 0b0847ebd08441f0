"""`priory compare`: a run per prior and seed, and one table."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from priory import experiment
from priory.assembly import check_name
from priory.commands.evaluate import EVALUATION_SEED, evaluated
from priory.commands.interruptions import saying_how_to_go_on
from priory.datasets import Dataset
from priory.evaluation import Estimate
from priory.locking import sole_writer
from priory.priors import PRIORS
from priory.run_folder import CONFIG
from priory.runs import Run
from priory.settings import RunSettings, with_options
from priory.terminal import console, errors

SAME_AGAIN = "give the same command again; what is finished is not done again"


def compare_runs(
    given: dict[str, Any], assignments: list[str], priors: str, seeds: int, num_samples: int, out: Path
) -> None:
    """`priory compare`."""
    from priory.comparison import TABLE, comparison_table, finished_metrics

    names = list(PRIORS) if priors == "all" else [name.strip() for name in priors.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--priors {priors!r}: expected names with commas between them, or all; see: priory priors")
    for name in names:
        check_name("--priors", name, PRIORS)
    results: dict[str, list[dict[str, Estimate]]] = {name: [] for name in names}
    for seed in range(seeds):
        for name in names:
            settings = with_options(RunSettings(), {**given, "model.prior": name, "seed": seed}, assignments)
            folder = out / f"{name}-{seed}"
            metrics = finished_metrics(folder, settings, num_samples, EVALUATION_SEED)
            if metrics is None:
                with saying_how_to_go_on(folder, SAME_AGAIN):
                    metrics = _compared(folder, settings, num_samples)
                errors.print(f"{name}, seed {seed}: nll {metrics['nll'].value:.2f}")
            results[name].append(metrics)
    table = comparison_table(results, out / TABLE)
    console.print(table)
    console.print(f"runs and {TABLE}: {out}")


def _compared(folder: Path, settings: RunSettings, num_samples: int) -> dict[str, Estimate]:
    with _run_to_compare(folder, settings) as (run, dataset):
        vae = experiment.train(run, dataset, resume=True, progress=errors.is_terminal)
        metrics = evaluated(vae, experiment.telling_rows(dataset), num_samples)
        run.write_metrics(metrics, num_samples, EVALUATION_SEED)
    return metrics


@contextmanager
def _run_to_compare(folder: Path, settings: RunSettings) -> Iterator[tuple[Run, Dataset]]:
    if (folder / CONFIG).exists():
        with sole_writer(folder):
            run = Run.open(folder)
            yield run, run.load_dataset()
        return
    with experiment.new_run(settings, folder) as (run, dataset, _):
        yield run, dataset
