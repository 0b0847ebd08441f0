"""File formats and their readers.

One line adds a format, also from outside the package:

    FORMATS[".jsonl"] = lambda path, as_written: Table(pandas.read_json(path, lines=True))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias

from priory._support.memory import available_memory, require_memory
from priory.workbench.data.reading.arrays import read_array
from priory.workbench.data.reading.delimited import read_delimited
from priory.workbench.data.reading.h5ad import check_content, read_h5ad
from priory.workbench.data.reading.idx import read_idx
from priory.workbench.data.reading.matrices import as_rows
from priory.workbench.data.reading.npz import read_npz
from priory.workbench.data.reading.parquet import parquet_size, read_parquet
from priory.workbench.data.reading.table import Table
from priory.workbench.data.reading.text_options import TextOptions
from priory.workbench.data.reading.zarr import read_zarr, zarr_size

# Reads a path to a table. If the format contains only text, the named columns stay as they are written.
Reader: TypeAlias = Callable[[Path, Collection[str]], Table]


def read_npy(path: Path, as_written: Collection[str]) -> Table:
    """Read a matrix or gray images from a `.npy` file."""
    matrix, image_shape = as_rows(read_array(path), path.name)
    return Table(matrix, image_shape=image_shape)


# By the ending of a file's name in lower case; the longest match decides.
FORMATS: dict[str, Reader] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_delimited,
    ".csv.gz": read_delimited,
    ".tsv": read_delimited,
    ".tsv.gz": read_delimited,
    ".parquet": read_parquet,
    ".h5ad": read_h5ad,
    ".zarr": read_zarr,
    **dict.fromkeys((f"{end}{gz}" for end in ("-ubyte", ".ubyte", ".idx") for gz in ("", ".gz")), read_idx),
}


# Size in memory, in bytes, by the ending of the name. These formats can be read block by block.
_SIZES: dict[str, Callable[[Path], int]] = {
    ".parquet": parquet_size,
    ".npy": lambda path: path.stat().st_size,
    ".h5ad": check_content,
    ".zarr": zarr_size,
}
_SHARE = 0.5  # of the free memory; larger data are streamed
_FEWER = "give fewer rows or columns"
_IN_PARTS = (
    "give fewer rows or columns, or convert it to Parquet, which is read in parts: "
    """python -c "import pyarrow.dataset as d; d.write_dataset(d.dataset('{name}', format='csv'), 'shards', """
    """format='parquet')\""""
)
_UNZIPPED = "give fewer rows or columns, or unzip it: a .npy file is read in parts"


def is_to_stream(path: Path, files: Sequence[Path], stream: str) -> bool:
    """Return whether the rows of a file, or of .parquet files, stay there. `stream` is 'yes', 'no' or 'auto'.

    'auto' leaves them there if they would take more than half of the free memory.

    Raises:
        ValueError: `stream` is 'yes', and the format cannot be read in parts.
    """
    if stream == "no":
        return False
    ending = ".parquet" if path not in files else ".zarr" if path.is_dir() else path.suffix.lower()
    if ending not in _SIZES:
        if stream == "yes":
            raise ValueError(
                f"stream: expected data that can be read in parts, {', '.join(_SIZES)}, got {path.name!r}; convert it, "
                "or leave --stream out"
            )
        return False
    if stream == "yes":
        return True
    free = available_memory()
    size = parquet_size(path, files) if ending == ".parquet" else _SIZES[ending](path)
    return free is not None and size > _SHARE * free


def read_table(
    path: Path, as_written: Collection[str], options: TextOptions | None = None, files: Sequence[Path] = ()
) -> Table:
    """Read a file with the reader of its format, or .parquet files; `options` applies to tables of text."""
    options = options or TextOptions()
    if path not in files:
        require_no_text_options(options, path.name)
        return read_parquet(path, as_written, files)
    reader, ending = (read_zarr, ".zarr") if path.is_dir() else _reader_of(path)
    if path.is_file():
        cures: dict[Reader, str] = {read_delimited: _IN_PARTS.format(name=path.name), read_npz: _UNZIPPED}
        cure = cures.get(reader, _FEWER)
        require_memory(path.stat().st_size, path.name, cure)
    if reader is read_delimited:
        return read_delimited(path, as_written, options)
    require_no_text_options(options, path.name)
    table = reader(path, as_written)
    if not isinstance(table, Table):
        raise ValueError(
            f"{path.name}: expected the reader of {ending} to return a Table, got a {type(table).__name__}"
        )
    return table


def is_text_table(path: Path) -> bool:
    """Return whether a file's name is that of a table of text."""
    return path.name.lower().endswith(tuple(end for end, reader in FORMATS.items() if reader is read_delimited))


def require_no_text_options(options: TextOptions, name: str) -> None:
    """Refuse options for tables of text if the data are in another format."""
    if options.given:
        flag = options.given[0]
        raise ValueError(f"{flag}: expected a table of text, .csv or .tsv, got {name!r}; leave --{flag} out")


def _reader_of(path: Path) -> tuple[Reader, str]:
    """Return the reader of a file, and the ending that selected it."""
    declared = {point.name: point for point in entry_points(group="priory.formats")}
    endings = [ending for ending in (*FORMATS, *declared) if path.name.lower().endswith(ending)]
    if not endings:
        raise ValueError(
            f"{path.name}: expected a file whose name ends in {', '.join([*FORMATS, *declared])}, got the ending "
            f"{path.suffix!r}; convert the file to one of these formats"
        )
    ending = max(endings, key=len)
    return (FORMATS[ending] if ending in FORMATS else declared[ending].load()), ending
