"""Check priors and bounds, also those of other packages: density, sampler, gradients, state."""

from priory.testing.bounds import BOUND_CHECKS, LinearGaussianModel, check_bound
from priory.testing.items import parametrize_with_checks
from priory.testing.report import Check, ConformanceError, Report
from priory.testing.running import CHECKS, check_prior, run_check
from priory.testing.subject import Subject

__all__ = [
    "BOUND_CHECKS",
    "CHECKS",
    "Check",
    "ConformanceError",
    "LinearGaussianModel",
    "Report",
    "Subject",
    "check_bound",
    "check_prior",
    "parametrize_with_checks",
    "run_check",
]
