"""`priory gtm` and its options, as the user types them; what the commands do is in `commands.gtm`."""

from pathlib import Path
from typing import Annotated

import typer

from priory.workbench.cli.option_types import DataArgument, Device, Drop, Ids, Labels, Layer

gtm_app = typer.Typer(
    rich_markup_mode="rich",
    help="A map of a table of numbers: the generative topographic mapping, no neural network.\n\n"
    "Start with [bold]priory gtm fit digits --out runs/map[/bold].",
)

DATA, MODEL, OUTPUT = "Data", "Model", "Output"


@gtm_app.callback(invoke_without_command=True)
def gtm(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@gtm_app.command("fit")
def gtm_fit(
    data: DataArgument = None,
    points_per_side: Annotated[
        int | None, typer.Option(help="Nodes along each side of the map; default 16.", rich_help_panel=MODEL)
    ] = None,
    basis_per_side: Annotated[
        int | None,
        typer.Option(help="Radial functions along each side; default half of that.", rich_help_panel=MODEL),
    ] = None,
    basis_width: Annotated[
        float | None, typer.Option(help="Their width, in units of their distance.", rich_help_panel=MODEL)
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="More makes the map stiffer.", rich_help_panel=MODEL)
    ] = None,
    standardize: Annotated[
        bool | None,
        typer.Option(
            "--standardize/--raw",
            help="Divide columns by their standard deviation, or leave them; default: unless they are pixels.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    max_iter: Annotated[int | None, typer.Option(help="Most iterations of EM.", rich_help_panel=MODEL)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of batches, with --set model.batch_size; default 0.", rich_help_panel=MODEL)
    ] = None,
    device: Device = "auto",
    labels: Labels = None,
    ids: Ids = None,
    drop: Drop = None,
    layer: Layer = None,
    split: Annotated[
        str | None,
        typer.Option(help="given (the file's own, else 80/10/10; the default) or shuffled.", rich_help_panel=DATA),
    ] = None,
    split_seed: Annotated[int | None, typer.Option(help="Default 0.", rich_help_panel=DATA)] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any setting, as in config.json: model.tol=1e-8."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; default runs/DATA-map.", rich_help_panel=OUTPUT)
    ] = None,
) -> None:
    """Fit a map to DATA, write a run folder, say how good it is and draw it. Cells may be missing."""
    from priory.workbench.cli.commands.gtm import gtm_fit_run

    given = {
        "data.source": data,
        "data.labels": labels,
        "data.ids": ids,
        "data.drop": drop,
        "data.layer": layer,
        "data.split": split,
        "data.split_seed": split_seed,
        "model.points_per_side": points_per_side,
        "model.basis_per_side": basis_per_side,
        "model.basis_width": basis_width,
        "model.weight_decay": weight_decay,
        "model.standardize": standardize,
        "model.max_iter": max_iter,
        "seed": seed,
    }
    gtm_fit_run(given, assignments or [], out, device)
