"""The options of the commands that compute something for each row or draw new rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from priory.workbench.cli.options import (
    Copy,
    Device,
    Given,
    RowsArgument,
    RunArgument,
    SafeCsv,
    Samples,
    Scheduler,
    Seed,
    Workers,
    reading_options,
)


def sample(
    run: RunArgument,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=10**15, help="Number of samples.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="Output file: .npz .csv .tsv .parquet; default samples.npz.")] = None,
    seed: Seed = 0,
    mean: Annotated[bool, typer.Option("--mean", help="Write E[x|z] instead of draws from p(x|z).")] = False,
    given: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="The value of a condition, such as class=3; repeatable."),
    ] = None,
    device: Device = "auto",
    safe_csv: SafeCsv = False,
) -> None:
    """Draw new data: z from the prior, x from the decoder."""
    from priory.workbench.cli.commands.rows import sample_run

    sample_run(run, number, out, seed, mean, given or [], device, safe_csv)


@reading_options
def embed(
    run: RunArgument,
    given: Given,
    data: RowsArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output: .npz .csv .tsv .parquet .h5ad; default embedding.npz. For parts: a folder, or 'DIR/*.csv'."
        ),
    ] = None,
    copy: Copy = False,
    device: Device = "auto",
    safe_csv: SafeCsv = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Write each row's posterior mean and scale, and with a grid prior its place on the map."""
    from priory.workbench.cli.commands.rows import embed_run

    embed_run(run, data, out, copy, device, given, safe_csv, workers, scheduler)


@reading_options
def map_rows(
    run: RunArgument,
    given: Given,
    data: RowsArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output: .csv .tsv .npz .parquet .h5ad; default map.csv. For parts: a folder, or 'DIR/*.csv'."
        ),
    ] = None,
    copy: Copy = False,
    figure: Annotated[
        Path | None,
        typer.Option(help="The picture of the rows on the map: .png .svg .pdf; default: --out with the suffix .png."),
    ] = None,
    predict: Annotated[
        list[str] | None, typer.Option(help="A label of the run's data to predict for each row; repeatable.")
    ] = None,
    samples: Samples = 64,
    device: Device = "auto",
    safe_csv: SafeCsv = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Write each row's place on the grid of the prior, its spread, node and log-likelihood; draw a picture."""
    from priory.workbench.cli.commands.map import map_run

    map_run(run, data, out, copy, figure, predict or [], samples, device, given, safe_csv, workers, scheduler)


@reading_options
def score(
    run: RunArgument,
    given: Given,
    data: RowsArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output: .csv .tsv .npz .parquet .h5ad; default scores.csv. For parts: a folder, or 'DIR/*.csv'."
        ),
    ] = None,
    samples: Samples = 512,
    seed: Seed = 0,
    copy: Copy = False,
    device: Device = "auto",
    safe_csv: SafeCsv = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Write each row's estimated log-likelihood in nats; the lowest are outliers."""
    from priory.workbench.cli.commands.rows import score_run

    score_run(run, data, out, samples, seed, copy, device, given, safe_csv, workers, scheduler)


@reading_options
def impute(
    run: RunArgument,
    given: Given,
    data: RowsArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Output: .csv .tsv .npz .parquet; default imputed.csv. For parts: a folder, or 'DIR/*.csv'."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, max=10**6, help="Steps of the sampler for a VAE; a classical GTM needs none.")
    ] = 1000,
    draw: Annotated[
        bool, typer.Option("--draw", help="Write a draw of each missing cell, with its spread, instead of the mean.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    safe_csv: SafeCsv = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Fill in missing cells given the observed cells of the same row."""
    from priory.workbench.cli.commands.rows import impute_run

    impute_run(run, data, out, steps, draw, seed, device, given, safe_csv, workers, scheduler)


ROW_COMMANDS: dict[str, Callable[..., None]] = {
    "sample": sample,
    "embed": embed,
    "map": map_rows,
    "score": score,
    "impute": impute,
}
