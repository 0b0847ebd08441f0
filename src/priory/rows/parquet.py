"""Parquet files, decoded one row group at a time by pyarrow, which comes with the extra `tables`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from priory._support.cells import as_text
from priory._support.fragments import columns_of, require_same_columns
from priory._support.messages import shortened
from priory._support.optional import require
from priory._support.patterns import files_of, is_pattern
from priory.rows.arrow import is_number, require_numbers
from priory.rows.stored import StoredMatrix, StoredRows

_ROWS_AT_ONCE = 2**14  # rows decoded together, so that a large row group is not in memory twice


class ParquetMatrix(StoredMatrix):
    """The columns of Parquet files that have the same columns; a block is a row group.

    Args:
        files: in the order of their rows.
        base: the folder whose subfolders are named column=value, if there are such subfolders.

    Attributes:
        names: names of the columns.
        schema: pyarrow's schema of all columns of the files.
    """

    def __init__(self, files: Sequence[str | Path], base: str | Path | None = None) -> None:
        arrow = require("pyarrow.dataset", "tables", "Parquet files")
        where = {} if base is None else {"partitioning": "hive", "partition_base_dir": str(base)}
        self._source = arrow.dataset([str(file) for file in files], format="parquet", **where)
        self.schema = self._source.schema
        self.names: list[str] = self.schema.names
        fragments = list(self._source.get_fragments())
        self._columns = columns_of(fragments)
        groups = [group for fragment in fragments for group in fragment.split_by_row_group()]
        self._groups = [group for group in groups if group.row_groups[0].num_rows]
        bounds = np.cumsum([0, *(group.row_groups[0].num_rows for group in self._groups)], dtype=np.int64)
        super().__init__((bounds[-1], len(self.names)), np.dtype(np.float64), bounds, 0.0)
        self._set_type()

    def _set_type(self) -> None:
        types = [self.schema.field(name).type for name in self.names]
        kinds = [np.dtype(each.to_pandas_dtype()) if is_number(each) else np.dtype(object) for each in types]
        # NumPy has decimal numbers only as Python objects.
        self.dtype = np.result_type(*(np.dtype(np.float64) if kind.kind == "O" else kind for kind in kinds))
        self.row_bytes = float(len(self.names) * self.dtype.itemsize)

    def require_same_columns(self) -> None:
        """Raise an error if a file has other columns than the first one.

        Raises:
            ValueError: names the file and the columns.
        """
        require_same_columns(self._columns)

    def decode(self, block: int) -> np.ndarray:
        group = self._groups[block]
        # Neither the bytes nor the values of a whole row group are read ahead.
        options = require("pyarrow.dataset", "tables", "Parquet").ParquetFragmentScanOptions(
            pre_buffer=False, use_buffered_stream=True
        )
        with _decoding(Path(group.path).name):
            batches = group.to_batches(
                schema=self.schema,
                columns=list(dict.fromkeys(self.names)),
                batch_size=_ROWS_AT_ONCE,
                batch_readahead=0,
                use_threads=False,
                fragment_scan_options=options,
            )
            return np.concatenate([self.held_as(self._values(batch)) for batch in batches])

    def _values(self, batch: Any) -> np.ndarray:
        columns = {name: _numbers(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        dtype = np.result_type(self.dtype, *(column.dtype for column in columns.values()))
        values = np.empty((len(batch), len(self.names)), dtype)
        for i, name in enumerate(self.names):
            values[:, i] = columns[name]
        return values

    def with_columns(self, which: Sequence[int]) -> "ParquetMatrix":
        other = copy(self)
        other.names = [self.names[i] for i in which]
        other.shape = (self.shape[0], len(other.names))
        other._set_type()
        return other

    def column(self, index: int) -> np.ndarray:
        name = self.names[index]
        with _decoding("a shard"):
            values = self._source.to_table(columns=[name]).column(0)
        if is_number(values.type):
            return _numbers(values)
        types = require("pyarrow", "tables", "Parquet").types
        coded = values if types.is_dictionary(values.type) else values.dictionary_encode()
        whole = coded.unify_dictionaries().combine_chunks()
        texts = np.append(as_text(whole.dictionary.to_pandas()), "")  # the last text represents a missing cell
        return texts[whole.indices.fill_null(len(texts) - 1).to_numpy()]


def _numbers(column: Any) -> np.ndarray:
    """Return the values of an Arrow column; a column with missing cells becomes floats."""
    types = require("pyarrow", "tables", "Parquet").types
    if types.is_decimal(column.type) or (types.is_boolean(column.type) and column.null_count):
        column = column.cast("double")
    return column.to_numpy(zero_copy_only=False)


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    try:
        yield
    except (require("pyarrow", "tables", "Parquet").ArrowException, OSError) as error:
        raise ValueError(
            f"{what}: expected a complete .parquet file whose columns have the types of the first file, got a damaged "
            f"file or other types ({shortened(str(error), 300)}); write the file again"
        ) from error


def parquet_rows(source: str | Path, argument: str) -> StoredRows:
    """Return the rows of the .parquet files in a folder, or matching a pattern, in the order of their names."""
    files = files_of(source) if is_pattern(source) else sorted(Path(source).rglob("*.parquet"))
    if not files and is_pattern(source):
        raise ValueError(
            f"{argument}: expected a pattern that matches a .parquet file, got {str(source)!r}, which matches "
            "none; check the folder"
        )
    if not files:
        raise ValueError(
            f"{argument}: expected a folder of .parquet files, got {str(source)!r}, which has none; for "
            f"another file or an embedded data set give priory.load_dataset({str(source)!r}).all_rows()"
        )
    try:
        matrix = ParquetMatrix(files, base=None if is_pattern(source) else source)
        matrix.require_same_columns()
    except (require("pyarrow", "tables", "Parquet").ArrowException, OSError, ValueError) as error:
        raise ValueError(
            f"{argument}: expected .parquet files with the same columns in {str(source)!r}, got a damaged file or "
            f"other columns ({shortened(str(error), 300)}); write the file again"
        ) from error
    require_numbers(matrix.schema, argument, "priory.load_dataset(folder, drop=[...])")
    return StoredRows(matrix)
