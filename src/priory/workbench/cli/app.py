"""The commands and their options, as the user types them; what they do is in `commands`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from priory.priors import PRIORS
from priory.workbench.cli.gtm_app import gtm_app
from priory.workbench.cli.option_types import (
    DataArgument,
    Device,
    Drop,
    Ids,
    Labels,
    Layer,
    Report,
    RunArgument,
    Samples,
    Seed,
    Set,
    reading,
)
from priory.workbench.cli.rows_app import ROW_COMMANDS
from priory.workbench.cli.terminal import console

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Variational autoencoders with learned priors: from a data file to a trained model, its likelihood and its "
    "pictures.\n\nStart with [bold]priory fit digits --prior gtm-vamp --out runs/first[/bold].",
)

app.add_typer(gtm_app, name="gtm")

DATA, MODEL, TRAINING, OUTPUT = "Data", "Model", "Training", "Output"


@app.command()
def fit(
    data: DataArgument = None,
    prior: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(PRIORS)}; default standard.", rich_help_panel=MODEL)
    ] = None,
    latent_dim: Annotated[
        int | None, typer.Option(help="L; default 2, which can be drawn. 16 or more fit better.", rich_help_panel=MODEL)
    ] = None,
    components: Annotated[
        int | None, typer.Option(help="K of mog and vamp; default 64.", rich_help_panel=MODEL)
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="NxN", help="Grid of gtm, gtm-vamp: 8x8 (the default) or just 8; 5x5x5.", rich_help_panel=MODEL
        ),
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(
            help="bernoulli, categorical, gaussian, discretized-logistic, negative-binomial; default: what fits.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    network: Annotated[str | None, typer.Option(help="mlp, gated or conv; default mlp.", rich_help_panel=MODEL)] = None,
    epochs: Annotated[int | None, typer.Option(help="At most; default 500.", rich_help_panel=TRAINING)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default 100.", rich_help_panel=TRAINING)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default 1e-3.", rich_help_panel=TRAINING)] = None,
    warmup: Annotated[
        str | None,
        typer.Option(help="KL warm-up: a fraction of the run or steps; default 0.1.", rich_help_panel=TRAINING),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without a better ELBO; default 50.", rich_help_panel=TRAINING)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Default 0.", rich_help_panel=TRAINING)] = None,
    precision: Annotated[
        str | None, typer.Option(help="32-true (the default), bf16-mixed or 16-mixed.", rich_help_panel=TRAINING)
    ] = None,
    accelerator: Annotated[
        str | None, typer.Option(help="auto (the default), cpu, gpu, mps: Lightning's.", rich_help_panel=TRAINING)
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="How many (1), or which: Lightning's.", rich_help_panel=TRAINING)
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="auto (the default) or ddp: Lightning's.", rich_help_panel=TRAINING)
    ] = None,
    labels: Labels = None,
    ids: Ids = None,
    drop: Drop = None,
    layer: Layer = None,
    split: Annotated[
        str | None,
        typer.Option(help="given (the file's own, else 80/10/10; the default) or shuffled.", rich_help_panel=DATA),
    ] = None,
    split_seed: Annotated[int | None, typer.Option(help="Default 0.", rich_help_panel=DATA)] = None,
    binarize: Annotated[
        str | None, typer.Option(help="none, dynamic or static: gray values as coin flips.", rich_help_panel=DATA)
    ] = None,
    assignments: Set = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; default runs/DATA-PRIOR.", rich_help_panel=OUTPUT)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in --out; DATA and options are its own.", rich_help_panel=OUTPUT
        ),
    ] = False,
    evaluate: Annotated[
        bool, typer.Option(help="End with what `priory evaluate` does.", rich_help_panel=OUTPUT)
    ] = True,
    samples: Samples = 512,
    page: Report = True,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard too.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Train a VAE on DATA, write a run folder, evaluate it and draw its pictures."""
    from priory.workbench.cli.commands.fit import fit_run

    given = {
        "data.source": data,
        "data.labels": labels,
        "data.ids": ids,
        "data.drop": drop,
        "data.layer": layer,
        "data.split": split,
        "data.split_seed": split_seed,
        "data.binarize": binarize,
        "model.prior": prior,
        "model.latent_dim": latent_dim,
        "model.components": components,
        "model.likelihood": likelihood,
        "model.network": network,
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.learning_rate": learning_rate,
        "training.warmup": warmup,
        "training.patience": patience,
        "training.precision": precision,
        "training.accelerator": accelerator,
        "training.devices": devices,
        "training.strategy": strategy,
        "seed": seed,
    }
    fit_run(given, grid, assignments or [], out, resume, samples if evaluate else None, tensorboard, page)


