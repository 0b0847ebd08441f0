"""Loading data: every format, compared with handwritten bytes, loops or scipy; and all error messages."""

from __future__ import annotations

import builtins
import gzip
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import StackDataset

from command_line import MATRIX, QUICK, ROWS, run_cli
from priory.workbench.data import FORMATS, Dataset, Table, load_dataset, require_complete
from priory.workbench.data.splits import with_validation

sp = pytest.importorskip("scipy.sparse")
pd = pytest.importorskip("pandas")


def published(name: str) -> Path:
    """Return the path of a file of the benchmark data; skip the test if it is missing."""
    folder = Path(os.environ.get("PRIORY_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = folder / name
    if not path.exists():
        pytest.skip(f"{name} is not in PRIORY_DATA or ../shared/data")
    return path


def counts(rows: int = 40, columns: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.4, (rows, columns)) * 3


def disjoint_and_complete(dataset: Dataset) -> bool:
    together = np.concatenate([dataset.splits[name] for name in ("train", "valid", "test")])
    return sorted(together.tolist()) == list(range(len(dataset)))


# --- the embedded digits ----------------------------------------------------------------------------------------------


def test_digits_are_split_as_in_the_book() -> None:
    from sklearn.datasets import load_digits

    digits, bunch = load_dataset("digits"), load_digits()
    assert np.array_equal(digits.x, bunch.data)
    assert digits.x.dtype == np.uint8
    assert digits.image_shape == (8, 8)
    assert digits.source is None
    assert np.array_equal(digits.labels["digit"], bunch.target)
    assert np.array_equal(digits.splits["train"], np.arange(1000))
    assert np.array_equal(digits.splits["valid"], np.arange(1000, 1350))
    assert np.array_equal(digits.splits["test"], np.arange(1350, 1797))
    assert digits.ids[1796] == "1796"
    assert digits.columns[:2] == ("x0", "x1")


def test_shuffled_digits_are_stratified_seeded_and_of_the_same_sizes() -> None:
    first = load_dataset("digits", split="shuffled", split_seed=3)
    again = load_dataset("digits", split="shuffled", split_seed=3)
    other = load_dataset("digits", split="shuffled", split_seed=4)
    assert disjoint_and_complete(first)
    for name, size in {"train": 1000, "valid": 350, "test": 447}.items():
        assert np.array_equal(first.splits[name], again.splits[name])
        assert not np.array_equal(first.splits[name], other.splits[name])
        assert len(first.splits[name]) == size
        for digit in range(10):
            share = (first.labels["digit"] == digit).sum() * size / 1797
            count = (first.labels["digit"][first.splits[name]] == digit).sum()
            assert abs(count - share) <= 1.5


def test_recorded_splits_are_restored_exactly() -> None:
    recorded = {"train": [5, 3, 1], "valid": [0], "test": [1796]}
    digits = load_dataset("digits", splits=recorded, split="shuffled")
    assert {name: index.tolist() for name, index in digits.splits.items()} == recorded
    assert digits.splits["train"].dtype == np.int64


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_rows_are_dense_float_batches_with_their_index(tmp_path: Path, sparse: bool) -> None:
    x = counts()
    if sparse:
        sp.save_npz(tmp_path / "c.npz", sp.csr_matrix(x))
    else:
        np.savez(tmp_path / "c.npz", x=x)
    data = load_dataset(tmp_path / "c.npz")
    assert sp.issparse(data.x) is sparse
    rows = data.rows("train")
    assert torch.equal(rows.tensor(), torch.from_numpy(x[rows.indices]).float())
    values, index = rows.batch(torch.tensor([2, 0, 2]))
    assert values.dtype == torch.float32
    assert index.dtype == torch.int64
    assert index.tolist() == rows.indices[[2, 0, 2]].tolist()
    assert np.array_equal(values.numpy(), x[index.numpy()])
    parts = list(rows.batches(7))
    assert [len(values) for values, _ in parts] == [7, 7, 7, 7, 4]
    assert torch.equal(torch.cat([values for values, _ in parts]), rows.tensor())
    assert torch.cat([index for _, index in parts]).tolist() == rows.indices.tolist()
    assert rows.ids.tolist() == [str(i) for i in rows.indices]
    assert len(data.all_rows()) == 40
    assert "32 of 40" in repr(rows)


def test_rows_of_a_read_only_array_can_be_read() -> None:
    x = np.eye(3, dtype=np.float32)
    x.flags.writeable = False
    data = Dataset("eye", x, {}, np.array(list("abc")), {}, ("p", "q", "r"), None, None)
    assert torch.equal(data.all_rows().tensor(), torch.eye(3))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bool", "uint16", "int64", "uint64"])
def test_values_are_exact_in_their_compact_dtype(tmp_path: Path, dtype: str) -> None:
    x = np.array([[0, 1], [1, 0], [1, 1]] * 5).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    data = load_dataset(tmp_path / "x.npy")
    assert data.x.dtype == (np.float32 if dtype.startswith("float") else np.uint8)
    assert np.array_equal(data.all_rows().tensor().numpy(), x.astype(float))


@pytest.mark.parametrize(("high", "dtype"), [(255, "uint8"), (256, "int16"), (40_000, "int32"), (1 << 40, "int64")])
def test_integers_stay_integers(tmp_path: Path, high: int, dtype: str) -> None:
    np.save(tmp_path / "x.npy", np.array([[0], [high]]))
    data = load_dataset(tmp_path / "x.npy")
    assert data.x.dtype == dtype
    assert data.x[1, 0] == high


# --- .npy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 3, 4), (12, 3, 4, 1), (12, 1, 3, 4)])
def test_images_are_flattened_row_by_row(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.arange(144, dtype=np.uint8).reshape(shape)
    np.save(tmp_path / "x.npy", x)
    data = load_dataset(tmp_path / "x.npy")
    assert data.image_shape == (3, 4)
    assert data.x[1].tolist() == list(range(12, 24))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"reshape\(-1, 1\)"),
        (np.zeros(()), "got an array of shape"),
        (np.zeros((4, 2, 2, 3)), "flatten"),
        (np.zeros((0, 3)), "at least one row and one column, got 0 x 3"),
        (np.zeros((3, 0)), "got 3 x 0"),
        (np.array([["a", "b"]]), "expected numbers, got dtype <U1"),
        (np.zeros((2, 2), complex), "complex128"),
    ],
)
def test_arrays_of_invalid_shape_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_errors_about_objects_do_not_suggest_unpickling(tmp_path: Path, name: str) -> None:
    objects = np.array([[1, None]], dtype=object)
    if name == "x.npy":
        np.save(tmp_path / name, objects, allow_pickle=True)
    else:
        np.savez(tmp_path / name, x=objects)
    with pytest.raises(ValueError, match="Python objects") as caught:
        load_dataset(tmp_path / name)
    assert "allow_pickle" not in str(caught.value)
    assert caught.value.__context__ is None


