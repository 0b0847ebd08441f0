"""Learned priors for variational autoencoders: VampPrior, GTM, GTM-VampPrior, mixtures of Gaussians, flows.

`__init__.pyi` lists the public names. They are imported when they are first used: importing torch takes seconds, and
the command line must handle Ctrl-C meanwhile.
"""

from priory._support.lazy import importer, modules_of_names

_MODULES = modules_of_names(__file__)
# `from priory import *` gives the names that need torch alone. It leaves out the packages that need the extra `all`,
# and the ones for tests.
_LEFT_OUT = ("priory._", "priory.gtm", "priory.maps", "priory.testing", "priory.training", "priory.workbench")

__all__ = [name for name, module in _MODULES.items() if not module.startswith(_LEFT_OUT)]
__getattr__ = importer(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name.startswith("__")} | _MODULES.keys())
