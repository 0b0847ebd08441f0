"""Names of a package that are imported when they are first used; a stub beside `__init__.py` lists them.

Type checkers also read the stub, so a misspelled name is an error and every name has its type.
"""

import ast
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any


def modules_of_names(file: str) -> dict[str, str]:
    """Return the module of each name that `__init__.pyi` imports, in the folder of the package's `__file__`."""
    with open(os.path.join(os.path.dirname(file), "__init__.pyi"), encoding="utf-8") as stub:
        imports = [node for node in ast.parse(stub.read()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def importer(package: str, modules: dict[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package, which imports a name from its module.

    >>> __getattr__ = importer("numbers", {"tau": "math"})
    >>> __getattr__("tau")
    6.28318...
    >>> __getattr__("pi")
    Traceback (most recent call last):
    AttributeError: module 'numbers' has no attribute 'pi'
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return __getattr__
