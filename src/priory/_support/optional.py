"""Optional libraries, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra. It works in a checkout, because no package index has a release yet."""
    return f"run this in the folder of the project: pip install '.[{extra}]'"


def missing(library: str, extra: str, purpose: str) -> str:
    """Return the message of an ImportError for an optional library.

    >>> missing("zuko", "flows", "a flow")
    "a flow needs zuko, which is not installed; run this in the folder of the project: pip install '.[flows]'"
    """
    return f"{purpose} needs {library}, which is not installed; {how_to_install(extra)}"


def require(module: str, extra: str, purpose: str) -> Any:
    """Import `module`, or raise an ImportError that names the extra to install.

    >>> require("json", "tables", "reading JSON").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != library:
            raise
        raise ModuleNotFoundError(missing(library, extra, purpose), name=library) from error
