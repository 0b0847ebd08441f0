"""Output files: one row per datum, with its id; or copies of the data with new columns."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from priory._support.cells import as_text
from priory._support.files import not_a_folder, remove_leftovers, replacing
from priory._support.locking import sole_writer
from priory._support.messages import first_few
from priory._support.optional import require
from priory.workbench.data.reading.delimited import read_delimited
from priory.workbench.data.reading.layout import Layout, layout_of, open_text
from priory.workbench.data.reading.table import as_values
from priory.workbench.data.reading.text_options import TextOptions

OUTPUT_FORMATS = (".npz", ".csv", ".tsv", ".parquet", ".h5ad")
_DELIMITED = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_COPIED = {
    ".csv": _DELIMITED,
    ".tsv": _DELIMITED,
    ".h5ad": (".h5ad",),
}  # endings of the files that an output with this ending can copy
_FORMULAS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # also the full-width forms of = + - @
_LIBRARIES = {".parquet": ("pyarrow", "tables"), ".h5ad": ("anndata", "anndata")}

ROWS_AT_ONCE = 10_000  # number of rows that are text in memory at once
Columns = dict[str, np.ndarray]


def write_rows(
    path: str | Path,
    *,
    ids: Sequence[str] | np.ndarray,
    columns: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray] | None = None,
    template: str | Path | None = None,
    ids_column: str | None = None,
    text: TextOptions | None = None,
    safe: bool = False,
) -> None:
    """Write one row per datum, to a temporary file in the same folder that is renamed when complete.

    Args:
        path: .npz (every array under its name, no pickles), .csv, .tsv or .parquet (an array of two axes becomes
            name_0, name_1, ...), or .h5ad (with a template). A missing folder is created.
        ids: one per row; written as the column 'id' ('ids' in .npz), or used to match the rows of a template.
        columns: one value per row, numbers or text.
        arrays: one row per datum; in .npz any array.
        template: for .csv and .tsv, a file to copy with new columns; for .h5ad, a file to copy with `priory_<name>` in
            obs and `X_priory_<name>` in obsm.
        ids_column: the template's column of ids; rows of the template whose id is not in `ids` stay empty. If None,
            `ids` must be all row names, or all row numbers, of a .csv or .tsv, in order; for an .h5ad they are looked
            up in obs_names.
        text: options for reading the template if it is a .csv or .tsv, as in `load_dataset`.
        safe: in .csv and .tsv, put an apostrophe before text that a spreadsheet would read as a formula.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     out = Path(folder) / "codes.csv"
        ...     write_rows(out, ids=["a", "b"], columns={"k": np.array([3, 1])}, arrays={"z": np.eye(2)})
        ...     print(out.read_text())
        id,k,z_0,z_1
        a,3,1.0,0.0
        b,1,0.0,1.0
    """
    path, template = Path(path), None if template is None else Path(template)
    names = as_text(ids)
    values = {name: as_values(column) for name, column in columns.items()}
    extra = {name: np.asarray(array) for name, array in (arrays or {}).items()}
    check_output(path, template, safe=safe)
    _check(path, template, names, values, extra)
    suffix = path.suffix.lower()
    write: Callable[[Path, np.ndarray, Columns, Columns], None]
    if template is None:
        write = {".npz": _write_npz, ".parquet": _write_parquet}.get(suffix, partial(_write_delimited, safe=safe))
    elif suffix == ".h5ad":
        write = partial(_write_h5ad, template=template, ids_column=ids_column)
    else:
        write = partial(_write_copy, template=template, ids_column=ids_column, text=text, safe=safe)
    with ExitStack() as held:
        with suppress(OSError):  # if another process writes into the folder, the temporary files may belong to it
            held.enter_context(sole_writer(path.parent))
            remove_leftovers(path.parent, of=path)
        with replacing(path) as temporary:
            write(temporary, names, values, extra)


def check_output(path: str | Path, template: str | Path | None = None, *, safe: bool = False) -> None:
    """Refuse an output file or a template that `write_rows` would refuse, before the work begins."""
    path, template = Path(path), None if template is None else Path(template)
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        raise ValueError(
            f"--out: expected a name that ends in {', '.join(OUTPUT_FORMATS)}, got {path.name!r}; rename it"
        )
    if path.is_dir():
        raise ValueError(f"--out: expected a file, got the folder {str(path)!r}; name a file in it")
    if blocking := not_a_folder(path.parents):
        raise ValueError(f"--out: expected a folder, got the file {str(blocking)!r}; name another folder")
    if safe and suffix not in (".csv", ".tsv"):
        raise ValueError(f"--safe-csv: expected an --out that ends in .csv or .tsv, got {path.name!r}; leave it out")
    _check_template(path, suffix, template)
    if suffix in _LIBRARIES:
        library, extra = _LIBRARIES[suffix]
        require(library, extra, f"writing {suffix} files")


def _check_template(path: Path, suffix: str, template: Path | None) -> None:
    if template is None:
        if suffix == ".h5ad":
            raise ValueError(
                f"--out: expected an .h5ad file to copy for {path.name!r}, got none; choose another ending"
            )
        return
    if suffix == ".h5ad" and not template.name.lower().endswith(_COPIED[suffix]):
        raise ValueError(
            f"--out: {path.name!r} would be a copy of the data, as .h5ad always is, so it expects .h5ad data, "
            f"got {template.name!r}; choose .csv, .tsv, .npz or .parquet"
        )
    if not template.name.lower().endswith(_COPIED.get(suffix, ())):
        raise ValueError(
            f"--copy: expected .csv or .tsv for the data and --out, or .h5ad for both, got data {template.name!r} "
            f"and --out {path.name!r}; leave --copy out, or change the ending of --out"
        )
    if not template.is_file():
        raise FileNotFoundError(f"--copy: expected an existing file to copy, got {str(template)!r}; check the spelling")
    if path.resolve() == template.resolve():
        raise ValueError(f"--out: expected another file than the one to copy, got {str(path)!r}; name a new file")


def _check(path: Path, template: Path | None, ids: np.ndarray, columns: Columns, arrays: Columns) -> None:
    """Refuse lengths, shapes and names that are inconsistent."""
    suffix = path.suffix.lower()
    for name, array in (columns if suffix == ".npz" else columns | arrays).items():
        if array.ndim == 0 or len(array) != len(ids):
            raise ValueError(f"{name}: expected {len(ids)} rows, one per id, got shape {array.shape}")
    for name, array in columns.items():
        if array.ndim != 1:
            raise ValueError(f"columns[{name!r}]: expected one value per row, got shape {array.shape}; use arrays")
    for name, array in arrays.items():
        if array.dtype.kind not in "biufUS":
            raise ValueError(f"arrays[{name!r}]: expected numbers or text, got dtype {array.dtype}; convert it")
    written = list(columns)
    for name, array in arrays.items():
        written += [name] if suffix in {".npz", ".h5ad"} else _flat({}, {name: array})
    id_name = "ids" if suffix == ".npz" else "id"
    if template is None and id_name in written:
        raise ValueError(
            f"columns, arrays: expected names other than {id_name!r}, the name of the ids in {path.name!r}; rename it"
        )
    if double := sorted({name for name in written if written.count(name) > 1}):
        raise ValueError(f"columns, arrays: expected different names, got {', '.join(double)} twice; rename one")


def _write_npz(path: Path, ids: np.ndarray, columns: Columns, arrays: Columns) -> None:
    # numpy.savez cannot store an array named 'file', and writes the current time into the archive
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in {"ids": ids, **columns, **arrays}.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _flat(columns: Columns, arrays: Columns) -> Columns:
    """Flatten arrays of more than one axis to columns name_0, name_1, ..."""
    flat = dict(columns)
    for name, array in arrays.items():
        if array.ndim == 1:
            flat[name] = array
        else:
            wide = array.reshape(len(array), int(np.prod(array.shape[1:])))
            flat |= {f"{name}_{i}": wide[:, i] for i in range(wide.shape[1])}
    return flat


def _cells(values: np.ndarray, decimal: str = ".") -> list[str]:
    """Convert numbers to the shortest text that reads back as the same number, and missing ones to empty cells."""
    text: list[str] = values.astype(str).tolist()
    return ["" if cell == "nan" else cell.replace(".", decimal) for cell in text] if values.dtype.kind == "f" else text


def _write_delimited(path: Path, ids: np.ndarray, columns: Columns, arrays: Columns, safe: bool) -> None:
    table = _flat({"id": ids, **columns}, arrays)
    parts = (slice(start, start + ROWS_AT_ONCE) for start in range(0, len(ids), ROWS_AT_ONCE))
    lines = (zip(*(_cells(values[part]) for values in table.values()), strict=True) for part in parts)
    _write_text(
        path, "\t" if path.suffix.lower() == ".tsv" else ",", chain([[*table]], chain.from_iterable(lines)), safe
    )


def _write_text(path: Path, delimiter: str, rows: Iterable[Sequence[str]], safe: bool) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerows([_no_formula(cell) for cell in row] if safe else row for row in rows)


def _no_formula(cell: str) -> str:
    """Put an apostrophe before text that a spreadsheet would read as a formula; numbers do not change.

    Source: OWASP, CSV Injection.

    >>> _no_formula("=1+1"), _no_formula("-1.5"), _no_formula("@SUM(A1)"), _no_formula("bee")
    ("'=1+1", '-1.5', "'@SUM(A1)", 'bee')
    """
    if not cell.startswith(_FORMULAS):
        return cell
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return f"'{cell}"
    return cell


def _write_parquet(path: Path, ids: np.ndarray, columns: Columns, arrays: Columns) -> None:
    arrow = require("pyarrow", "tables", "writing .parquet files")
    parquet = require("pyarrow.parquet", "tables", "writing .parquet files")
    table = _flat({"id": ids, **columns}, arrays)
    plain = {name: v.tolist() if v.dtype.kind == "U" else np.ascontiguousarray(v) for name, v in table.items()}
    parquet.write_table(arrow.table(plain), path)


def _write_copy(
    path: Path,
    ids: np.ndarray,
    columns: Columns,
    arrays: Columns,
    template: Path,
    ids_column: str | None,
    text: TextOptions | None,
    safe: bool,
) -> None:
    """Write the template's cells unchanged, then the new columns, with the template's decimal mark."""
    layout, decimal = layout_of(template, text), read_delimited(template, (), text).decimal or "."
    with open_text(template, layout.encoding, layout.lines_before_data) as file:
        rows = csv.reader(file, delimiter=layout.delimiter, skipinitialspace=True)
        body = [row for row in rows if row]
    names = list(layout.names)
    new = _flat(columns, arrays)
    if taken := sorted(set(new) & set(names)):
        raise ValueError(f"--copy: expected no column named {', '.join(taken)} in {template.name}; rename it there")
    filled = [[*row, *[""] * (len(names) - len(row))] for row in body]
    own = _own_ids(layout, filled)
    if ids_column is not None and (ids_column in names or list(ids) != own):
        _require_column(ids_column, names, template.name)
        place = names.index(ids_column)
        positions = _positions(ids, [row[place] for row in filled], f"column {ids_column!r} of {template.name}")
    else:
        _require_own_order(ids, own, layout, template.name)
        positions = np.arange(len(body))
    added = [_spread(np.array(_cells(values, decimal)), positions, len(body)).tolist() for values in new.values()]
    header = names if layout.header is None or layout.bare_index else layout.header
    joined = [[*row, *cells] for row, cells in zip(filled, zip(*added, strict=True), strict=True)] if added else filled
    delimiter = {".tsv": "\t", ".csv": "," if layout.delimiter == "\t" else layout.delimiter}[path.suffix.lower()]
    _write_text(path, delimiter, [[*header, *new], *joined], safe)


def _own_ids(layout: Layout, rows: list[list[str]]) -> list[str]:
    """Return the table's row names, or row numbers if it has none."""
    return [row[0] if layout.index_column else str(i) for i, row in enumerate(rows)]


