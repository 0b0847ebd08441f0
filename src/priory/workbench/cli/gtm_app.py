"""`priory gtm` and its options; what its commands do is in `commands.gtm`."""

from pathlib import Path
from typing import Annotated

import typer

from priory.workbench.cli.options import DataArgument, Device, Given, Set, settings_options
from priory.workbench.settings.gtm import GTMRunSettings

gtm_app = typer.Typer(
    rich_markup_mode="rich",
    help="A map of a table of numbers: the generative topographic mapping, no neural network.\n\n"
    "Start with [bold]priory gtm fit digits --out runs/map[/bold].",
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
    "Data": ("data.labels", "data.ids", "data.drop", "data.layer", "data.split", "data.split_seed"),
}


@gtm_app.callback(invoke_without_command=True)
def gtm(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@gtm_app.command("fit")
@settings_options(GTMRunSettings, FIT, flags={"model.standardize": "--standardize/--raw"})
def gtm_fit(
    given: Given,
    data: DataArgument = None,
    device: Device = "auto",
    assignments: Set = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; default runs/DATA-map.")] = None,
) -> None:
    """Fit a map to DATA, write a run folder, say how good it is and draw it. Cells may be missing."""
    from priory.workbench.cli.commands.gtm import gtm_fit_run

    given["data.source"] = data
    gtm_fit_run(given, assignments or [], out, device)
