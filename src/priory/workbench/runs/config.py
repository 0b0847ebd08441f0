"""`config.json` of a run: kind, version and content, read without slow imports."""

import re
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, field_validator

from priory._support.files import read_json
from priory._version import __version__
from priory.workbench.settings.base import checked

CONFIG = "config.json"
FITTED_BY = {
    "vae": "priory fit",
    "gtm": "priory gtm fit",
}  # the kinds of runs in config.json, and the commands that make them

Stored = TypeVar("Stored", bound=BaseModel)


class Header(BaseModel):
    """The part of a configuration that all kinds of runs share; it determines how to read the rest."""

    priory: str = ""
    kind: str = "vae"

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in FITTED_BY:
            raise ValueError(f"expected {' or '.join(FITTED_BY)}, got {kind!r}")
        return kind


def kind_of(path: Path, expected: str = "vae") -> str:
    """Return the kind of a run folder, a key of `FITTED_BY`; if it is no run, the error names `expected`'s command."""
    file = path / CONFIG
    if not file.is_file():
        raise ValueError(
            f"{path}: expected a run folder with {CONFIG}, such as `{FITTED_BY[expected]} ... --out RUN` writes"
        )
    return _validated(Header, path).kind


def read_config(path: Path, stored: type[Stored], kind: str) -> Stored:
    """Read the configuration of a run folder of this kind."""
    actual = kind_of(path, kind)
    if actual != kind:
        raise ValueError(
            f"{path}: expected a run that `{FITTED_BY[kind]}` made, got one that `{FITTED_BY[actual]}` made; name "
            "another, or see which commands accept it: priory --help"
        )
    return _validated(stored, path)


def _validated(stored: type[Stored], path: Path) -> Stored:
    """Read the configuration of a run; if it is invalid and a newer priory wrote it, the error mentions the version."""
    file = path / CONFIG
    tree = read_json(file)
    try:
        return checked(stored, tree, str(file))
    except ValueError as error:
        version = tree.get("priory") if isinstance(tree, dict) else None
        if not _is_newer(str(version)):
            raise
        raise ValueError(f"{error}; priory {version} wrote this file, and this is {__version__}; upgrade") from None


def note_of_newer_version(path: Path) -> str | None:
    """Return a note if a newer priory wrote the run folder; else None."""
    version = _validated(Header, path).priory
    if not _is_newer(version):
        return None
    return (
        f"{path / CONFIG}: priory {version} wrote this run, and this is {__version__}: numbers may differ; upgrade if "
        "they matter"
    )


def _is_newer(version: str) -> bool:
    """Return whether a version has a larger major or minor number than this one.

    >>> _is_newer("99.0"), _is_newer("0.0.1")
    (True, False)
    """
    theirs, ours = ([int(number) for number in re.findall(r"\d+", text)[:2]] for text in (version, __version__))
    return theirs > ours
