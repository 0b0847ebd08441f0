"""The generative topographic mapping (GTM) by EM, with scikit-learn's interface. Needs the extra `tables`."""

from priory._support.optional import missing

try:
    from priory.gtm.estimator import GTM
    from priory.gtm.supervised import GTMClassifier, GTMRegressor
except ModuleNotFoundError as error:
    if error.name is not None and error.name.split(".")[0] == "priory":
        raise
    raise ModuleNotFoundError(missing(str(error.name), "tables", "priory.gtm"), name=error.name) from error

__all__ = ["GTM", "GTMClassifier", "GTMRegressor"]