@app.command()
def evaluate(
    run: RunArgument,
    data: DataArgument = None,
    samples: Samples = 512,
    seed: Seed = 0,
    device: Device = "auto",
    labels: Labels = None,
    ids: Ids = None,
    drop: Drop = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The ELBO, the importance-weighted NLL and more, with standard errors, on the run's test rows or on DATA."""
    from priory.workbench.cli.commands.evaluate import evaluate_run

    evaluate_run(run, data, samples, seed, device, reading(labels, ids, drop), as_json)


for _name, _command in ROW_COMMANDS.items():
    app.command(_name)(_command)


@app.command()
def report(run: RunArgument, device: Device = "auto") -> None:
    """Write the run's page again, RUN/report.html: numbers, pictures and the interactive map."""
    from priory.workbench.cli.commands.report import report_run

    report_run(run, device)


@app.command()
def refit(
    run: RunArgument,
    prior: Annotated[str, typer.Option(help=f"The new prior: one of {', '.join(PRIORS)}.")],
    out: Annotated[Path | None, typer.Option(help="The new run folder; default RUN-PRIOR.")] = None,
    components: Annotated[int | None, typer.Option(help="K of mog and vamp; default the run's.")] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="NxN", help="Grid of gtm, gtm-vamp: 10x10, 5x5x5; default the run's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most; default 500. 0: no gradient steps.")] = None,
    samples: Samples = 512,
    seed: Seed = 0,
    device: Device = "auto",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="model.* of the prior, refit.*: refit.learning_rate=1e-3."),
    ] = None,
) -> None:
    """Fit another prior to a trained encoder and decoder, which stay as they are; says what it changed."""
    from priory.workbench.cli.commands.refit import refit_run

    given = {"model.prior": prior, "model.components": components, "refit.epochs": epochs, "seed": seed}
    refit_run(run, given, grid, assignments or [], out, samples, device)


@app.command()
def compare(
    data: DataArgument = "digits",
    priors: Annotated[str, typer.Option(help="Names with commas, or all.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Runs per prior.")] = 5,
    samples: Samples = 512,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs, default runs/DATA-compare; what is finished there is not run again."),
    ] = None,
    page: Report = True,
    baseline: Annotated[
        str | None,
        typer.Option(help="The prior that the others are compared with; default standard, or else the first."),
    ] = None,
    latent_dim: Annotated[int | None, typer.Option(help="L; default 2.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most; default 500.")] = None,
    labels: Labels = None,
    ids: Ids = None,
    drop: Drop = None,
    assignments: Set = None,
) -> None:
    """Priors side by side: means over seeds, differences to a baseline on the same rows, pictures."""
    from priory.workbench.cli.commands.compare import compare_runs

    given = {"data.source": data, "model.latent_dim": latent_dim, "training.epochs": epochs}
    given |= {f"data.{key}": value for key, value in reading(labels, ids, drop).items()}
    compare_runs(given, assignments or [], priors, baseline, seeds, samples, out, page)


@app.command()
def priors() -> None:
    """What there is, in a sentence each, with its source."""
    table = Table("name", "p(z)", "source", box=None, pad_edge=False)
    for name, kind in PRIORS.items():
        table.add_row(name, kind.summary, kind.reference)
    console.print(table)


@app.command()
def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE.MODULE:NAME",
            help="A prior, or a function without arguments (or a class) that makes one.",
        ),
    ],
    encoder: Annotated[
        str | None, typer.Option(help="The encoder that it is called with, or what makes it: package.module:name.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="A distribution that its density must equal: package.module:name.")
    ] = None,
    single: Annotated[str | None, typer.Option(help="The same prior with one component: package.module:name.")] = None,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Which promises a prior keeps. Exit code 0: all; 1: not all; 2: it could not be checked."""
    from priory.workbench.cli.commands.check import check_target

    check_target(target, encoder, reference, single, seed, as_json)