def test_unneeded_arrays_of_objects_are_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.eye(4), notes=np.array([None, {}], dtype=object))
    assert load_dataset(tmp_path / "x.npz").labels == {}


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.h5ad", "x.parquet", "x-idx3-ubyte", "x.csv", "x.idx.gz"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.\xff\xfe"])
def test_errors_name_files_with_other_content(tmp_path: Path, name: str, content: bytes) -> None:
    if name == "x.h5ad":
        pytest.importorskip("anndata")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="expected"):
        load_dataset(tmp_path / name)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_errors_name_truncated_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    x = np.random.default_rng(0).random((50, 50))
    np.save(path, x) if name == "x.npy" else np.savez(path, x=x)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"x\.np.: expected"):
        load_dataset(path)


# --- .npz -------------------------------------------------------------------------------------------------------------


def test_npz_files_may_contain_splits_labels_and_ids(tmp_path: Path) -> None:
    train, valid, test = counts(5), counts(3, seed=1), counts(2, seed=2)
    np.savez(
        tmp_path / "s.npz",
        **{"test_x": test, "train_x": train, "valid_x": valid},
        **{"train_y": np.arange(5), "valid_y": np.arange(3), "test_y": np.arange(2)},
        **{f"{name}_fractions": np.ones((n, 2)) for name, n in (("train", 5), ("valid", 3), ("test", 2))},
        columns=np.array(list("abcdef")),
    )
    data = load_dataset(tmp_path / "s.npz")
    assert np.array_equal(data.x, np.vstack([train, valid, test]))
    assert data.splits["valid"].tolist() == [5, 6, 7]
    assert data.ids[[0, 5, 9]].tolist() == ["train-0", "valid-0", "test-1"]
    assert list(data.labels) == ["y"]
    assert data.labels["y"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1]
    assert data.columns == tuple("abcdef")
    assert list(load_dataset(tmp_path / "s.npz", labels=["fractions_1"]).labels) == ["fractions_1"]


def test_npz_files_may_have_keras_names_and_no_validation_part(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "k.npz",
        x_train=np.zeros((30, 4)),
        y_train=np.arange(30),
        x_test=np.ones((5, 4)),
        y_test=np.arange(5),
    )
    data = load_dataset(tmp_path / "k.npz")
    assert [len(data.splits[name]) for name in ("train", "valid", "test")] == [27, 3, 5]
    assert disjoint_and_complete(data)
    assert data.x[data.splits["test"]].min() == 1
    assert data.x[data.splits["valid"]].max() == 0


def test_validation_rows_of_a_file_without_them_are_drawn_by_the_seed() -> None:
    recorded = {"train": np.arange(100, 160), "valid": np.zeros(0, np.int64), "test": np.arange(20)}
    drawn = [with_validation(recorded, seed) for seed in (0, 0, 1, 2)]
    valid = [tuple(splits["valid"].tolist()) for splits in drawn]
    assert valid[0] == valid[1]
    assert len(set(valid)) == 3
    for splits in drawn:
        assert len(splits["valid"]) == 6
        assert sorted([*splits["train"], *splits["valid"]]) == list(range(100, 160))
        np.testing.assert_array_equal(splits["test"], np.arange(20))
    assert with_validation(drawn[0], 5) is drawn[0]


def test_packed_bits_equal_an_explicit_loop(tmp_path: Path) -> None:
    packed = np.random.default_rng(0).integers(0, 256, (20, 2), dtype=np.uint8)
    np.savez(tmp_path / "b.npz", train_x=packed, width=np.array(12), shape=np.array([3, 4]))
    data = load_dataset(tmp_path / "b.npz")
    loop = [[(int(row[bit // 8]) >> (7 - bit % 8)) & 1 for bit in range(12)] for row in packed]
    assert data.x.tolist() == loop
    assert data.image_shape == (3, 4)


@pytest.mark.parametrize("keys", [("x", "y"), ("X", "y"), ("data", "target"), ("arr_0", "label")])
def test_a_matrix_may_have_labels_beside_it(tmp_path: Path, keys: tuple[str, str]) -> None:
    np.savez(tmp_path / "d.npz", **{keys[0]: counts(20), keys[1]: np.array(["a", "b"] * 10)})
    data = load_dataset(tmp_path / "d.npz", split="shuffled")
    assert np.array_equal(data.x, counts(20))
    assert data.labels[keys[1]][:2].tolist() == ["a", "b"]
    assert (data.labels[keys[1]][data.splits["train"]] == "a").sum() == 8


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "parts", "y"])
def test_sparse_files_equal_their_dense_array(tmp_path: Path, form: str) -> None:
    dense, path = counts(), tmp_path / "s.npz"
    csr = sp.csr_matrix(dense)
    if form in ("parts", "y"):
        names = {"label" if form == "parts" else "y": np.arange(40) % 3}
        np.savez(path, data=csr.data, indices=csr.indices, indptr=csr.indptr, matrix_shape=np.array(csr.shape), **names)
    else:
        sp.save_npz(path, csr.asformat(form))
    data = load_dataset(path)
    assert isinstance(data.x, sp.csr_matrix)
    assert np.array_equal(data.x.toarray(), dense)
    assert [len(values) for values in data.labels.values()] == ([40] if form in ("parts", "y") else [])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.eye(3), "b": np.eye(4)}, r"got a \(3, 3\), b \(4, 4\); name the matrix x"),
        ({"a": np.arange(3)}, "expected one matrix"),
        ({"x": np.eye(3), "y": np.arange(2)}, r"y: expected 3 values, one a row, got shape \(2,\)"),
        ({"train_x": np.eye(3), "train_y": np.arange(2)}, r"train_y: expected 3 values"),
        ({"train_x": np.eye(3), "train_y": np.arange(3), "test_x": np.eye(3)}, "none for test"),
        ({"train_x": np.eye(3), "test_x": np.eye(4)}, "same number of columns"),
        ({"data": np.ones(1), "indices": np.zeros(1, int), "indptr": np.array([0, 1])}, "matrix_shape"),
        (
            {
                "data": np.ones(1),
                "indices": np.array([9]),
                "indptr": np.array([0, 1]),
                "matrix_shape": np.array([1, 2]),
            },
            "parts of a sparse matrix that fit each other",
        ),
        (  # scipy's check does not look at pointers that end with 0, and its sum of duplicates writes behind its arrays
            {
                "data": np.ones(4),
                "indices": np.array([1, 0, 1, 0]),
                "indptr": np.array([0, 2, 4, 0]),
                "matrix_shape": np.array([3, 2]),
            },
            "indptr must not decrease",
        ),
    ],
)
def test_invalid_npz_files_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "e.npz")