def _require_own_order(ids: np.ndarray, own: list[str], layout: Layout, where: str) -> None:
    """Refuse ids that are not the table's row names, or row numbers, in order."""
    if list(ids) != own:
        what = "row names" if layout.index_column else "row numbers"
        raise ValueError(
            f"ids: expected the {len(own)} {what} of {where} in order, got {_shown(ids)}; name the column that "
            "contains them with --ids, or leave --copy out"
        )


def _require_column(name: str, names: Collection[str], where: str) -> None:
    if name not in names:
        raise ValueError(f"--ids: expected a column of {where}, got {name!r}")


def _positions(ids: np.ndarray, own: list[str], where: str) -> np.ndarray:
    """Return the template's row of each id."""
    if list(ids) == own:
        return np.arange(len(own))  # the order is the same, so repeated ids do not matter
    place = {name: row for row, name in enumerate(own)}
    if len(place) < len(own) or len(set(ids)) < len(ids) or not place.keys() >= set(ids):
        raise ValueError(
            f"ids: expected each id once in {where}, got {_shown(ids)}, of which some are missing there or repeated; "
            "give the file that the rows came from"
        )
    return np.array([place[name] for name in ids], dtype=np.int64)


def _shown(ids: np.ndarray) -> str:
    return first_few([repr(str(name)) for name in ids], 3)


