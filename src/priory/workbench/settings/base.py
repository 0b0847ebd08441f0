"""Trees of settings: values over defaults, `--set` assignments, and errors that name the setting."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from priory._support.messages import did_you_mean, nearest, shortened
from priory._support.settings import NumbersAreNotTruthValues, what_is_wrong

_MOST_ERRORS = 5  # in one message
SETTINGS = "settings"  # the origin, in messages, of settings on the command line; other trees come from files

# No machine has memory for more, and the product of two sizes still fits torch's integers.
Size = Annotated[int, Field(ge=1, le=10**9)]
Tree = Mapping[str, Any]
Kind = TypeVar("Kind", bound=BaseModel)


class Settings(NumbersAreNotTruthValues):
    """Settings of one kind. An unknown name raises an error, so a typo never falls back to a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @classmethod
    def kind_for(cls, tree: Tree) -> type[Self]:
        """Return the class that validates this tree: a subclass if the values decide which settings exist.

        Raises:
            UnknownNameError: a value names something that does not exist.
        """
        return cls

    @classmethod
    def why_unknown(cls, name: str, tree: Tree) -> str | None:
        """Return why this tree has no such setting, for the end of an error message; None if no reason is known."""
        return None


class UnknownNameError(ValueError):
    """A setting names something that does not exist.

    Args:
        setting: the name of the setting.
        message: what is wrong.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


def with_options(
    base: Kind,
    options: Tree,
    assignments: Iterable[str] = (),
    *,
    flags: Mapping[str, str] | None = None,
    known_elsewhere: Collection[str] = (),
) -> Kind:
    """Return the base settings, changed first by the options and then by the `--set` assignments.

    If a change selects another part (`model.prior=vamp`), the settings that only the old part had are dropped.

    Args:
        base: the settings to change.
        options: values by path ("model.latent_dim"); None means that the option was not given.
        assignments: `NAME=VALUE` texts; a value is JSON if it parses, text otherwise.
        flags: the flags of options that are not named after their path.
        known_elsewhere: paths to ignore if these settings lack them, because other runs of the comparison have them.

    Raises:
        ValueError: an assignment is malformed, a path names no setting, or a value is invalid.

    >>> from priory.workbench.settings.run import RunSettings
    >>> with_options(RunSettings(), {"seed": 1}, ["training.epochs=3", "model.hidden=[300, 300]"]).training.epochs
    3
    """
    assigned = dict(map(_assignment, assignments))
    changes = {path: value for path, value in options.items() if value is not None} | assigned
    values = dict(_leaves(base.model_dump())) | changes

    def source(path: str) -> str:
        if path in assigned:
            return f"--set {shortened(path)}"
        return (flags or {}).get(path, f"--{_leaf(path).replace('_', '-')}")

    tree = _nested(values)
    try:
        names = setting_names(type(base), tree)
    except UnknownNameError as error:
        named = next((path for path in changes if _leaf(path) == error.setting), error.setting)
        raise ValueError(f"{source(named)}: {error}") from error
    for path in changes:
        if path not in names and path not in known_elsewhere:
            raise ValueError(f"{source(path)}: {_why_unknown(type(base), path, names, tree)}")
    return checked(type(base), _nested({path: values[path] for path in values if path in names}), SETTINGS)


def _assignment(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: expected NAME=VALUE, such as --set training.learning_rate=2e-3")
    try:
        return path.strip(), json.loads(value)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, or thousands of brackets
        text = value.strip()
        return path.strip(), {"none": None, "None": None, "True": True, "False": False}.get(text, text)


def checked(kind: type[Kind], tree: object, where: str) -> Kind:
    """Validate a tree of settings and return it as an object of this class.

    Raises:
        ValueError: a value is invalid, or a name is unknown; the message lists each in one line, with the nearest name.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        errors = error.errors()[:_MOST_ERRORS]
        raise ValueError(f"{where}: " + "; ".join(_described(kind, tree, each, where) for each in errors)) from None
    except RecursionError:
        raise ValueError(f"{where}: expected settings by name, got a tree that is too deep") from None


def _described(kind: type[BaseModel], tree: Any, error: Tree, origin: str) -> str:
    *parents, name = map(str, error["loc"]) if error["loc"] else [""]
    path = ".".join([*parents, name])
    if error["type"] == "extra_forbidden":
        for parent in parents:
            kind, tree = _branch(kind, tree, parent)
        return f"{path}: there is no such setting{did_you_mean(name, _kind_for(kind, tree).model_fields)}"
    if error["type"] == "missing":
        cure = f"; give --set {path}=VALUE" if origin == SETTINGS else ""
        return f"{path}: expected a value, got none{cure}"
    where = f"{path}: " if path else ""
    return where + what_is_wrong(error)


def setting_names(kind: type[BaseModel], tree: Tree | None = None) -> list[str]:
    """Return the paths of all settings that `--set` accepts if the tree has these values, and defaults otherwise."""
    return sorted(_paths(kind, tree or {}))


def _paths(kind: type[BaseModel], tree: Tree) -> Iterator[str]:
    for name, field in _kind_for(kind, tree).model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name}.{path}" for path in _paths(*_branch(kind, tree, name)))
        else:
            yield name


def _kind_for(kind: type[BaseModel], tree: Any) -> type[BaseModel]:
    return kind.kind_for(tree) if issubclass(kind, Settings) and isinstance(tree, Mapping) else kind


def _branch(kind: type[BaseModel], tree: Any, name: str) -> tuple[Any, Any]:
    annotation = _kind_for(kind, tree).model_fields[name].annotation
    kinds = [each for each in get_args(annotation) if isinstance(each, type) and issubclass(each, BaseModel)]
    return kinds[0] if kinds else annotation, tree.get(name, {}) if isinstance(tree, Mapping) else {}


def _why_unknown(kind: Any, path: str, names: Iterable[str], tree: Any) -> str:
    """Return the end of the message: the parts that have the setting, the nearest name, or all names."""
    *parents, leaf = path.split(".")
    for parent in parents:
        if parent not in _kind_for(kind, tree).model_fields:
            break
        kind, tree = _branch(kind, tree, parent)
    else:
        if isinstance(kind, type) and issubclass(kind, Settings) and (reason := kind.why_unknown(leaf, tree)):
            return reason
    by_leaf = {_leaf(name): name for name in names}  # whole paths would make all settings of one branch look alike
    close = by_leaf.get(nearest(_leaf(path), by_leaf) or "")
    return "there is no such setting; " + (f"did you mean {close}?" if close else f"known are {', '.join(names)}")


def changed_settings(before: Tree, after: Tree) -> list[str]:
    """Return the paths of the settings that differ, for a message."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [path for path in old | new if path not in old or path not in new or old[path] != new[path]]


def _leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            yield from _leaves(value, key)
        else:
            yield key, value


def _nested(values: Tree) -> dict[str, Any]:
    """Nest values by their paths; skip a path that goes through a value, because it names no setting."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *parents, name = path.split(".")
        branch: Any = tree
        for parent in parents:
            branch = branch.setdefault(parent, {}) if isinstance(branch, dict) else None
        if isinstance(branch, dict):
            branch[name] = value
    return tree


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]
