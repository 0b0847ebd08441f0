"""The generative topographic mapping by EM, estimators in scikit-learn's manner. Needs the extra `all`."""

try:
    from priory.gtm.estimator import GTM
    from priory.gtm.supervised import GTMClassifier, GTMRegressor
except ModuleNotFoundError as error:
    if error.name is not None and error.name.split(".")[0] == "priory":
        raise
    message = f"priory.gtm needs {error.name}; install it with: pip install 'priory[all]'"
    raise ModuleNotFoundError(message, name=error.name) from error

__all__ = ["GTM", "GTMClassifier", "GTMRegressor"]
