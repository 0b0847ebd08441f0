"""Optional libraries, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any


def require(module: str, extra: str, purpose: str) -> Any:
    """Import `module`, or raise an ImportError that names the extra to install.

    >>> require("json", "all", "reading JSON").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.split(".")[0]
        raise ImportError(f"{purpose} needs {library}, which is missing: pip install 'priory[{extra}]'") from error
