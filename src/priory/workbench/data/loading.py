"""`load_dataset` loads a `Dataset` from an embedded data set, a file, or an object such as a data frame."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from priory._support.optional import require
from priory.workbench.data.binarize import binarized, unit_scale
from priory.workbench.data.dataset import Dataset, column_order, require_as_many
from priory.workbench.data.embedded import EMBEDDED
from priory.workbench.data.fingerprint import Recorded, fingerprint_of
from priory.workbench.data.reading.matrices import compact_matrix, is_sparse, is_stored
from priory.workbench.data.reading.readers import is_to_stream, read_table, require_no_text_options
from priory.workbench.data.reading.table import Claims, Selection, Table, select
from priory.workbench.data.reading.text_options import TextOptions
from priory.workbench.data.rows_to_load import RowsToLoad, Values
from priory.workbench.data.shards import name_of, origin_of, parquet_or_file
from priory.workbench.data.splits import consecutive, random_split, recorded_split, stratified_split, with_validation
from priory.workbench.data.summary import summarize

if TYPE_CHECKING:  # reading and checking files needs no torch
    from priory.rows import RowsLike

OPTIONAL = ("labels", "ids", "drop", "layer")

# Tomczak, Deep Generative Modeling (2022): the first 1000 of scikit-learn's digits train, the next 350 validate.
_BOOK_SPLIT = {"train": 1000, "valid": 350, "test": 447}


def load_dataset(
    source: str | Path | RowsLike,
    *,
    labels: Sequence[str] = (),
    conditions: Sequence[str] = (),
    quantities: Sequence[str] = (),
    ids: str | None = None,
    drop: Sequence[str] = (),
    layer: str | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    missing: Sequence[str] = (),
    split: Literal["given", "shuffled"] = "given",
    split_seed: int = 0,
    splits: Mapping[str, Sequence[int] | np.ndarray] | None = None,
    recorded: Recorded | None = None,
    binarize: Literal["none", "dynamic", "static"] = "none",
    binarize_scale: float | None = None,
    optional: Collection[str] = (),
    known_columns: Sequence[str] = (),
    precise: bool = False,
    stream: Literal["auto", "yes", "no"] = "auto",
) -> Dataset:
    """Load an embedded data set, a file, .parquet files, or an object that contains data.

    Args:
        source: 'digits'; a file of one of `FORMATS`: .npy, .npz, .csv, .tsv, .parquet, .h5ad, IDX (-ubyte), ...; a
            folder of .parquet files, or a pattern such as 'shards/*.parquet'; a zarr folder; a data frame, an array
            or gray images, a sparse matrix, AnnData, or other rows for `priory.rows.as_rows`. Rows of objects are read
            into memory.
        labels: columns to remove from the matrix and keep as labels; the first one is the main label.
        conditions: columns to remove from the matrix, on which the model conditions; they are labels too.
        quantities: conditions that are quantities although their values are integers.
        ids: a column of row names, to remove from the matrix.
        drop: columns to leave out.
        layer: the layer of an .h5ad file or of AnnData to read instead of X.
        header: whether the first line of a table of text contains names; None decides by the lines below.
        delimiter: the character between fields of a table of text; None detects it.
        decimal: the decimal mark of a table of text, '.' or ','; None detects it.
        missing: words for a missing cell of a table of text, such as '?', besides empty cells, NA, nan, null, ...
        split: 'given' is the file's own split or the book's (digits), else a seeded 80/10/10; 'shuffled' is a seeded
            split of the same sizes, stratified by the first label if there is one.
        split_seed: seed of the 80/10/10 and of the shuffled split.
        splits: recorded row indices by split, which override `split`.
        recorded: the data that a run was fitted to; other rows are refused, and columns are put into the run's order.
        binarize: 'dynamic' keeps means in [0, 1] for training rows and draws validation and test rows once; 'static'
            draws all rows once.
        binarize_scale: the value that becomes mean 1, such as that of the training data; None derives it from these
            data. Not used without `binarize`.
        optional: the arguments, among 'labels', 'ids', 'drop' and 'layer', whose columns the source may lack. If so,
            labels and dropped columns are left out, rows have the file's own names or numbers, and X is read.
        known_columns: names that a model expects; a first line of text that contains them all is a header.
        precise: keep float64, also in batches. Otherwise batches are float32, and float64 stays in memory only if
            float32 would merge values of a column.

    Returns:
        The data set with its values in native units.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the library for the format is missing; the message names the extra to install.
        ValueError: the file is damaged or has other content, or an argument does not fit it.
        NotEnoughMemoryError: the data would not fit into memory.

    Example:
        >>> shuffled = load_dataset("digits", split="shuffled", split_seed=1)
        >>> [len(shuffled.splits[name]) for name in ("train", "valid", "test")]
        [1000, 350, 447]
    """
    _check_choice("split", split, ("given", "shuffled"))
    _check_choice("binarize", binarize, ("none", "dynamic", "static"))
    _check_choice("stream", stream, ("auto", "yes", "no"))
    if split_seed < 0:
        raise ValueError(f"split_seed: expected an integer from 0 up, got {split_seed}")
    for option in _names("optional", optional):
        _check_choice("optional", option, OPTIONAL)
    claims = Claims(
        tuple(dict.fromkeys(_names("labels", labels))),
        ids,
        tuple(_names("drop", drop)),
        layer,
        frozenset(optional),
        tuple(dict.fromkeys(_names("conditions", conditions))),
    )
    if unknown := set(_names("quantities", quantities)) - set(claims.conditions):
        raise ValueError(f"quantities: expected names of conditions, got {', '.join(sorted(unknown))}")
    text = TextOptions(header, delimiter, decimal, tuple(_names("missing", missing)), tuple(known_columns))
    path, origin, table = _read(source, claims, text, stream)
    selection = select(table, claims, origin)
    if recorded is not None:
        selection = _in_order(selection, recorded.columns, origin)
        recorded.require_number(selection.matrix.shape[0], origin)
    parts = _splits(table, selection, split, split_seed, splits)
    rows = RowsToLoad(selection, parts, origin, precise, recorded, binarize, binarize_scale)
    if path is not None and is_stored(selection.matrix):
        from priory.workbench.data.streaming import streamed  # imports torch

        values = streamed(rows, path)
    else:
        values = _in_memory(rows)
    return Dataset(
        name=origin if path is None else name_of(path),
        splits=parts,
        ids=selection.ids,
        labels=selection.labels,
        conditions=claims.conditions,
        quantities=tuple(quantities),
        columns=selection.columns,
        image_shape=selection.image_shape,
        source=path,
        dynamic_binarization=binarize == "dynamic",
        notes=selection.notes,
        precise=precise,
        numbered=selection.numbered,
        **values._asdict(),
    )


def _in_memory(rows: RowsToLoad) -> Values:
    selection, recorded = rows.selection, rows.recorded
    x = compact_matrix(selection.matrix, rows.origin, precise=rows.precise)
    x = x if is_sparse(x) else np.ascontiguousarray(x)
    if recorded is not None:
        recorded.require_same(x, selection.ids, rows.origin)
    fingerprint = recorded.fingerprint if recorded is not None else fingerprint_of(x, selection.ids)
    scale = None if rows.binarize == "none" else unit_scale(summarize(x), rows.binarize_scale)
    if scale is not None:
        x = binarized(x, scale, rows.means)
    return Values(x, scale, fingerprint)


def _read(
    source: str | Path | RowsLike, claims: Claims, text: TextOptions, stream: str
) -> tuple[Path | None, str, Table]:
    """Return the path of the source (None for embedded data and objects), its name in messages, and its content."""
    if isinstance(source, str | Path) and str(source) not in EMBEDDED:
        path, files, origin = Path(source), parquet_or_file(source), origin_of(source)
        if not is_to_stream(path, files, stream):
            return path, origin, read_table(path, claims.names(), text, files)
        require_no_text_options(text, origin)
        from priory.workbench.data.reading.stored import stored_table  # imports torch

        return path, origin, stored_table(path, files)
    if isinstance(source, str | Path):
        require_no_text_options(text, str(source))
        return None, str(source), _digits()
    from priory.workbench.data.reading.objects import table_of  # imports torch

    origin = type(source).__name__
    require_no_text_options(text, origin)
    return None, origin, table_of(source)


def _in_order(selection: Selection, columns: tuple[str, ...], origin: str) -> Selection:
    """Put columns into the order of a run before values are drawn, because a draw depends on the column's position."""
    if selection.columns == columns:
        return selection
    require_as_many(selection.columns, len(columns), origin)
    matrix = selection.matrix[:, column_order(selection.columns, columns, origin)]
    image_shape = selection.image_shape if len(columns) == len(selection.columns) else None
    return replace(selection, matrix=matrix, columns=columns, image_shape=image_shape)


def _splits(
    table: Table, selection: Selection, split: str, seed: int, recorded: Mapping[str, Sequence[int] | np.ndarray] | None
) -> dict[str, np.ndarray]:
    rows = selection.matrix.shape[0]
    if recorded is not None:
        return recorded_split(recorded, rows)
    given = random_split(rows, seed) if table.splits is None else with_validation(table.splits, seed)
    if split == "given":
        return given
    sizes = [len(index) for index in given.values()]
    main = next(iter(selection.labels.values()), None)
    return random_split(rows, seed, sizes) if main is None else stratified_split(main, seed, sizes)


def _digits() -> Table:
    bunch = require("sklearn.datasets", "tables", "the embedded digits").load_digits()
    return Table(
        bunch.data.astype(np.uint8),
        side={"digit": bunch.target.astype(np.int64)},
        default_labels=("digit",),
        splits=consecutive(_BOOK_SPLIT),
        image_shape=(8, 8),
    )


def _check_choice(argument: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(choices)}, got {value!r}")


def _names(argument: str, value: Collection[str]) -> Collection[str]:
    if isinstance(value, str):
        raise TypeError(f"{argument}: expected a list of names, got the text {value!r}; write [{value!r}]")
    return value
