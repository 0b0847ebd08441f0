"""Registries: they map a name on the command line to a part of the model."""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any, TypeVar

from priory._support.imports import RAISED, described, located
from priory._support.messages import did_you_mean, shortened

Part = TypeVar("Part")


class Registry(Mapping[str, Part]):
    """The parts of one kind by name: built-in ones, those of installed packages, and any `package.module:NAME`.

    Args:
        kind: the setting that names a part, such as "prior"; error messages contain it.
        group: the entry-point group in which an installed package declares parts, such as "priory.priors".
        as_part: makes a part of the named object, or raises a TypeError that says what was expected.

    >>> colors = Registry("color", "priory.colors", str.upper)
    >>> colors.register("red", "#f00")
    >>> colors["red"], list(colors)
    ('#F00', ['red'])
    """

    def __init__(self, kind: str, group: str, as_part: Callable[[Any], Part]) -> None:
        self.kind = kind
        self._group = group
        self._as_part = as_part
        self._parts: dict[str, Part] = {}

    def register(self, name: str, part: Any) -> None:
        """Add a part under a name, or replace the part of that name.

        Args:
            name: the name.
            part: a part, or an object from which `as_part` makes one.

        Raises:
            TypeError: `as_part` cannot make a part of it.
        """
        self._parts[name] = self._as_part(part)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, except those of the form `package.module:NAME`."""
        names = [name for name in self._parts if ":" not in name]
        return iter(dict.fromkeys([*names, *_entry_points_of(self._group).names]))

    def __getitem__(self, name: str) -> Part:
        """Return the part of this name.

        Raises:
            ValueError: the name is unknown, or names something that is no part.
        """
        if name not in self._parts:
            part = self._imported(name)
            try:
                self.register(name, part)
            except TypeError as error:
                raise ValueError(f"{self.kind} {shortened(name)}: {error}") from error
        return self._parts[name]

    def asked_for(self, name: str, option: str) -> Part:
        """Return the part of this name; an error message begins with the option."""
        try:
            return self[name]
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from error

    def _imported(self, name: str) -> Any:
        for point in _entry_points_of(self._group).select(name=name):
            try:
                return point.load()
            except RAISED as error:
                package = point.dist.name if point.dist else "unknown"
                raise ValueError(
                    f"{self.kind} {name}: {point.value}, which the package {package} declares, cannot be imported "
                    f"({described(error)}); reinstall or remove that package"
                ) from error
        if ":" in name:
            return located(name)
        raise ValueError(
            f"unknown {self.kind} {shortened(name)!r}; choose from {', '.join(self)}, or name a class as "
            f"package.module:NAME{did_you_mean(name, self)}"
        )

    def loaded(self) -> dict[str, Part]:
        """Return the built-in parts, and the parts of other packages used so far; import nothing."""
        return dict(self._parts)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self)


def _entry_points_of(group: str) -> EntryPoints:
    return _all_entry_points(tuple(sys.path)).select(group=group)


@cache  # reading them takes a tenth of the time of `priory --help`
def _all_entry_points(path: tuple[str, ...]) -> Any:
    return entry_points()


def folder_name(name: str) -> str:
    """Return the name of a part in a form that is valid in the name of a folder.

    >>> folder_name("vamp"), folder_name("package.module:Student")
    ('vamp', 'package.module.Student')
    """
    return name.replace(":", ".")
