"""Smallest errors that the randomized checks of the conformance suite find: mixtures with one error of a given size.

    python benchmarks/conformance_power.py

Nine components with scales sqrt(1/2) at radius sqrt(L/2), as `MixtureOfGaussians` starts, and the same three times as
far apart; three seeds each. The table shows in how many seeds the check for this error finds it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from _results import RESULTS, write_results
from priory import MixtureOfGaussians
from priory.testing import Subject, run_check

SEEDS = range(3)
LogProb = Callable[[Tensor], Tensor]
Sample = Callable[[torch.Size], Tensor]


def mixture(latent_dim: int, distance: float, seed: int) -> MixtureOfGaussians:
    """Return the correct prior."""
    torch.manual_seed(seed)
    prior = MixtureOfGaussians(latent_dim, 9)
    with torch.no_grad():
        prior.loc.mul_(distance)
    return prior


def none(prior: MixtureOfGaussians, size: float) -> tuple[LogProb, Sample]:
    """Make no error."""
    return prior().log_prob, prior().sample


def scale(prior: MixtureOfGaussians, size: float) -> tuple[LogProb, Sample]:
    """Make samples whose scale is 1 + size times the density's."""
    wrong = MixtureOfGaussians(prior.latent_dim or 0, prior.num_components)
    wrong.load_state_dict(prior.state_dict())
    with torch.no_grad():
        wrong.log_scale.add_(math.log1p(size))
    return prior().log_prob, wrong().sample


def mass(prior: MixtureOfGaussians, size: float) -> tuple[LogProb, Sample]:
    """Make a density that integrates to 1 + size."""
    p_z = prior()
    return lambda z: p_z.log_prob(z) + math.log1p(size), p_z.sample


def weight(prior: MixtureOfGaussians, size: float) -> tuple[LogProb, Sample]:
    """Make samples in which one component's weight is 1 + size times the density's."""
    wrong = MixtureOfGaussians(prior.latent_dim or 0, prior.num_components)
    wrong.load_state_dict(prior.state_dict())
    with torch.no_grad():
        wrong.mixing_logits[0] += math.log1p(size)
    return prior().log_prob, wrong().sample


ERRORS = {
    "scale of samples": (scale, "density_and_sampler_agree", (0.02, 0.05, 0.1)),
    "weight of a component": (weight, "density_and_sampler_agree", (0.5, 1.0)),
    "total mass": (mass, "integrates_to_one", (0.02, 0.05, 0.1)),
}


def main() -> None:
    rows = []
    for error, (plant, check, sizes) in ERRORS.items():
        for latent_dim in (2, 40):
            for distance in (1.0, 3.0):
                for size in (0.0, *sizes):
                    failed = []
                    for seed in SEEDS:
                        make = plant if size else none
                        with torch.no_grad():
                            subject = Subject(make(mixture(latent_dim, distance, seed), size), seed=seed)
                        failed.append(run_check(check, subject).status == "failed")
                    rows.append(
                        {"error": error, "L": latent_dim, "distance": distance, "size": size, "found": sum(failed)}
                    )
                    print(rows[-1], flush=True)
    lines = [f"Made by `benchmarks/conformance_power.py`; found: in how many of {len(SEEDS)} seeds.", ""]
    lines += ["| error | L | distance | " + "size: found |", "|---|---|---|---|"]
    for error, latent_dim, distance in dict.fromkeys((r["error"], r["L"], r["distance"]) for r in rows):
        same = [r for r in rows if (r["error"], r["L"], r["distance"]) == (error, latent_dim, distance)]
        cells = ", ".join(f"{r['size']:.0%}: {r['found']}" for r in same)
        lines.append(f"| {error} | {latent_dim} | {distance:g} | {cells} |")
    write_results(RESULTS / "conformance_power.json", rows, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