# --- text tables ------------------------------------------------------------------------------------------------------

TABLE = "id,age,kind,size\n007,1,NA,0.5\n008,2,b,1.5\n009,3,b,-2\n"


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet"])
def test_labels_ids_and_dropped_columns_are_removed_from_the_data(tmp_path: Path, name: str) -> None:
    path, text = tmp_path / name, TABLE.replace(",", "\t") if ".tsv" in name else TABLE
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
        rows = [line.split(",") for line in TABLE.splitlines()]
        frame = pd.DataFrame(rows[1:], columns=rows[0]).astype({"age": int, "size": float})
        frame.to_parquet(path, index=False)
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    data = load_dataset(path, labels=["kind", "age"], ids="id")
    assert data.name == "t"
    assert data.columns == ("size",)
    assert data.x.tolist() == [[0.5], [1.5], [-2.0]]
    assert data.ids.tolist() == ["007", "008", "009"]
    assert list(data.labels) == ["kind", "age"]
    assert data.labels["kind"].tolist() == ["NA", "b", "b"]
    assert data.labels["age"].tolist() == [1, 2, 3]
    dropped = load_dataset(path, drop=["kind", "id"])
    assert dropped.columns == ("age", "size")
    assert dropped.ids.tolist() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("text", "columns", "ids", "first"),
    [
        ("1,2\n3,4\n", ("x0", "x1"), "0", [1, 2]),  # no header
        ("0,1\n3,4\n5,6\n", ("0", "1"), "0", [3, 4]),  # pandas names the columns of a plain array 0, 1, ...
        (",a,b\nr1,1,2\nr2,3,4\n", ("a", "b"), "r1", [1, 2]),  # pandas with its index
        ("a,b\nr1,1,2\nr2,3,4\n", ("a", "b"), "r1", [1, 2]),  # R's write.table
        ("a,a,b\n1,2,3\n", ("a", "a.1", "b"), "0", [1, 2, 3]),
        ("a;b\n1;2\n", ("a", "b"), "0", [1, 2]),
        ("\ufeffa, b\n1, 2\n", ("a", "b"), "0", [1, 2]),
        ("a,b\nTrue,False\n", ("a", "b"), "0", [1, 0]),
        ("a,b\nTrue,7\n", ("a", "b"), "0", [1, 7]),
        (",2019,2020\n7,1,2\n", ("2019", "2020"), "7", [1, 2]),
        ("a,b,\n1,2,3\n", ("a", "b", "column_2"), "0", [1, 2, 3]),
        ("a,b\nr1,1,\nr2,1,2\n", ("a", "b"), "r1", [1, np.nan]),  # row names, and a cell that is missing
        ("a,b\nr1,1,NA\nr2,1,NA\n", ("a", "b"), "r1", [1, np.nan]),
        ("1,2,\n1,2,3\n", ("x0", "x1", "x2"), "0", [1, 2, np.nan]),  # a row of data, not lost as a header
        ("1,,3\n1,2,3\n", ("x0", "x1", "x2"), "0", [1, np.nan, 3]),
    ],
)
def test_layouts_of_text_tables_are_recognized(
    tmp_path: Path, text: str, columns: tuple, ids: str, first: list[int]
) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    data = load_dataset(tmp_path / "t.csv")
    assert data.columns == columns
    assert data.ids[0] == ids
    assert np.array_equal(data.x[0], first, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "delimiter", "shown"), [("t.csv", ",", "','"), ("t.csv", ";", "';'"), ("t.tsv", "\t", "tab")]
)
@pytest.mark.parametrize("end", ["", " "])
@pytest.mark.parametrize("options", [{}, {"drop": ["c"]}, {"ids": "a", "optional": ["drop"]}])
def test_rows_that_end_with_a_delimiter_do_not_shift_the_columns(tmp_path, name, delimiter, shown, end, options):
    """Otherwise the first column would become row names, and each other column would get its neighbor's name."""
    path = tmp_path / name
    path.write_text("a,b,c\n0.5,1,2,#\n\n1.5,2,4,#\n".replace(",", delimiter).replace("#", end))
    message = f"rows that each end with a {shown} that the header does not have; remove it from the ends of the rows"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_dataset(path, **options)
    path.write_text(f"{delimiter}{path.read_text()}")  # the other suggestion of the message
    assert load_dataset(path).ids.tolist() == ["0.5", "1.5"]


