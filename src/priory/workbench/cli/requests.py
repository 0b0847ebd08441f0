"""The settings of a command line, checked before slow imports."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from priory._support.messages import shortened
from priory.workbench.cli.terminal import say_on_stderr
from priory.workbench.data.shards import name_of
from priory.workbench.settings.base import with_options
from priory.workbench.settings.priors import PRIORS
from priory.workbench.settings.registry import folder_name
from priory.workbench.settings.run import DataSettings, RunSettings

if TYPE_CHECKING:
    from priory.workbench.data import Dataset

AS_PUBLISHED = {
    "model.grid_start": "mean",
    "model.grid_network": "mlp",
}  # without an initial GTM there is no guide and no noise
GRID_FLAGS = {"model.points_per_side": "--grid", "model.grid_dim": "--grid"} | dict.fromkeys(
    AS_PUBLISHED, "--as-published"
)


class FitRequest(NamedTuple):
    """The arguments of `priory fit`, checked."""

    given: dict[str, Any]  # settings on the command line, by path
    assignments: list[str]
    settings: RunSettings
    out: Path
    resume: bool
    dataset: "Dataset | None"  # None if the run folder exists, which must be checked first


def fit_request(
    given: Mapping[str, Any], grid: str | None, assignments: list[str], out: Path | None, resume: bool, device: str
) -> FitRequest:
    """Check the settings and read the data, before torch is imported, unless --device names a device."""
    allow_modules_here(given, assignments)
    given = {**given, **grid_settings(grid)}
    settings = with_options(RunSettings(), given, assignments, flags=GRID_FLAGS)
    if given["data.source"] is None and not resume:
        raise ValueError("DATA: expected a file or an embedded data set, such as: priory fit digits --out runs/first")
    if machine := settings_of_device(device, given):
        given |= machine
        settings = with_options(RunSettings(), given, assignments, flags=GRID_FLAGS)
    out = out or default_folder(settings.data.source, folder_name(settings.model.prior))
    dataset = None if resume or out.exists() else data_before_torch(settings.data, complete=True)
    return FitRequest(given, assignments, settings, out, resume, dataset)


def data_before_torch(data: DataSettings, *, complete: bool) -> "Dataset":
    """Read the data of a new run; refuse cells that its model does not support."""
    from priory.workbench.data import MAP_TAKES_GAPS, load_dataset, require_complete, require_finite

    try:
        dataset = load_dataset(**data.model_dump())
        if complete:
            require_complete(dataset, or_else=MAP_TAKES_GAPS)
        else:
            require_finite(dataset)
    except KeyboardInterrupt:
        say_on_stderr("interrupted; no run was begun yet; give the same command again")
        raise
    return dataset


def prior_names(priors: str) -> tuple[str, ...]:
    names = list(PRIORS) if priors == "all" else [name.strip() for name in priors.split(",") if name.strip()]
    if not names:
        raise ValueError(f"--priors {priors!r}: expected names separated by commas, or all; see: priory priors")
    for name in names:
        PRIORS.asked_for(name, "--priors")
    return tuple(dict.fromkeys(names))


def allow_modules_here(*names: Any) -> None:
    """Let `package.module:NAME` name a module in the working directory, if the command line has such a name.

    Commands that only read a run do not call this: a run folder from somebody else must not decide what is imported.
    """
    if not names or any(":" in str(name) for name in names):
        sys.path.append(str(Path.cwd()))


def grid_settings(text: str | None) -> dict[str, int]:
    """Return the settings that `--grid` sets."""
    if text is None:
        return {}
    sides = text.lower().split("x")
    if not re.fullmatch("[1-9][0-9]{0,5}", sides[0]) or len(set(sides)) != 1:
        raise ValueError(f"--grid {shortened(text)}: expected equal sides such as 10x10, or 5x5x5 for three dimensions")
    return {"model.points_per_side": int(sides[0]), "model.grid_dim": len(sides) if len(sides) > 1 else 2}


def settings_of_device(device: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of training that `--device` sets; none for auto."""
    if device == "auto":
        return {}
    for name in ("accelerator", "devices"):
        if f"training.{name}" in given:
            raise ValueError(f"--device {device}: expected either --device or --{name}, got both; leave one out")
    from priory.workbench.cli.commands.opening import chosen_device

    kind, _, number = chosen_device(device).partition(":")
    accelerator = {"cuda": "gpu"}.get(kind, kind)
    return {"training.accelerator": accelerator, "training.devices": f"{number}," if number and kind != "cpu" else 1}


def default_folder(source: str, ending: str) -> Path:
    """Return the run folder if --out is not given.

    >>> print(default_folder("tables/wine.csv.gz", "vamp"))
    runs/wine-vamp
    """
    return Path("runs") / f"{name_of(source).split('.')[0]}-{ending}"
