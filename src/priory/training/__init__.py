"""Training: `fit` and what it takes and gives. Needs the extra `all`; Lightning is imported when training starts."""

try:
    from priory.training.settings import TrainingSettings
except ModuleNotFoundError as error:
    if error.name is not None and error.name.split(".")[0] == "priory":
        raise
    message = f"priory.training needs {error.name}; install it with: pip install 'priory[all]'"
    raise ModuleNotFoundError(message, name=error.name) from error

from priory.training.failures import NonFiniteLossError
from priory.training.fitting import fit
from priory.training.history import History
from priory.training.ranks import process_rank
from priory.training.trainer import check_devices

__all__ = ["History", "NonFiniteLossError", "TrainingSettings", "check_devices", "fit", "process_rank"]