@pytest.mark.parametrize(("head", "column"), [("a,b,\n", "column_2"), ("", "x2")])
def test_an_empty_column_without_a_name_is_refused_until_it_is_dropped(tmp_path, head, column):
    path = tmp_path / "t.csv"
    path.write_text(f"{head}0.5,1,\n1.5,2,\n")
    message = f"rows that each end with a ','; remove it .* or leave the empty column out with --drop {column}"
    with pytest.raises(ValueError, match=message):
        load_dataset(path)
    assert load_dataset(path, drop=[column]).x.tolist() == [[0.5, 1], [1.5, 2]]


def test_labels_may_have_missing_cells(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,n,t\n1,4,\n2,,u\n")
    data = load_dataset(tmp_path / "t.csv", labels=["n", "t"])
    assert np.array_equal(data.labels["n"], [4, np.nan], equal_nan=True)
    assert data.labels["t"].tolist() == ["", "u"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TABLE, {}, r"'kind' holds 'b' in row 2 \(2 of 3 values are not numbers\).*--labels.*--ids.*--drop"),
        (TABLE, {"labels": ["knd"]}, "labels: expected a column of t.csv, got 'knd'.*did you mean 'kind'"),
        (TABLE, {"ids": "zzz"}, "ids: .*its columns are 'id', 'age', 'kind', 'size'"),
        (TABLE, {"drop": ["Size"]}, "did you mean 'size'"),
        (TABLE, {"labels": "kind"}, r"write \['kind'\]"),
        (TABLE, {"labels": ["kind"], "ids": "id", "drop": ["age", "size"]}, "no column is left"),
        ("", {}, "got an empty file"),
        ("a,b\n", {}, "at least one row"),
        ("a,b\n1,2\n1,2,3\n", {}, "line 3: expected 2 fields"),
        ("a,b\n1,?\n2,3\n", {}, r"'b' holds '\?' in row 1 \(1 of 2"),
        (
            "a,b,\n1,2,3\n1,2\n",
            {},
            "line 3: .* got 2; correct this line, or remove the ',' at the end of the first row",
        ),
        (
            "a\n1\n" + "1" * 41,
            {},
            r"'a' holds '1{21}\.\.\.' in row 2, a whole number of more than 64 bits: written as 1\.1",
        ),
        (f"a\n-1\n{2**64 - 1}\n", {}, "'a' holds '18446744073709551615' in row 2, a whole number of more than 64 bits"),
    ],
)
def test_invalid_tables_of_text_are_refused(tmp_path: Path, text: str, options: dict, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        load_dataset(tmp_path / "t.csv", **options)


def test_parquet_files_may_have_an_index_and_nullable_columns(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), 3: [0.5, 1.0]}, index=["p", "q"])
    frame.columns = frame.columns.astype(str)
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_dataset(tmp_path / "t.parquet")
    assert data.ids.tolist() == ["p", "q"]
    assert data.columns == ("a", "3")
    assert np.array_equal(data.x, [[1, 0.5], [np.nan, 1]], equal_nan=True)


# --- IDX --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_exactly(tmp_path: Path, zipped: bool) -> None:
    images = b"\0\0\x08\x03" + struct.pack(">III", 2, 1, 3) + bytes([1, 2, 3, 4, 5, 255])
    labels = b"\0\0\x08\x01" + struct.pack(">I", 2) + bytes([7, 9])
    end, pack = (".gz", gzip.compress) if zipped else ("", bytes)
    (tmp_path / f"t10k-images-idx3-ubyte{end}").write_bytes(pack(images))
    (tmp_path / f"t10k-labels-idx1-ubyte{end}").write_bytes(pack(labels))
    data = load_dataset(tmp_path / f"t10k-images-idx3-ubyte{end}")
    assert data.x.tolist() == [[1, 2, 3], [4, 5, 255]]
    assert data.image_shape == (1, 3)
    assert data.labels["label"].tolist() == [7, 9]


def test_idx_types_are_big_endian(tmp_path: Path) -> None:
    (tmp_path / "m.idx").write_bytes(b"\0\0\x0d\x02" + struct.pack(">IIff", 1, 2, 0.25, -3.0))
    assert load_dataset(tmp_path / "m.idx").x.tolist() == [[0.25, -3.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"\0\0\x08\x02" + struct.pack(">II", 2, 2) + b"\1\2\3",
            r"expected 4 bytes of values for shape \(2, 2\), got 3",
        ),
        (b"\0\0\x08\x02\0", "expected a header of 12 bytes"),
        (b"\1\0\x08\x01", "expected an IDX file"),
        # With the time in it, two workers that collect in different seconds name the test differently.
        (gzip.compress(b"\0\0\x08\x01\0\0\x03\xe8" + bytes(1000), mtime=0)[:-9], "ended before"),
    ],
)
def test_invalid_idx_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "m-ubyte")


def test_idx_labels_of_other_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">III", 1, 1, 1) + b"\1")
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\1\2")
    with pytest.raises(ValueError, match="expected 1 labels"):
        load_dataset(tmp_path / "a-images-idx3-ubyte")


# --- AnnData ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [None, "counts"])
def test_h5ad_files_have_layers_labels_and_names(tmp_path: Path, layer: str | None) -> None:
    anndata = pytest.importorskip("anndata")
    dense = counts(6, 3)
    obs = pd.DataFrame(
        {"kind": pd.Categorical(["a", "b", None] * 2), "depth": np.arange(6)}, index=[f"cell{i}" for i in range(6)]
    )
    var = pd.DataFrame(index=["g1", "g2", "g3"])
    made = anndata.AnnData(np.log1p(dense).astype("f4"), obs=obs, var=var, layers={"counts": sp.csr_matrix(dense)})
    made.write_h5ad(tmp_path / "c.h5ad")
    data = load_dataset(tmp_path / "c.h5ad", layer=layer, labels=["kind", "depth"], drop=["g2"])
    expected = (np.log1p(dense) if layer is None else dense)[:, [0, 2]]
    assert sp.issparse(data.x) is (layer == "counts")
    np.testing.assert_allclose(data.all_rows().tensor().numpy(), expected, rtol=1e-6)
    assert data.columns == ("g1", "g3")
    assert data.ids.tolist() == list(obs.index)
    assert data.labels["kind"].tolist() == ["a", "b", "", "a", "b", ""]
    assert data.labels["depth"].tolist() == list(range(6))
    with pytest.raises(ValueError, match=r"layers .'counts'., got 'raw'"):
        load_dataset(tmp_path / "c.h5ad", layer="raw")
    with pytest.raises(ValueError, match=r"got 'knd'.*did you mean 'kind'"):
        load_dataset(tmp_path / "c.h5ad", labels=["knd"])
    with pytest.raises(ValueError, match="'depth' is not a column of the matrix, so it need not be dropped"):
        load_dataset(tmp_path / "c.h5ad", drop=["depth"])