def _spread(values: np.ndarray, positions: np.ndarray, rows: int) -> np.ndarray:
    """Put values into their rows of the template; other rows get NaN or ''."""
    whole = len(positions) == rows or values.dtype.kind not in "biu"  # integers have no value for an empty cell
    dtype = values.dtype if whole else np.dtype(np.float64)
    empty = np.nan if dtype.kind == "f" else np.zeros((), dtype)
    result = np.full((rows, *values.shape[1:]), empty, dtype=dtype)
    result[positions] = values
    return result


def _write_h5ad(
    path: Path, ids: np.ndarray, columns: Columns, arrays: Columns, template: Path, ids_column: str | None
) -> None:
    anndata = require("anndata", "anndata", "writing .h5ad files")
    data = anndata.read_h5ad(template)
    own, what = as_text(data.obs_names).tolist(), "obs_names"
    if ids_column is not None and (ids_column in data.obs or list(ids) != own):
        _require_column(ids_column, data.obs.columns, template.name)
        own, what = as_text(data.obs[ids_column]).tolist(), f"column {ids_column!r}"
    positions = _positions(ids, own, f"{what} of {template.name}")
    for name, values in columns.items():
        data.obs[f"priory_{name}"] = _spread(values, positions, data.n_obs)
    for name, array in arrays.items():
        wide = array.reshape(len(array), -1) if array.ndim > 1 else array[:, None]
        data.obsm[f"X_priory_{name}"] = _spread(wide, positions, data.n_obs)
    for table in (data.obs, data.var):  # anndata does not write the text of pandas 3
        table.index = table.index.astype(object)
        for name in table.columns[table.dtypes == "str"]:
            table[name] = table[name].astype(object)
    data.write_h5ad(path, compression="gzip")
