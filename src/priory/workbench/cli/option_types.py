"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated, Any

import typer

DataArgument = Annotated[
    str | None,
    typer.Argument(metavar="DATA", help="A file (.npy .npz .csv .tsv .parquet .h5ad, IDX) or an embedded set: digits."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `priory fit --out RUN` leaves it.")]
Labels = Annotated[list[str] | None, typer.Option("--labels", help="A column that is a label, not data; repeatable.")]
Ids = Annotated[str | None, typer.Option("--ids", help="The column that names the rows.")]
Drop = Annotated[list[str] | None, typer.Option("--drop", help="A column to leave out; repeatable.")]
Layer = Annotated[str | None, typer.Option("--layer", help="The layer of an .h5ad file to read, instead of X.")]
Samples = Annotated[int, typer.Option("--samples", min=1, help="Importance samples per row for the likelihood.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the noise.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda: where to compute.")]
Report = Annotated[bool, typer.Option("--report/--no-report", help="Write the page, report.html.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting, as in config.json: training.learning_rate=2e-3."),
]


def reading(labels: list[str] | None, ids: str | None, drop: list[str] | None) -> dict[str, Any]:
    """How to read a table, as far as the user said."""
    given = {"labels": tuple(labels) if labels else None, "ids": ids, "drop": tuple(drop) if drop else None}
    return {name: value for name, value in given.items() if value is not None}