# --- a format from outside of the package -----------------------------------------------------------------------------


def read_ndjson(path: Path, as_written: Collection[str]) -> Table:
    return Table(pd.read_json(path, lines=True))


def test_a_registered_format_loads_with_labels_ids_and_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.ndjson"
    rows = [{"id": f"r{i}", "kind": "ab"[i % 2], "n": i, "note": "", "size": i / 4, "width": 1.0} for i in range(3)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(ValueError, match=r"t\.ndjson: expected a file whose name ends in .*got the ending '\.ndjson'"):
        load_dataset(path)
    monkeypatch.setitem(FORMATS, ".ndjson", read_ndjson)
    data = load_dataset(path, labels=["kind", "n"], ids="id", drop=["note"])
    assert (data.name, data.columns) == ("t", ("size", "width"))
    assert data.x.tolist() == [[0, 1], [0.25, 1], [0.5, 1]]
    assert data.ids.tolist() == ["r0", "r1", "r2"]
    assert {name: values.tolist() for name, values in data.labels.items()} == {"kind": ["a", "b", "a"], "n": [0, 1, 2]}
    assert load_dataset(path, drop=["kind", "id", "note"], ids="n").ids.tolist() == ["0", "1", "2"]
    with pytest.raises(ValueError, match=r"'kind' holds 'a' in row 1 \(3 of 3 values are not numbers\)"):
        load_dataset(path, ids="id", drop=["note"])
    with pytest.raises(ValueError, match=r"labels: expected a column of t\.ndjson, got 'knd'.*did you mean 'kind'"):
        load_dataset(path, labels=["knd"])
    with pytest.raises(ValueError, match=r"layer: expected an \.h5ad file, got 't\.ndjson'"):
        load_dataset(path, layer="raw")


def test_a_format_that_is_registered_can_be_fitted_and_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, ".ndjson", read_ndjson)
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame(MATRIX, columns=list("abcd")).assign(kind="x", name=[f"r{i}" for i in range(ROWS)], note="")
    frame.to_json("t.ndjson", orient="records", lines=True)
    claims = ("--labels", "kind", "--ids", "name", "--drop", "note")
    assert run_cli("fit", "t.ndjson", *claims, *QUICK, "--no-evaluate", "--out", "run") == 0
    assert run_cli("embed", "run", "--out", "z.csv") == 0
    embedded = pd.read_csv("z.csv")
    assert embedded["id"].tolist() == frame["name"].tolist()
    assert set(embedded["kind"]) == {"x"}


def test_the_longest_ending_determines_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".wide.csv", lambda path, as_written: Table(np.eye(2)))
    (tmp_path / "t.WIDE.csv").write_text("a,b\n1,2\n")
    assert load_dataset(tmp_path / "t.WIDE.csv").x.tolist() == [[1, 0], [0, 1]]


def test_a_label_beside_the_matrix_can_be_dropped(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=counts(4, 2), y=np.arange(4), kind=np.array(list("abab")))
    assert list(load_dataset(tmp_path / "t.npz").labels) == ["y", "kind"]
    assert list(load_dataset(tmp_path / "t.npz", drop=["y"]).labels) == ["kind"]


# --- columns that another file may lack -------------------------------------------------------------------------------

ALL = ("labels", "ids", "drop", "layer")


def test_optional_columns_of_a_csv_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("kind,a,b\nu,1,2\nv,3,4\n")
    options = {"labels": ["age", "kind"], "ids": "name", "drop": ["a", "c"], "layer": "raw"}
    data = load_dataset(path, **options, optional=ALL)
    assert data.columns == ("b",)
    assert {name: values.tolist() for name, values in data.labels.items()} == {"kind": ["u", "v"]}
    assert data.ids.tolist() == ["0", "1"]
    for strict in ALL:
        with pytest.raises(ValueError, match=f"^{strict}: expected"):
            load_dataset(path, **options, optional=set(ALL) - {strict})
    path.write_text("name,kind,age,a,b,c\nr,u,5,1,2,3\n")
    data = load_dataset(path, **options, optional=ALL)
    assert (data.columns, list(data.labels), data.ids.tolist()) == (("b",), ["age", "kind"], ["r"])


def test_missing_optional_labels_are_not_replaced_by_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=counts(4, 2), y=np.arange(4))
    assert load_dataset(tmp_path / "t.npz", labels=["fractions"], optional=["labels"]).labels == {}
    assert load_dataset("digits", layer="raw", ids="name", optional=["layer", "ids"]).ids[0] == "0"


