"""The results of a comparison: means over seeds, differences from the baseline, failures; as JSON and CSV."""

import csv
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from priory._support.files import remove_leftovers, replacing, write_json
from priory._support.locking import sole_writer
from priory.evaluation import Estimate
from priory.workbench.compare.cells import SCORES, Cell, Finished
from priory.workbench.compare.differences import Difference, mean_of, paired_difference
from priory.workbench.runs.folder import COMPARISON, COMPARISON_TABLE, FIGURES
from priory.workbench.settings.run import RunSettings

SIGNS = {"nll": -1.0, "elbo": 1.0}  # improvement = sign * (the prior's score minus the baseline's)


@dataclass
class Comparison:
    """The matrix of priors and seeds, with the results of its finished cells."""

    settings: RunSettings  # of all runs; prior and seed are those of the first run
    priors: tuple[str, ...]  # in the order of the table
    seeds: tuple[int, ...]
    baseline: str  # the prior to compare the others with
    num_samples: int  # importance samples per row
    evaluation_seed: int  # seed of the evaluation's noise
    finished: dict[Cell, Finished] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)  # the errors of the other cells

    @property
    def cells(self) -> list[Cell]:
        """All cells, seed by seed, so that an interrupted comparison has all priors for the first seeds."""
        return [Cell(prior, seed) for seed in self.seeds for prior in self.priors]

    @property
    def num_rows(self) -> int | None:
        """The number of evaluated rows; None if no cell is finished."""
        return next((len(results.scores.row) for results in self.finished.values()), None)

    def seeds_of(self, prior: str) -> list[int]:
        """Return the seeds whose run is finished."""
        return [seed for seed in self.seeds if Cell(prior, seed) in self.finished]

    def first_run(self, prior: str) -> Cell | None:
        """Return the run for the pictures: that of the first finished seed; None if there is none."""
        seeds = self.seeds_of(prior)
        return Cell(prior, seeds[0]) if seeds else None

    def means(self, prior: str) -> dict[str, Estimate]:
        """Return mean and standard error over seeds of each metric that all finished runs of the prior have."""
        runs = [self.finished[Cell(prior, seed)].metrics for seed in self.seeds_of(prior)]
        names = [name for name in runs[0] if all(name in metrics for metrics in runs)] if runs else []
        return {name: mean_of([metrics[name].value for metrics in runs]) for name in names}

    def rates_and_distortions(self) -> dict[str, tuple[Estimate, Estimate]]:
        """Return rate and distortion of each prior with a finished run, in nats per row: means over seeds."""
        means = {prior: self.means(prior) for prior in self.priors}
        return {prior: (metrics["rate"], metrics["distortion"]) for prior, metrics in means.items() if metrics}

    def common_seeds(self, prior: str) -> list[int]:
        """Return the seeds that are finished for the prior and for the baseline."""
        return [seed for seed in self.seeds_of(prior) if seed in self.seeds_of(self.baseline)]

    def differences(self, prior: str) -> dict[str, Difference]:
        """Return NLL and ELBO of the prior minus the baseline's; {} for the baseline or without a common seed."""
        seeds = self.common_seeds(prior)
        if prior == self.baseline or not seeds:
            return {}
        pairs = [[self.finished[Cell(name, seed)].scores for seed in seeds] for name in (prior, self.baseline)]
        if any(not np.array_equal(scores.row, pairs[1][0].row) for side in pairs for scores in side):
            raise ValueError(
                f"{prior}, {self.baseline}: expected runs that were evaluated on the same rows, got different ones; "
                "the data have changed in between: choose another --out"
            )
        return {
            name: paired_difference(*([getattr(scores, name) for scores in side] for side in pairs)) for name in SCORES
        }

    def write(self, out: Path) -> None:
        """Write `comparison.json`, with all results, and `comparison.csv`, one line per prior."""
        with suppress(BlockingIOError), sole_writer(out):
            for folder in (out, out / FIGURES):
                remove_leftovers(folder)
        lines = [self._csv_line(prior) for prior in self.priors]
        names = list(dict.fromkeys(name for line in lines for name in line))
        with replacing(out / COMPARISON_TABLE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
        write_json(out / COMPARISON, self.tree())

    def _csv_line(self, prior: str) -> dict[str, Any]:
        """Return the prior's numbers by column, without unknown ones."""
        numbers: dict[str, float] = {}
        for name, difference in self.differences(prior).items():
            numbers[f"{name}_better_by"] = better_by(name, difference)
            numbers[f"{name}_better_by_half_interval_95"] = difference.half_interval
            numbers[f"{name}_better_by_se_over_seeds"] = difference.se_seeds
            numbers[f"{name}_better_by_se_over_rows"] = difference.se_rows
        for name, estimate in self.means(prior).items():
            numbers |= {name: estimate.value, f"{name}_se": estimate.se}
        return {
            "prior": prior,
            "seeds_finished": len(self.seeds_of(prior)),
            "seeds_planned": len(self.seeds),
            "baseline": self.baseline,
            **{name: number for name, number in numbers.items() if np.isfinite(number)},
        }

    def tree(self) -> dict[str, Any]:
        """Return all results, for JSON."""
        return {
            "settings": self.settings.model_dump(mode="json", exclude={"seed": True, "model": {"prior"}}),
            "evaluation": {"num_samples": self.num_samples, "seed": self.evaluation_seed, "num_rows": self.num_rows},
            "seeds": list(self.seeds),
            "baseline": self.baseline,
            "priors": {prior: self._prior_tree(prior) for prior in self.priors},
            "failures": [{**cell._asdict(), "message": message} for cell, message in self.failures.items()],
        }

    def _prior_tree(self, prior: str) -> dict[str, Any]:
        seeds = self.seeds_of(prior)
        runs = {seed: self.finished[Cell(prior, seed)].metrics for seed in seeds}
        return {
            "seeds": seeds,
            "mean": {name: estimate._asdict() for name, estimate in self.means(prior).items()},
            "runs": {str(seed): {name: e._asdict() for name, e in metrics.items()} for seed, metrics in runs.items()},
            "against_baseline": {
                name: {
                    "better_by": better_by(name, difference),
                    "half_interval_95": difference.half_interval,
                    "prior_minus_baseline": difference.value,
                    "se": difference.se,
                    "se_over": difference.over,
                    "se_over_seeds": difference.se_seeds,
                    "se_over_rows": difference.se_rows,
                    "per_seed": dict(zip(map(str, self.common_seeds(prior)), difference.per_seed, strict=True)),
                }
                for name, difference in self.differences(prior).items()
            },
        }


def better_by(name: str, difference: Difference) -> float:
    """Return the improvement over the baseline in nats: a lower NLL or a higher ELBO is positive."""
    return SIGNS[name] * difference.value
