"""Learned priors for variational autoencoders: VampPrior, GTM, GTM-VampPrior, mixtures of Gaussians, flows."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from priory.core import *
    from priory.gtm import GTM, GTMClassifier, GTMRegressor
    from priory.maps import TopographicMap
    from priory.testing import check_bound, check_prior
    from priory.training import fit
    from priory.workbench.data import load_dataset
    from priory.workbench.runs.kinds import load

__version__ = "0.1.0.dev0"

# Beside the core, which needs torch alone. `from priory import *` leaves them out: the first three need the extra
# `all`, the checks are for tests.
_MORE = {
    "fit": "priory.training",
    "load": "priory.workbench.runs.kinds",
    "load_dataset": "priory.workbench.data",
    "refit": "priory.training.refitting",
    "check_prior": "priory.testing",
    "check_bound": "priory.testing",
    "TopographicMap": "priory.maps",
    "GTM": "priory.gtm",
    "GTMClassifier": "priory.gtm",
    "GTMRegressor": "priory.gtm",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: torch takes seconds, in which the command line must be awake."""
    if name in _MORE:
        return getattr(import_module(_MORE[name]), name)
    if name == "__all__" or not name.startswith("__"):
        core = import_module("priory.core")
        if name in globals():  # a room that the core has imported
            return globals()[name]
        if name == "__all__" or name in core.__all__:
            return getattr(core, name)
    raise AttributeError(f"module 'priory' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MORE, *import_module("priory.core").__all__})