def test_optional_columns_of_an_h5ad_may_be_missing(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    obs = pd.DataFrame({"kind": ["u", "v"], "depth": [7, 8]}, index=["c0", "c1"])
    var = pd.DataFrame(index=["g1", "g2"])
    anndata.AnnData(counts(2, 2).astype("f4"), obs=obs, var=var).write_h5ad(tmp_path / "t.h5ad")
    options = {"labels": ["kind", "age"], "ids": "barcode", "drop": ["g2", "g3", "depth"], "layer": "raw"}
    data = load_dataset(tmp_path / "t.h5ad", **options, optional=ALL)
    assert data.columns == ("g1",)
    assert {name: values.tolist() for name, values in data.labels.items()} == {"kind": ["u", "v"]}
    assert data.ids.tolist() == ["c0", "c1"]
    for strict in ALL:
        with pytest.raises(ValueError, match=f"^{strict}: expected"):
            load_dataset(tmp_path / "t.h5ad", **options, optional=set(ALL) - {strict})


# --- arguments and splits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "random"}, "split: expected one of given, shuffled, got 'random'"),
        ({"binarize": "yes"}, "binarize: expected one of none, dynamic, static"),
        ({"split_seed": -1}, "split_seed"),
        ({"optional": ["split"]}, "optional: expected one of labels, ids, drop, layer, got 'split'"),
        ({"binarize": "static", "binarize_scale": 0.0}, "binarize_scale: expected a finite number above 0"),
        ({"layer": "raw"}, "layer: expected an .h5ad file"),
        ({"labels": ["digits"]}, "did you mean 'digit'"),
        ({"splits": {"train": [0, 1797]}}, "below 1797.*got 1797 in 'train'"),
        ({"splits": {"train": [0], "test": [0]}}, "occurs twice"),
        ({"splits": {"training": [0]}}, "got training"),
        ({"splits": {"train": [0.5]}}, "list of row indices for 'train'"),
    ],
)
def test_invalid_combinations_of_arguments_are_refused(options: dict, message: str) -> None:
    by_type = "Type-check error while checking the parameters"  # if beartype checks them first
    with pytest.raises((ValueError, TypeError), match=f"{message}|{by_type}"):
        load_dataset("digits", **options)


def test_invalid_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"embedded data set \(digits\) or an existing file, got 'digts'"):
        load_dataset("digts")
    with pytest.raises(ValueError, match="got the folder"):
        load_dataset(tmp_path)
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"\.npy, \.npz, \.csv.*got the ending '\.xlsx'"):
        load_dataset(tmp_path / "x.xlsx")
    (tmp_path / "x.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match="layer"):
        load_dataset(tmp_path / "x.csv", layer="counts")


@pytest.mark.parametrize("rows", [10, 11, 99, 100, 1005])
def test_files_without_splits_are_split_80_10_10(tmp_path: Path, rows: int) -> None:
    np.save(tmp_path / "x.npy", np.zeros((rows, 2)))
    data = load_dataset(tmp_path / "x.npy")
    assert disjoint_and_complete(data)
    assert len(data.splits["valid"]) == len(data.splits["test"]) == round(rows / 10)
    again = load_dataset(tmp_path / "x.npy")
    assert all(np.array_equal(data.splits[name], again.splits[name]) for name in data.splits)
    assert data.splits["test"].tolist() != load_dataset(tmp_path / "x.npy", split_seed=1).splits["test"].tolist() or (
        rows < 12
    )


@pytest.mark.parametrize("rows", [1, 9])
def test_a_few_rows_can_be_embedded_but_not_split(tmp_path: Path, rows: int) -> None:
    np.save(tmp_path / "x.npy", np.zeros((rows, 2)))
    data = load_dataset(tmp_path / "x.npy")
    assert data.all_rows().tensor().shape == (rows, 2)
    with pytest.raises(ValueError, match=f"at least 10 rows.*got {rows} in x"):
        data.rows("train")


def test_missing_splits_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", valid_x=np.eye(3), test_x=np.eye(3))
    with pytest.raises(ValueError, match="no 'train' rows, only valid, test"):
        load_dataset(tmp_path / "v.npz").rows("train")
    with pytest.raises(ValueError, match="expected one of train, valid, test, got 'dev'"):
        load_dataset("digits").rows("dev")
    with pytest.raises(ValueError, match="batch_size"):
        load_dataset("digits").rows("test").batches(0)


def test_stratified_by_a_real_label_follows_its_quantiles(tmp_path: Path) -> None:
    y = np.random.default_rng(0).normal(size=1000)
    np.savez(tmp_path / "r.npz", x=np.zeros((1000, 2)), y=y)
    data = load_dataset(tmp_path / "r.npz", split="shuffled")
    low = y < np.median(y)
    assert abs(low[data.splits["valid"]].sum() - 50) <= 1


def test_a_dataset_checks_its_lengths() -> None:
    with pytest.raises(ValueError, match="ids: expected 2 values"):
        Dataset("d", np.eye(2), {}, np.array(["a"]), {}, ("p", "q"), None, None)
    with pytest.raises(ValueError, match="columns: expected 2 names"):
        Dataset("d", np.eye(2), {}, np.array(["a", "b"]), {}, ("p",), None, None)


# --- missing values ---------------------------------------------------------------------------------------------------


def test_missing_cells_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,b,c\n1,,3\nNaN,,3\n1,2,3\n")
    data = load_dataset(tmp_path / "m.csv")
    assert data.summary().missing == 3
    assert "3 missing values" in data.summary().describe()
    with pytest.raises(
        ValueError,
        match=r"got 3 missing values .* in 2 of 3 columns: 'a' \(1\), 'b' \(2\), the first in row 1 .*; fill",
    ):
        require_complete(data)


@pytest.mark.parametrize("sparse", [False, True])
def test_infinite_values_are_refused(tmp_path: Path, sparse: bool) -> None:
    x = np.array([[0.0, np.inf], [0.0, 1e300], [1.5, 0.0]])
    sp.save_npz(tmp_path / "i.npz", sp.csr_matrix(x)) if sparse else np.savez(tmp_path / "i.npz", x=x)
    data = load_dataset(tmp_path / "i.npz")
    assert data.summary().infinite == 2
    assert data.summary().high == 1.5
    with pytest.raises(ValueError, match=r"2 infinite values.*'x1' \(2\)"):
        require_complete(data)


def test_complete_data_are_accepted(tmp_path: Path) -> None:
    require_complete(load_dataset("digits"))
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    require_complete(load_dataset(tmp_path / "x.npy"))


# --- binarization -----------------------------------------------------------------------------------------------------


def test_dynamic_binarization_keeps_means_for_train_rows_only() -> None:
    gray, data = load_dataset("digits"), load_dataset("digits", binarize="dynamic")
    assert data.dynamic_binarization
    assert torch.equal(data.rows("train").tensor(), gray.rows("train").tensor() / 16)
    drawn, means = data.rows("test").tensor(), gray.rows("test").tensor() / 16
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn[means == 0], means[means == 0])
    assert torch.equal(drawn[means == 1], means[means == 1])
    deviation = (drawn - means).sum() / (means * (1 - means)).sum().sqrt()
    assert abs(deviation) < 4  # standard deviations
    again = load_dataset("digits", binarize="dynamic").rows("test").tensor()
    assert torch.equal(drawn, again)


