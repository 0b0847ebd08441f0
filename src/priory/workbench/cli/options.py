"""Arguments and options of the commands. Options of settings get type, help and default from the setting."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from priory.workbench.data import TEXT_OPTIONS
from priory.workbench.data.embedded import EMBEDDED
from priory.workbench.data.shards import parquet_or_file, shards_of
from priory.workbench.runs.config import kind_of
from priory.workbench.settings.model import REGISTRIES, ModelSettings
from priory.workbench.settings.run import DataSettings

Command = Callable[..., None]
Given = dict[str, Any]  # values of the options on the command line, by the path of their setting


def _checked_data(data: str | None) -> str | None:
    if data is not None and data not in EMBEDDED:
        parquet_or_file(os.path.realpath(data))
    return data


def _checked_rows(data: str | None) -> str | None:
    if data is not None and data not in EMBEDDED:
        shards_of(os.path.realpath(data))
    return data


def _checked_run(path: Path) -> Path:
    kind_of(path)
    return path


# Callbacks check DATA and RUN before slow imports.
DataArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        callback=_checked_data,
        help="A file (.npy .npz .csv .tsv .parquet .h5ad .zarr, IDX), .parquet files ('shards/*.parquet'), or digits.",
    ),
]
RowsArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        callback=_checked_rows,
        help="A file (.npy .npz .csv .tsv .parquet .h5ad .zarr, IDX), a folder of .parquet files, digits; or parts, "
        "such as 'shards/*.parquet', each with its own output in the folder --out.",
    ),
]
RunArgument = Annotated[
    Path,
    typer.Argument(metavar="RUN", callback=_checked_run, help="A run folder, such as `priory fit --out RUN` writes."),
]
Samples = Annotated[
    int, typer.Option("--samples", min=1, max=10**6, help="Importance samples per row for the likelihood.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the noise.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N|mps", help="Device of the computation.")]
Report = Annotated[bool, typer.Option("--report/--no-report", help="Write the page, report.html.")]
Copy = Annotated[bool, typer.Option("--copy", help="Write into a copy of DATA (csv, tsv, h5ad).")]
SafeCsv = Annotated[
    bool, typer.Option("--safe-csv", help="In .csv and .tsv, put an apostrophe before text that begins like a formula.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        max=4096,
        help="Number of processes that share the parts of DATA.",
        rich_help_panel="DATA in parts",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="A Dask cluster that shares the parts instead: tcp://host:8786, or the scheduler's file.",
        rich_help_panel="DATA in parts",
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(
        metavar="NxN",
        help="Grid of gtm and gtm-vamp: 10x10 (or 10), 5x5x5; default: from the number of rows.",
        rich_help_panel="Model",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any setting, as in config.json: training.learning_rate=2e-3."),
]


def settings_options(
    kind: type[BaseModel], panels: Mapping[str, Sequence[str]], *, flags: Mapping[str, str] | None = None
) -> Callable[[Command], Command]:
    """Replace the parameter `given` of a command by one option for each of these settings.

    The option `--latent-dim` sets `model.latent_dim`. The command gets the values of its options, by path, as `given`.

    Args:
        kind: the class of the tree of settings.
        panels: paths of settings by panel of the help text.
        flags: flags that differ from the setting's name: `--standardize/--raw`.
    """
    options = {
        path: _parameter(path, _field(kind, path), panel, (flags or {}).get(path))
        for panel, paths in panels.items()
        for path in paths
    }

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += options.values() if parameter.name == "given" else [parameter]

        @wraps(command)
        def with_given(**values: Any) -> None:
            given = {path: values.pop(option.name) for path, option in options.items()}
            given = {path: tuple(value) if isinstance(value, list) else value for path, value in given.items()}
            command(given={path: value for path, value in given.items() if value not in (None, ())}, **values)

        with_given.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_given.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        with_given.settings_kind = kind  # type: ignore[attr-defined]
        return with_given

    return decorate


def _parameter(path: str, field: FieldInfo, panel: str, flag: str | None) -> inspect.Parameter:
    name, kind, text = path.rpartition(".")[2], _type(field.annotation), field.description or ""
    repeatable = "; repeatable" if kind == list[str] else ""
    default = f"; default {field.default}" if field.default not in (None, ()) else ""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    option = typer.Option(
        flag or f"--{name.replace('_', '-')}",
        help=f"{text[:1].upper()}{text[1:]}{repeatable}{default}.",
        metavar="|".join(choices) or ("NAME" if repeatable else None),
        rich_help_panel=panel,
    )
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind | None, option]
    )


def _type(annotation: Any) -> Any:
    """Return the type that typer parses: text if the setting accepts several types, which then parses it itself."""
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return list[str]
    if get_origin(annotation) is Literal:
        return str
    kinds = {_type(argument) for argument in get_args(annotation) if argument is not NoneType} or {annotation}
    return kinds.pop() if len(kinds) == 1 else str


def _field(kind: type[BaseModel], path: str) -> FieldInfo:
    """Return the field of a setting; if parts own the setting, the field of the first such part."""
    *parents, name = path.split(".")
    for parent in parents:
        kind = kind.model_fields[parent].annotation  # type: ignore[assignment]
    if kind is not ModelSettings or name in kind.model_fields:
        return kind.model_fields[name]
    parts = (part for registry in REGISTRIES.values() for part in registry.loaded().values())
    return next(part.settings.model_fields[name] for part in parts if name in part.settings.model_fields)


# Settings for reading a table, and the flag that differs from its setting's name.
TABLE = ("labels", "ids", "drop", *TEXT_OPTIONS)
HEADER = {"header": "--header/--no-header"}
# Options for reading a new table, not that of the run. The command gets them in its argument `given`.
reading_options = settings_options(DataSettings, {"Data": TABLE}, flags=HEADER)
