"""Metrics of a model: likelihood, bound and latent space, each with a standard error."""

from priory.evaluation.aggregate import AggregatePosterior, active_units
from priory.evaluation.clustering import cluster_agreement, clusters, has_clusters
from priory.evaluation.components import component_use, effective_components
from priory.evaluation.estimates import Estimate
from priory.evaluation.holes import coverage
from priory.evaluation.importance import ImportanceEstimate, importance_estimate, log_likelihood
from priory.evaluation.imputation import impute
from priory.evaluation.metrics import (
    METRIC_DESCRIPTIONS,
    Evaluation,
    LowEffectiveSampleSizeWarning,
    evaluate,
    evaluate_rows,
)

__all__ = [
    "METRIC_DESCRIPTIONS",
    "AggregatePosterior",
    "Estimate",
    "Evaluation",
    "ImportanceEstimate",
    "LowEffectiveSampleSizeWarning",
    "active_units",
    "cluster_agreement",
    "clusters",
    "component_use",
    "coverage",
    "effective_components",
    "evaluate",
    "evaluate_rows",
    "has_clusters",
    "importance_estimate",
    "impute",
    "log_likelihood",
]