def test_static_binarization_has_a_fixed_seed(tmp_path: Path) -> None:
    means = np.random.default_rng(1).random((5000, 2), dtype=np.float32)  # more rows than a block has
    np.save(tmp_path / "x.npy", means)
    uniform = np.random.default_rng(777).random((5000, 2), dtype=np.float32)
    np.testing.assert_array_equal(load_dataset(tmp_path / "x.npy", binarize="static").x, uniform < means)


def test_the_binarization_of_a_row_does_not_depend_on_the_split() -> None:
    one = load_dataset("digits", binarize="static")
    two = load_dataset("digits", binarize="dynamic", split="shuffled")
    held_out = np.concatenate([two.splits["valid"], two.splits["test"]])
    assert one.x.dtype == np.uint8
    assert not one.dynamic_binarization
    assert np.array_equal(one.x[held_out], two.x[held_out])


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_binarized_sparse_data_are_sparse(tmp_path: Path, binarize: str) -> None:
    x = np.minimum(counts(200), 255).astype(np.uint8) * 20
    sp.save_npz(tmp_path / "s.npz", sp.csr_matrix(x))
    data = load_dataset(tmp_path / "s.npz", binarize=binarize)
    dense = data.x.toarray()
    assert sp.issparse(data.x)
    assert (dense[x == 0] == 0).all()
    drawn = data.splits["test"] if binarize == "dynamic" else np.arange(200)
    assert set(np.unique(dense[drawn])) == {0, 1}
    if binarize == "dynamic":
        train = data.splits["train"]
        np.testing.assert_allclose(dense[train], x[train] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.eye(12), "got data of 0 and 1"),
        (np.eye(12) * 300, r"got values in 0\.\.300"),
        (np.eye(12) - 0.5, r"got values in -0\.5\.\.0\.5"),
        (np.where(np.eye(12) > 0, np.nan, 0.5), "12 missing"),
    ],
)
def test_values_that_cannot_be_binarized_are_refused(tmp_path: Path, x: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "x.npy", binarize="dynamic")


def test_another_file_is_binarized_on_the_scale_of_the_training_data(tmp_path: Path) -> None:
    gray, trained = load_dataset("digits"), load_dataset("digits", binarize="dynamic")
    assert (gray.binarize_scale, trained.binarize_scale) == (None, 16)
    dim = gray.x[:400] // 2  # the maximum of these rows is 8
    np.save(tmp_path / "x.npy", dim)
    path = tmp_path / "x.npy"
    assert load_dataset(path, binarize="static").binarize_scale == 8
    data = load_dataset(path, binarize="static", binarize_scale=trained.binarize_scale)
    assert data.binarize_scale == 16
    means = dim / 16
    deviation = (data.x - means).sum() / np.sqrt((means * (1 - means)).sum())
    assert abs(deviation) < 4  # standard deviations
    assert load_dataset(path, binarize_scale=16).binarize_scale is None
    with pytest.raises(ValueError, match=r"expected values in 0\.\.4, .*got values in 0\.\.8"):
        load_dataset(path, binarize="static", binarize_scale=4)
    np.save(path, means)
    with pytest.raises(ValueError, match=r"expected values in 0\.\.16, .*got values in 0\.\.0\.5"):
        load_dataset(path, binarize="static", binarize_scale=16)


