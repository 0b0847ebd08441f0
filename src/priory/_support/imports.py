"""Objects by their import path, `package.module:NAME`, and short descriptions of exceptions that they raise."""

import importlib
from typing import Any

# If an object ends the process, it fails like any other; only KeyboardInterrupt comes from the user.
RAISED = (Exception, SystemExit)


def located(obj: Any) -> Any:
    """Return the object, or the object with the import path "package.module:name".

    Raises:
        ValueError: the object does not exist, or its module cannot be imported.
    """
    if not isinstance(obj, str):
        return obj
    module_name, _, name = obj.partition(":")
    if not module_name or not name:
        raise ValueError(f"{obj}: expected package.module:factory, such as mypackage.priors:make_prior")
    place = _imported(module_name, obj)
    for part in name.split("."):
        try:
            place = getattr(place, part)
        except AttributeError as error:
            raise ValueError(
                f"{obj}: expected {part} in {module_name}, which has no such name; check its spelling"
            ) from error
        except RAISED as error:  # raised by a module's own __getattr__
            raise ValueError(f"{obj}: expected {part} in {module_name}, but that raised {described(error)}") from error
    return place


def _imported(module_name: str, obj: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"{obj}: expected a module {module_name} that can be imported: {first_line(error)}; check its name, or put "
            "its folder on PYTHONPATH"
        ) from error
    except RAISED as error:
        raise ValueError(
            f"{obj}: expected a module {module_name} that can be imported, but that raised {described(error)}; "
            f"`import {module_name}` in Python shows where"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def described(error: BaseException) -> str:
    """Return an exception's type and the first line of its message, if it has one."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"
