"""`priory gtm` and its options. The module `commands.gtm` implements it."""

from pathlib import Path
from typing import Annotated

import typer

from priory.workbench.cli import options
from priory.workbench.cli.help import SectionedCommand, SectionedGroup
from priory.workbench.cli.options import DataArgument, Device, Given, Set, settings_options
from priory.workbench.cli.requests import data_before_torch, default_folder
from priory.workbench.cli.terminal import say
from priory.workbench.settings.base import with_options
from priory.workbench.settings.gtm import GTMRunSettings

gtm_app = typer.Typer(
    cls=SectionedGroup,
    rich_markup_mode=None,
    help="Map a table of numbers by the generative topographic mapping, without a neural network.\n\n"
    "Start with priory gtm fit digits --out runs/map",
)

FIT = {
    "Model": (
        "model.points_per_side",
        "model.basis_per_side",
        "model.basis_width",
        "model.weight_decay",
        "model.tether",
        "model.standardize",
        "model.max_iter",
        "seed",
    ),
    "Data": (*(f"data.{name}" for name in options.TABLE), "data.layer", "data.split", "data.split_seed", "data.stream"),
}

FLAGS = {"model.standardize": "--standardize/--raw", "data.header": options.HEADER["header"]}


@gtm_app.callback(invoke_without_command=True)
def gtm(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        for line in context.get_help().splitlines():
            say(line)


@gtm_app.command("fit", cls=SectionedCommand)
@settings_options(GTMRunSettings, FIT, flags=FLAGS)
def gtm_fit(
    given: Given,
    data: DataArgument = None,
    device: Device = "auto",
    assignments: Set = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; default runs/DATA-map.")] = None,
) -> None:
    """Fit a map to DATA, evaluate it, draw it and write a run folder. Cells may be missing."""
    settings = with_options(GTMRunSettings(), given | {"data.source": data}, assignments or [])
    if data is None:
        raise ValueError("DATA: expected a file or an embedded data set, such as: priory gtm fit digits --out runs/map")
    out = out or default_folder(settings.data.source, "map")
    dataset = None if out.exists() else data_before_torch(settings.data, complete=False)
    from priory.workbench.cli.commands.gtm import gtm_fit_run

    gtm_fit_run(settings, out, device, dataset)
