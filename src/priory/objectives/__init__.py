"""Objectives: lower bounds of log p(x), and the classes with which `fit` maximizes them.

A bound, such as `elbo`, is a function that returns nats per datum. A class, such as `ImportanceWeighted`, holds the
options of an objective; calling it returns the terms that a training step maximizes. `OBJECTIVES` has them by name.
"""

from priory.objectives.bounds import (
    Elbo,
    draws_from,
    elbo,
    guide_of,
    guided_elbo,
    guided_terms,
    importance_weighted_bound,
)
from priory.objectives.elbos import BetaElbo, EvidenceLowerBound, FreeBits, Guided, StickingTheLanding
from priory.objectives.importance import DoublyReparameterized, ImportanceWeighted
from priory.objectives.objective import Objective, Terms, UserObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": EvidenceLowerBound,
    "beta-elbo": BetaElbo,
    "free-bits": FreeBits,
    "importance-weighted": ImportanceWeighted,
    "doubly-reparameterized": DoublyReparameterized,
    "sticking-the-landing": StickingTheLanding,
    "guided": Guided,
}

__all__ = [
    "OBJECTIVES",
    "BetaElbo",
    "DoublyReparameterized",
    "Elbo",
    "EvidenceLowerBound",
    "FreeBits",
    "Guided",
    "ImportanceWeighted",
    "Objective",
    "StickingTheLanding",
    "Terms",
    "UserObjective",
    "draws_from",
    "elbo",
    "guide_of",
    "guided_elbo",
    "guided_terms",
    "importance_weighted_bound",
]
