"""Output files, read back by other libraries."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from priory.workbench.data import check_output, load_dataset, write_rows

pd = pytest.importorskip("pandas")

IDS = np.array(["007", "b,c", 'q"x'])
COLUMNS = {"score": np.array([0.1, np.nan, -3], np.float32), "k": np.array([2, 0, 1]), "kind": np.array(["", "é", "n"])}
ARRAYS = {"z": np.arange(6, dtype=np.float64).reshape(3, 2) / 3}


@pytest.mark.parametrize("at_once", [2, 10_000])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_written_tables_can_be_read(tmp_path: Path, suffix: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("priory.workbench.data.writing.writers.ROWS_AT_ONCE", at_once)
    path = tmp_path / f"out{suffix}"
    write_rows(path, ids=IDS, columns=COLUMNS, arrays=ARRAYS)
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        back = pd.read_parquet(path)
    else:
        text = {"id": str, "kind": str}
        options = {"dtype": text, "keep_default_na": False, "na_values": {"score": [""]}}
        exact = {} if pd.__version__ >= "3" else {"float_precision": "round_trip"}  # the default of pandas 3
        back = pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",", **exact, **options)
    assert list(back.columns) == ["id", "score", "k", "kind", "z_0", "z_1"]
    assert back["id"].tolist() == IDS.tolist()
    assert np.array_equal(back["score"].to_numpy(np.float32), COLUMNS["score"], equal_nan=True)
    assert back["kind"].tolist() == COLUMNS["kind"].tolist()
    assert np.array_equal(back[["z_0", "z_1"]], ARRAYS["z"])


def test_npz_files_contain_all_columns_without_pickles(tmp_path: Path) -> None:
    images = np.zeros((5, 2, 2))  # more rows than ids: allowed in an archive
    path = tmp_path / "out.npz"
    columns = COLUMNS | {"file": np.array(["a", "b", None], dtype=object)}
    write_rows(path, ids=list(IDS), columns=columns, arrays={**ARRAYS, "images": images})
    with np.load(path, allow_pickle=False) as back:
        assert set(back.files) == {"ids", "score", "k", "kind", "file", "z", "images"}
        assert back["ids"].tolist() == IDS.tolist()
        assert np.array_equal(back["z"], ARRAYS["z"])
        assert back["file"].tolist() == ["a", "b", ""]
    first = path.read_bytes()
    write_rows(path, ids=list(IDS), columns=columns, arrays={**ARRAYS, "images": images})
    assert path.read_bytes() == first


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("copy", [False, True])
def test_formulas_get_an_apostrophe_on_request(tmp_path: Path, suffix: str, copy: bool) -> None:
    formulas = ["=cmd|' /C calc'!A0", "@SUM(A1)", "+A1", "-A1", "\uff1dA1", "\t=A1"]
    plain = ["bee", "-1.5", "+3", "a=b", ""]
    ids, path, template = np.array(formulas + plain), tmp_path / f"out{suffix}", tmp_path / f"t{suffix}"
    write_rows(template, ids=ids, columns={"=n": np.arange(len(ids)) - 1.5})
    options = {"template": template, "ids_column": "id"} if copy else {}
    delimiter = "\t" if suffix == ".tsv" else ","
    for safe in (False, True):
        write_rows(path, ids=ids, columns={"kind": ids}, safe=safe, **options)
        cells = [row[0] for row in read(path, delimiter)[1:]]
        assert cells == ([f"'{cell}" for cell in formulas] if safe else formulas) + plain
    assert ("'=n" in read(path, delimiter)[0]) == copy
    with pytest.raises(ValueError, match=r"--safe-csv: expected an --out that ends in \.csv or \.tsv, got 'o\.npz'"):
        check_output("o.npz", safe=True)


TABLE = 'name,n,size\n"a, long",1,0.50\nb,0,1e3\nc,2,\n'


def read(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def test_a_copy_of_a_csv_keeps_its_cells_as_written(tmp_path: Path) -> None:
    template, out = tmp_path / "t.csv", tmp_path / "o.csv"
    template.write_text(TABLE)
    rows = load_dataset(template, ids="name").all_rows()
    write_rows(out, ids=rows.ids, columns={"s": np.array([1.5, np.nan, 3])}, template=template, ids_column="name")
    assert read(out) == [
        ["name", "n", "size", "s"],
        ["a, long", "1", "0.50", "1.5"],
        ["b", "0", "1e3", ""],
        ["c", "2", "", "3.0"],
    ]
    assert template.read_text() == TABLE


@pytest.mark.parametrize(
    ("ids", "ids_column", "expected"),
    [
        (["c", "b"], "name", ["", "20", "10"]),
        (["2", "0"], "n", ["", "20", "10"]),
        (["0", "1", "2"], None, ["10", "20", "30"]),
    ],
)
def test_rows_are_matched_by_the_named_column_or_by_their_order(
    tmp_path: Path, ids: list[str], ids_column: str | None, expected: list[str]
) -> None:
    template, out = tmp_path / "t.csv", tmp_path / "o.csv"
    template.write_text(TABLE)
    values = np.array([10, 20, 30])[: len(ids)]
    write_rows(out, ids=ids, columns={"s": values}, template=template, ids_column=ids_column)
    assert [row[-1] for row in read(out)[1:]] == expected


@pytest.mark.parametrize(
    ("ids", "ids_column", "message"),
    [
        (["2", "0"], None, "expected the 3 row numbers of t.csv in order, got '2', '0'; name the column"),
        (["0", "2", "1"], None, "expected the 3 row numbers of t.csv in order"),
        (["0", "1", "2", "3"], None, "expected the 3 row numbers of t.csv in order"),
        (["a, long", "b", "c"], None, "name the column that contains them with --ids, or leave --copy out"),
        (["zz"], "name", "each id once in column 'name' of t.csv, got 'zz', of which some are missing"),
        (["b", "b"], "name", "repeated"),
        (["b"], "nam", "--ids: expected a column of t.csv, got 'nam'"),
    ],
)
def test_ids_that_cannot_be_matched_are_refused(
    tmp_path: Path, ids: list[str], ids_column: str | None, message: str
) -> None:
    template, out = tmp_path / "t.csv", tmp_path / "o.csv"
    template.write_text(TABLE)
    with pytest.raises(ValueError, match=message):
        write_rows(out, ids=ids, columns={"s": np.zeros(len(ids))}, template=template, ids_column=ids_column)
    assert not out.exists()


def test_repeated_ids_are_matched_only_by_order(tmp_path: Path) -> None:
    template, out = tmp_path / "t.csv", tmp_path / "o.csv"
    template.write_text("name,n\na,1\na,2\nb,3\n")
    options = {"template": template, "ids_column": "name"}
    write_rows(out, ids=["a", "a", "b"], columns={"s": np.arange(3)}, **options)
    assert [row[-1] for row in read(out)] == ["s", "0", "1", "2"]
    with pytest.raises(ValueError, match=r"each id once in column 'name' of t\.csv, got 'b'"):
        write_rows(out, ids=["b"], columns={"s": np.arange(1)}, **options)


@pytest.mark.parametrize(("ids", "fits"), [("201", True), ("012", False), ("20", False)])
def test_row_names_of_a_table_are_matched_in_order(tmp_path: Path, ids: str, fits: bool) -> None:
    template, out = tmp_path / "t.csv", tmp_path / "o.csv"
    pd.DataFrame({"x": [0.5, 1.5, 2.5]}, index=list("201")).to_csv(template)
    arguments = {"ids": list(ids), "columns": {"s": np.arange(len(ids))}, "template": template}
    if fits:
        write_rows(out, **arguments)
        assert pd.read_csv(out)["s"].tolist() == [0, 1, 2]
    else:
        with pytest.raises(ValueError, match=r"expected the 3 row names of t\.csv in order"):
            write_rows(out, **arguments)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("1;2\n3;4\n", ["x0", "x1", "s"]),
        ("1,2\n3,4\n", ["x0", "x1", "s"]),
        ("a,b\nr1,1,2\nr2,3,4\n", ["", "a", "b", "s"]),
        (",a\nr1,1\nr2,3\n", ["", "a", "s"]),
        ("a;b\n1;2\n3;4\n", ["a", "b", "s"]),
    ],
)
def test_copies_of_all_layouts_can_be_loaded(tmp_path: Path, text: str, header: list[str]) -> None:
    template, out = tmp_path / "t.csv", tmp_path / "o.csv"
    template.write_text(text)
    before = load_dataset(template)
    write_rows(out, ids=before.ids, columns={"s": np.array([8, 9])}, template=template)
    assert read(out, ";" if ";" in text else ",")[0] == header
    after = load_dataset(out)
    assert after.columns == (*before.columns, "s")
    assert after.ids.tolist() == before.ids.tolist()
    assert np.array_equal(after.x, np.column_stack([before.x, [8, 9]]))


@pytest.mark.parametrize("subset", [False, True])
def test_a_copy_of_an_h5ad_has_the_new_columns(tmp_path: Path, subset: bool) -> None:
    anndata = pytest.importorskip("anndata")
    template, out = tmp_path / "t.h5ad", tmp_path / "o.h5ad"
    obs = pd.DataFrame({"barcode": ["A", "B", "C"]}, index=["c0", "c1", "c2"])
    anndata.AnnData(np.eye(3, dtype="f4"), obs=obs).write_h5ad(template)
    ids = np.array(["c2", "c0"] if subset else ["c2", "c0", "c1"])
    n = len(ids)
    columns = {"score": np.arange(n) + 0.5, "k": np.arange(n), "kind": np.array(["u", "v", "w"][:n])}
    write_rows(out, ids=ids, columns=columns, arrays={"z": np.arange(2 * n).reshape(n, 2)}, template=template)
    back = anndata.read_h5ad(out)
    assert np.array_equal(back.X, np.eye(3))
    assert back.obs["barcode"].tolist() == ["A", "B", "C"]
    last = np.nan if subset else 2.5
    assert np.array_equal(back.obs["priory_score"], [1.5, last, 0.5], equal_nan=True)
    assert back.obs["priory_kind"].astype(str).tolist() == ["v", "" if subset else "w", "u"]
    assert back.obsm["X_priory_z"][[0, 2]].tolist() == [[2, 3], [0, 1]]
    assert np.isnan(back.obsm["X_priory_z"][1]).all() == subset
    write_rows(out, ids=["B"], columns={"score": np.array([4.0])}, template=template, ids_column="barcode")
    assert anndata.read_h5ad(out).obs["priory_score"]["c1"] == 4
    write_rows(out, ids=back.obs_names, columns={"s": np.arange(3.0)}, template=template, ids_column="code")
    assert anndata.read_h5ad(out).obs["priory_s"].tolist() == [0, 1, 2]  # a table without the column has its own names
    with pytest.raises(ValueError, match=r"each id once in obs_names of t\.h5ad, got 'zz'"):
        write_rows(out, ids=["zz"], columns={"s": np.zeros(1)}, template=template)
    with pytest.raises(ValueError, match=r"--ids: expected a column of t\.h5ad, got 'code'"):
        write_rows(out, ids=["B"], columns={"s": np.zeros(1)}, template=template, ids_column="code")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("o.csv", {"columns": {"s": np.zeros(3)}}, "s: expected 2 rows"),
        ("o.csv", {"columns": {"s": np.zeros((2, 2))}}, "use arrays"),
        ("o.csv", {"arrays": {"z": np.array([None, 1])}}, "dtype object"),
        ("o.npz", {"columns": {"ids": np.zeros(2)}}, "names other than 'ids', the name of the ids in 'o.npz'"),
        ("o.npz", {"arrays": {"ids": np.zeros(2)}}, "names other than 'ids'"),
        ("o.csv", {"columns": {"id": np.zeros(2)}}, "names other than 'id', the name of the ids in 'o.csv'"),
        ("o.tsv", {"arrays": {"id": np.zeros(2)}}, "names other than 'id'"),
        ("o.parquet", {"columns": {"id": np.zeros(2)}}, "names other than 'id'"),
        ("o.csv", {"columns": {"z_0": np.zeros(2)}, "arrays": {"z": np.zeros((2, 1))}}, "z_0 twice"),
        ("o.csv", {"columns": {"n": np.zeros(2)}, "template": "t.csv"}, "no column named n"),
    ],
)
def test_invalid_outputs_are_refused_by_writers(tmp_path: Path, name: str, options: dict, message: str) -> None:
    (tmp_path / "t.csv").write_text("n\n1\n2\n")
    if "template" in options:
        options = options | {"template": tmp_path / options["template"]}
    with pytest.raises(ValueError, match=message):
        write_rows(tmp_path / name, **({"ids": ["0", "1"], "columns": {}} | options))


OUTPUT_ERRORS = [
    ("o.xlsx", None, r"--out: .*ends in \.npz, \.csv.*got 'o\.xlsx'"),
    ("o.csv.gz", None, "--out: expected a name that ends in"),
    ("o.h5ad", None, "--out: expected an .h5ad file to copy"),
    ("o.h5ad", "t.csv", "--out: 'o.h5ad' would be a copy of the data, .* so it expects .h5ad data, got 't.csv'"),
    ("o.npz", "t.csv", "--copy: expected .csv or .tsv"),
    ("t.csv", "t.csv", "--out: expected another file"),
    ("sub/../t.csv", "t.csv", "--out: expected another file"),
    ("folder.csv", None, "--out: expected a file, got the folder"),
    ("t.csv/deep/o.csv", None, "--out: expected a folder, got the file"),
    ("o.csv", "none.csv", "--copy: expected an existing file"),
]


@pytest.mark.parametrize(("name", "template", "message"), OUTPUT_ERRORS)
def test_invalid_outputs_are_refused_before_any_work(
    tmp_path: Path, name: str, template: str | None, message: str
) -> None:
    (tmp_path / "t.csv").write_text("n\n1\n2\n")
    (tmp_path / "folder.csv").mkdir()
    copied = None if template is None else tmp_path / template
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_output(tmp_path / name, copied)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write_rows(tmp_path / name, ids=["0", "1"], columns={}, template=copied)


def test_missing_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "o.csv"
    check_output(path)
    assert not path.parent.exists()
    write_rows(path, ids=["r"], columns={"s": np.array([1])})
    assert read(path) == [["id", "s"], ["r", "1"]]


@pytest.mark.parametrize(("template", "out"), [("t.csv.gz", "o.csv"), ("t.csv.gz", "o.tsv"), ("t.csv", "o.tsv")])
def test_copies_can_have_another_compression_and_delimiter(tmp_path: Path, template: str, out: str) -> None:
    content = TABLE.encode()
    (tmp_path / template).write_bytes(gzip.compress(content) if template.endswith(".gz") else content)
    check_output(tmp_path / out, tmp_path / template)
    write_rows(tmp_path / out, ids=["0", "1", "2"], columns={"id": np.arange(3)}, template=tmp_path / template)
    back = read(tmp_path / out, "\t" if out.endswith(".tsv") else ",")
    assert back[:2] == [["name", "n", "size", "id"], ["a, long", "1", "0.50", "0"]]


def test_a_failed_write_leaves_the_old_file_and_no_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.csv"
    write_rows(path, ids=["a"], columns={"s": np.ones(1)})
    before = path.read_text()

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("priory._support.files.os.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_rows(path, ids=["b"], columns={"s": np.zeros(1)})
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["o.csv"]


def test_temporary_files_of_killed_writers_are_removed_unless_the_folder_is_locked(tmp_path: Path) -> None:
    leftovers = [tmp_path / f".{name}-{'0' * 32}.csv" for name in "op"]
    for path in leftovers:
        path.write_text("half")
    locked = "import sys, pathlib; from priory._support.locking import sole_writer as s; "
    locked += "lock = s(pathlib.Path(sys.argv[1])); lock.__enter__(); print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", locked, str(tmp_path)], **pipes) as holder:
        holder.stdout.readline()
        write_rows(tmp_path / "o.csv", ids=["a"], columns={"s": np.ones(1)})
        assert all(path.exists() for path in leftovers)
        holder.communicate("")
    write_rows(tmp_path / "o.csv", ids=["a"], columns={"s": np.ones(1)})
    assert set(tmp_path.iterdir()) == {tmp_path / "o.csv", leftovers[1]}