# --- optional libraries and side effects ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("x.csv", "pandas", "tables"),
        ("x.parquet", "pyarrow", "tables"),
        ("x.h5ad", "anndata", "anndata"),
        ("x.npz", "scipy", "tables"),
        ("digits", "sklearn", "tables"),
    ],
)
def test_an_error_names_a_missing_library_and_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str, extra: str
) -> None:
    path = tmp_path / name
    np.savez(path, data=0, indices=0, indptr=0, matrix_shape=[1, 1]) if name == "x.npz" else path.write_text("a\n1\n")
    real = builtins.__import__

    def blocked(module: str, *args: object, **kwargs: object) -> object:
        if module.split(".")[0] == library:
            raise ModuleNotFoundError(module, name=module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", blocked)
    for loaded in [m for m in sys.modules if m.split(".")[0] == library]:
        monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(ImportError, match=rf"pip install '\.\[{extra}\]'"):
        load_dataset("digits" if name == "digits" else path)


def test_importing_loads_no_optional_library() -> None:
    code = (
        "import sys, priory.workbench.data; "
        "print([m for m in ('pandas', 'scipy', 'sklearn', 'pyarrow', 'anndata') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_loading_does_not_change_global_generators() -> None:
    np.random.seed(0)  # noqa: NPY002 - the global generator is the subject
    torch.manual_seed(0)
    numpy_before, torch_before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    load_dataset("digits", split="shuffled", binarize="dynamic")
    assert np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


# --- the benchmark files ----------------------------------------------------------------------------------------------


def test_published_binarized_mnist_has_its_splits() -> None:
    path = published("binarized_mnist.npz")
    data = load_dataset(path)
    with np.load(path, allow_pickle=False) as archive:
        last = archive["test_x"][-1]
    loop = [(int(last[bit // 8]) >> (7 - bit % 8)) & 1 for bit in range(784)]
    assert data.x[-1].tolist() == loop
    assert {name: len(index) for name, index in data.splits.items()} == {"train": 50000, "valid": 10000, "test": 10000}
    assert data.image_shape == (28, 28)
    assert data.ids[-1] == "test-9999"


def test_published_counts_stay_sparse() -> None:
    path = published("mouse_bladder.npz")
    data = load_dataset(path)
    with np.load(path, allow_pickle=False) as z:
        parts, shape, label = (z["data"], z["indices"], z["indptr"]), tuple(z["matrix_shape"]), z["label"]
    rows = data.rows("valid")
    expected = sp.csr_matrix(parts, shape=shape)[rows.indices].toarray()
    assert sp.issparse(data.x)
    assert np.array_equal(rows.tensor().numpy(), expected)
    assert np.array_equal(data.labels["label"], label)


def table() -> pd.DataFrame:
    """Return a frame of numbers, a label and the names of rows, which are also the index."""
    frame = pd.DataFrame(counts(30, 3), columns=list("abc")).astype({"b": "float32"})
    return frame.assign(kind=["u", "v", ""] * 10, name=[f"r{i}" for i in range(30)])


def in_folder(frame: pd.DataFrame, folder: Path) -> Path:
    for name, part in {"a": frame[:20], "b": frame[20:]}.items():
        part.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


def in_partitions(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_parquet(folder, partition_cols=["name"], index=False)
    return folder


OBJECTS = {
    "pandas": lambda frame, folder: frame,
    "pandas with an index": lambda frame, folder: frame.set_index("name", drop=False),
    "polars": lambda frame, folder: pytest.importorskip("polars").from_pandas(frame),
    "arrow": lambda frame, folder: pytest.importorskip("pyarrow").table(frame),
    "folder": in_folder,
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_are_read_like_a_file_with_the_same_content(kind, tmp_path: Path) -> None:
    frame = table()
    frame.to_csv(tmp_path / "data.csv", index=False)
    options = {"labels": ["kind"], "ids": "name", "drop": ["c"], "split": "shuffled", "binarize": "static"}
    expected = load_dataset(tmp_path / "data.csv", **options)
    dataset = load_dataset(OBJECTS[kind](frame, tmp_path), **options)
    assert (dataset.columns, dataset.fingerprint) == (("a", "b"), expected.fingerprint)
    for name in ("x", "ids"):
        np.testing.assert_array_equal(getattr(dataset, name), getattr(expected, name))
    np.testing.assert_array_equal(dataset.labels["kind"], expected.labels["kind"])
    for name, rows in expected.splits.items():
        np.testing.assert_array_equal(dataset.splits[name], rows)


@pytest.mark.parametrize(
    "frame",
    [
        table().set_index("name"),
        table().set_index(np.arange(7, 37)).drop(columns="name"),
        table().drop(columns="name")[3:],
    ],
)
def test_the_index_of_a_frame_names_its_rows(frame) -> None:
    assert load_dataset(frame, labels=["kind"]).ids.tolist() == frame.index.astype(str).tolist()


def test_folders_of_a_partitioned_table_are_a_column(tmp_path: Path) -> None:
    data = load_dataset(in_partitions(table().drop(columns="kind"), tmp_path), labels=["name"])
    assert sorted(data.labels["name"]) == sorted(table()["name"])
    assert data.columns == ("a", "b", "c")


@pytest.mark.parametrize(
    ("shape", "image_shape"), [((9, 12), None), ((9, 3, 4), (3, 4)), ((9, 1, 3, 4), (3, 4)), ((9, 3, 4, 1), (3, 4))]
)
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, lambda array: StackDataset(torch.from_numpy(array))])
def test_arrays_and_tensors_are_read_like_npy_files(kind, shape, image_shape, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", array)
    expected = load_dataset(tmp_path / "x.npy")
    dataset = load_dataset(kind(array))
    assert dataset.image_shape == expected.image_shape == image_shape
    assert torch.equal(dataset.all_rows().tensor(), expected.all_rows().tensor())
    assert dataset.source is None
    assert dataset.summary().integers


@pytest.mark.parametrize("backed", [None, "r"])
def test_anndata_is_read_like_its_file(backed, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    data = anndata.AnnData(sp.csr_matrix(counts().astype(np.float32)), layers={"half": counts() / 2.0})
    data.obs["kind"] = ["u", "v"] * 20
    data.write_h5ad(tmp_path / "x.h5ad")
    data = anndata.read_h5ad(tmp_path / "x.h5ad", backed=backed)
    for options in ({"labels": ["kind"]}, {"layer": "half"}):
        dataset, expected = load_dataset(data, **options), load_dataset(tmp_path / "x.h5ad", **options)
        assert (dataset.fingerprint, dataset.columns) == (expected.fingerprint, expected.columns)
        assert {name: list(values) for name, values in dataset.labels.items()} == {
            name: list(values) for name, values in expected.labels.items()
        }


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (table(), {}, ValueError, "DataFrame: expected numbers, .* 'kind' holds 'u' in row 1"),
        (
            table(),
            {"labels": ["kin"]},
            ValueError,
            "labels: expected a column of DataFrame, got 'kin'.* did you mean 'kind'",
        ),
        (table(), {"delimiter": ";"}, ValueError, "delimiter: expected a table of text, .* got 'DataFrame'"),
        (table()["a"], {}, ValueError, r"source: expected rows of shape \(N, D\), got \(30,\)"),
        (
            np.ones((5, 3, 4, 4)),
            {},
            ValueError,
            r"ndarray: expected a matrix .* or gray images .* got .* \(5, 3, 4, 4\)",
        ),
        ({"a": [1.0]}, {}, TypeError, "source: expected a tensor or array .* got dict"),
    ],
)
def test_invalid_arguments_are_refused(source, options, error, message) -> None:
    with pytest.raises(error, match=message):
        load_dataset(source, **options)


@pytest.mark.slow
def test_commands_accept_a_folder_of_parquet_files(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.v2").mkdir()
    folder = in_folder(table(), tmp_path / "cells.v2")
    options = ("--labels", "kind", "--ids", "name")
    assert run_cli("gtm", "fit", folder, *options, "--points-per-side", 3) == 0
    run = tmp_path / "runs" / "cells-map"
    assert json.loads((run / "config.json").read_text())["settings"]["data"]["source"] == str(folder)
    assert run_cli("score", run, "--out", folder / "c.parquet") == 2
    assert "--out: expected another file than the data" in capsys.readouterr().err
    (folder / "a.parquet").unlink()
    assert run_cli("score", run, "--out", "scores.csv") == 2
    assert "cells.v2: expected the 30 rows" in capsys.readouterr().err
