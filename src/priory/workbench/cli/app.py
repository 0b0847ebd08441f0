"""The commands and their options. The package `commands` implements them."""

from pathlib import Path
from typing import Annotated

import typer

from priory._version import __version__
from priory.workbench.cli import options
from priory.workbench.cli.gtm_app import gtm_app
from priory.workbench.cli.help import SectionedCommand, SectionedGroup
from priory.workbench.cli.options import (
    DataArgument,
    Device,
    Given,
    Grid,
    Report,
    RowsArgument,
    RunArgument,
    Samples,
    Scheduler,
    Seed,
    Set,
    Workers,
    reading_options,
    settings_options,
)
from priory.workbench.cli.requests import (
    AS_PUBLISHED,
    allow_modules_here,
    fit_request,
    prior_names,
)
from priory.workbench.cli.rows_app import ROW_COMMANDS
from priory.workbench.cli.terminal import say
from priory.workbench.settings.priors import PRIORS
from priory.workbench.settings.run import RefitRequest, RunSettings

app = typer.Typer(
    cls=SectionedGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Variational autoencoders with learned priors. From a data file to a trained model, its likelihood and its "
    "pictures.\n\nStart with priory fit digits --prior gtm-vamp --out runs/first",
)

app.add_typer(gtm_app, name="gtm")


def _print_version(print_it: bool) -> None:
    if print_it:
        say(f"priory {__version__}")
        raise typer.Exit


@app.callback()
def priory(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None: ...


OUTPUT = "Output"
TABLE = tuple(f"data.{name}" for name in options.TABLE)
FLAGS = {"data.header": options.HEADER["header"], "data.conditions": "--condition"}
FIT = {
    "Model": (
        "model.prior",
        "model.latent_dim",
        "model.levels",
        "model.components",
        "model.likelihood",
        "model.network",
        "model.encoder",
        "model.decoder",
    ),
    "Training": (
        "training.epochs",
        "training.batch_size",
        "training.learning_rate",
        "training.warmup",
        "training.patience",
        "seed",
        "training.precision",
        "training.accelerator",
        "training.devices",
        "training.strategy",
    ),
    "Data": ("data.conditions", *TABLE, "data.layer", "data.split", "data.split_seed", "data.binarize", "data.stream"),
}


@app.command(cls=SectionedCommand)
@settings_options(RunSettings, FIT, flags=FLAGS)
def fit(
    given: Given,
    data: DataArgument = None,
    grid: Grid = None,
    as_published: Annotated[
        bool,
        typer.Option(
            "--as-published",
            help="Use the grid prior of the book: a perceptron that starts at the mean, no guide, no input noise.",
            rich_help_panel="Model",
        ),
    ] = False,
    assignments: Set = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; default runs/DATA-PRIOR.", rich_help_panel=OUTPUT)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Resume the run in --out, with its own DATA and options.", rich_help_panel=OUTPUT
        ),
    ] = False,
    evaluate: Annotated[
        bool, typer.Option(help="Evaluate the trained model, like `priory evaluate`.", rich_help_panel=OUTPUT)
    ] = True,
    samples: Samples = 512,
    device: Device = "auto",
    page: Report = True,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write logs for TensorBoard too.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Train a VAE on DATA, evaluate it and write a run folder with its pictures."""
    given = given | {"data.source": data} | (AS_PUBLISHED if as_published else {})
    request = fit_request(given, grid, assignments or [], out, resume, device)
    from priory.workbench.cli.commands.fit import fit_run

    fit_run(request, samples if evaluate else None, device, tensorboard, page)


@app.command(cls=SectionedCommand)
@reading_options
def evaluate(
    run: RunArgument,
    given: Given,
    data: RowsArgument = None,
    out: Annotated[
        Path | None, typer.Option(help="For DATA in parts: a folder for metrics.json and the numbers of each row.")
    ] = None,
    samples: Samples = 512,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace stored numbers even if they come from more samples.")
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Print ELBO, importance-weighted NLL and more, with standard errors, for the run's test rows or for DATA."""
    from priory.workbench.cli.commands.evaluate import evaluate_run

    evaluate_run(run, data, out, samples, seed, device, given, as_json, replace, workers, scheduler)


for _name, _command in ROW_COMMANDS.items():
    app.command(_name, cls=SectionedCommand)(_command)


@app.command(cls=SectionedCommand)
def report(run: RunArgument, device: Device = "auto") -> None:
    """Write RUN/report.html again: numbers, pictures and the interactive map."""
    from priory.workbench.cli.commands.report import report_run

    report_run(run, device)


@app.command(cls=SectionedCommand)
@settings_options(RefitRequest, {"Model": ("model.components",), "Training": ("refit.epochs", "seed")})
def refit(
    run: RunArgument,
    prior: Annotated[str, typer.Option(help=f"The new prior: one of {', '.join(PRIORS)}.", rich_help_panel="Model")],
    given: Given,
    out: Annotated[Path | None, typer.Option(help="The new run folder; default RUN-PRIOR.")] = None,
    grid: Grid = None,
    samples: Samples = 512,
    device: Device = "auto",
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any setting model.* of the prior, or refit.*: refit.learning_rate=1e-3.",
        ),
    ] = None,
) -> None:
    """Fit another prior to a trained encoder and decoder, which do not change; print the effect.

    Settings that you leave out come from the run, if its prior has them too.
    """
    if ":" not in prior:  # otherwise it names a module, perhaps in the working directory
        PRIORS.asked_for(prior, "--prior")
    from priory.workbench.cli.commands.refit import refit_run

    refit_run(run, {"model.prior": prior} | given, grid, assignments or [], out, samples, device)


@app.command(cls=SectionedCommand)
@settings_options(
    RunSettings,
    {
        "Model": ("model.latent_dim", "model.levels"),
        "Training": ("training.epochs",),
        "Data": ("data.conditions", *TABLE, "data.stream"),
    },
    flags=FLAGS,
)
def compare(
    given: Given,
    data: DataArgument = "digits",
    priors: Annotated[str, typer.Option(help="Names separated by commas, or all.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Runs per prior.")] = 5,
    samples: Samples = 512,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs; default runs/DATA-compare. Finished runs there are not repeated."),
    ] = None,
    page: Report = True,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="The prior to compare the others with; default standard if it is among them, else the first."
        ),
    ] = None,
    assignments: Set = None,
) -> None:
    """Compare priors: means over seeds, differences from a baseline on the same rows, pictures."""
    allow_modules_here(priors, assignments)
    names = prior_names(priors)
    from priory.workbench.cli.commands.compare import compare_runs

    given["data.source"] = data
    compare_runs(given, assignments or [], names, baseline, seeds, samples, device, out, page)


@app.command(cls=SectionedCommand)
def priors() -> None:
    """List the priors, each with a description and its source."""
    from priory.workbench.cli.commands.priors import list_priors

    list_priors()


@app.command(cls=SectionedCommand)
def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE.MODULE:NAME", help="A prior, or a class or function that makes one without arguments."
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(help="The encoder to call it with, or a function that makes the encoder: package.module:name."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="A distribution with the density that the prior must have: package.module:name.")
    ] = None,
    single: Annotated[str | None, typer.Option(help="The same prior with one component: package.module:name.")] = None,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check a prior: density, sampler and gradients. Exit code 0: all pass; 1: some fail; 2: it cannot be checked."""
    from priory.workbench.cli.commands.check import check_target

    check_target(target, encoder, reference, single, seed, as_json)
