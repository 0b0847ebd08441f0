"""Tables of text in common layouts, compared with their original values; and the advice of error messages."""

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest

from command_line import QUICK, must_succeed, run_cli
from priory._support.cells import as_text
from priory.workbench.data import constant_columns, load_dataset, write_rows
from priory.workbench.data.precision import lost_digits, require_float32
from priory.workbench.data.reading.header import holds_names, to_number

VALUES = np.random.default_rng(0).normal(size=(12, 4)).round(3)
KINDS = [f"kind{i % 3}" for i in range(12)]


def table(header, rows, delimiter=",", decimal="."):
    """Return the text of a table, written by the csv module."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    cells = [[str(cell).replace(".", decimal) if isinstance(cell, float) else cell for cell in row] for row in rows]
    writer.writerows([*([header] if header else []), *cells])
    return buffer.getvalue()


def with_kinds(values=VALUES):
    return [[*row, kind] for row, kind in zip(values.tolist(), KINDS, strict=True)]


@pytest.fixture
def load(tmp_path):
    """Write a table of text and load it."""

    def load(content, name="t.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_dataset(path, **options)

    return load


# --- text of all types ------------------------------------------------------------------------------------------------

TEXTS = ["bee", "ant", None, "bumblebee"]


TYPES = {
    "object": lambda: object,
    "string": lambda: "string",
    "str": lambda: pd.StringDtype("python", na_value=np.nan),
    "category": lambda: "category",
    "str of arrow": lambda: pd.StringDtype("pyarrow", na_value=np.nan),
    "string of arrow": lambda: "string[pyarrow]",
    "arrow": lambda: pd.ArrowDtype(pytest.importorskip("pyarrow").string()),
}


@pytest.fixture(params=TYPES)
def texts(request):
    """Return columns of text with a missing cell, in all types that pandas has for text."""
    if "arrow" in request.param:
        pytest.importorskip("pyarrow")
    try:
        kind = TYPES[request.param]()
    except TypeError:
        pytest.skip("pandas before 2.3 has no such type")
    return pd.Series(TEXTS, dtype=kind)


def test_text_is_not_cut_and_gaps_are_no_words(texts, tmp_path):
    assert as_text(texts).tolist() == ["bee", "ant", "", "bumblebee"]
    assert as_text(texts).dtype.kind == "U"
    write_rows(tmp_path / "t.csv", ids=texts, columns={"kind": texts})
    assert (tmp_path / "t.csv").read_text() == "id,kind\nbee,bee\nant,ant\n,\nbumblebee,bumblebee\n"


def test_gaps_in_labels_and_ids_of_a_parquet_file(texts, tmp_path):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": range(4), "kind": texts}).to_parquet(tmp_path / "t.parquet")
    assert load_dataset(tmp_path / "t.parquet", labels=["kind"]).labels["kind"].tolist() == [
        "bee",
        "ant",
        "",
        "bumblebee",
    ]
    assert load_dataset(tmp_path / "t.parquet", ids="kind").ids.tolist() == ["bee", "ant", "", "bumblebee"]


def test_missing_cells_among_numbers_bytes_and_dates_become_empty_text():
    assert as_text(np.array([1.0, np.nan])).tolist() == ["1.0", ""]
    assert as_text([b"caf\xc3\xa9", b"", None]).tolist() == ["café", "", ""]
    assert as_text(np.array([0.1], np.float32)).tolist() == ["0.1"]
    assert as_text(pd.to_datetime(pd.Series(["2020-01-02", None]))).tolist()[1] == ""


def test_cells_of_text_are_kept_as_a_csv_has_them(load):
    data = load("id,kind,a\n007,NA,1\nnan,,2\n009,bumblebee,3\n", labels=["kind"], ids="id")
    assert data.ids.tolist() == ["007", "nan", "009"]
    assert data.labels["kind"].tolist() == ["NA", "", "bumblebee"]


# --- the first line ---------------------------------------------------------------------------------------------------

COUNTS = np.random.default_rng(1).integers(0, 5000, (12, 4))
HEADERS = [
    ("wavelengths", [1100, 1102, 1104, 1106], VALUES),
    ("decimal wavelengths", [1100.5, 1102.5, 1104.5, 1106.5], VALUES),
    ("descending", [4000, 3998, 3996, 3994], VALUES),
    ("years", [2019, 2020, 2021, 2022], COUNTS),  # the counts have such values, too
    ("some years", [1990, 2000, 2005, 2022], COUNTS),
    ("far from all values", [400, 900, 650, 700], VALUES),
    ("numbers of columns", [0, 1, 2, 3], VALUES),
    ("names", ["a", "b", "c", "d"], VALUES),
    ("a name among numbers", ["site", 10, 20, 15], VALUES),
    ("names with digits", ["2nd", "3-methyl", "1,2-diol", "4"], VALUES),
]


@pytest.mark.parametrize("with_text", [False, True])
@pytest.mark.parametrize(("header", "values"), [pytest.param(*rest, id=name) for name, *rest in HEADERS])
def test_a_header_is_recognized(header, values, with_text, load):
    rows = with_kinds(values) if with_text else values.tolist()
    if with_text and header == [0, 1, 2, 3]:
        pytest.skip("with a name beside them, these numbers are a first row as well as names")
    data = load(table([*header, "species"] if with_text else header, rows), labels=["species"] if with_text else [])
    assert data.columns == tuple(map(str, header))
    np.testing.assert_allclose(data.x, values, rtol=1e-6)
    assert data.notes[0] == "the first line holds names (if it is data: --no-header)"


TABLES = {
    "normal": lambda rng: rng.normal(size=(30, 4)),
    "one column": lambda rng: rng.normal(size=(30, 1)),
    "counts": lambda rng: rng.poisson(3, (30, 6)),
    "grades": lambda rng: rng.integers(1, 6, (30, 5)),
    "lognormal": lambda rng: rng.lognormal(sigma=1.5, size=(30, 3)),
    "heavy tails": lambda rng: rng.standard_cauchy(size=(30, 3)),
    "binary": lambda rng: rng.integers(0, 2, (30, 8)),
    "sorted": lambda rng: np.sort(rng.random((30, 2)), axis=0),
    "a walk": lambda rng: rng.normal(size=(30, 3)).cumsum(0),
    "columns of growing size": lambda rng: rng.normal(size=(30, 6)) + 10.0 ** np.arange(6),
    "days": lambda rng: np.column_stack([2459000.5 + np.arange(30), rng.normal(size=30)]),
    "years": lambda rng: np.column_stack([np.arange(1990, 2020), np.arange(1991, 2021), rng.normal(size=30)]),
    "four rows": lambda rng: rng.normal(size=(4, 4)),
}


@pytest.mark.parametrize("table_of", TABLES.values(), ids=TABLES)
def test_a_first_row_of_data_is_recognized(table_of):
    for seed in range(100):
        first, *below = [list(map(str, row)) for row in table_of(np.random.default_rng(seed)).tolist()]
        assert holds_names(first, below, to_number) is False


def test_a_first_row_with_text_is_recognized(load):
    data = load(table(None, with_kinds()), labels=["x4"])
    np.testing.assert_allclose(data.x, VALUES, rtol=1e-6)
    assert data.labels["x4"].tolist() == KINDS
    assert data.notes == ("no names, the first line is data (if it holds names: --header)",)


def test_a_first_row_with_missing_cells_is_recognized(load):
    assert load("5.1,NA,?,red\n4.9,2,3,blue\n4.7,1,2,red\n", labels=["x3"], missing=["?"]).x.shape == (3, 3)


@pytest.mark.parametrize("header", [[2019, 2020], [150.5, 30]])
def test_an_ambiguous_first_line_is_refused(header, load):
    text = table(header, VALUES[:, :2].tolist())
    with pytest.raises(ValueError, match=r"one that may be both \(.*\); give --header for names, or --no-header"):
        load(text)
    assert load(text, header=True).x.shape == (12, 2)
    assert load(text, header=False).x.shape == (13, 2)


def test_a_header_with_the_columns_of_a_model_is_recognized(load):
    one_row = "10,30,20\n7,1,40\n"
    assert load(one_row, known_columns=["10", "20", "30"]).columns == ("10", "30", "20")
    assert load("2019,2020\n1,2\n", known_columns=["x0", "x1"]).x.shape == (2, 2)


# --- delimiters, decimal marks, comments, encodings -------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("header", [["a", "b", "c", "d", "kind"], None])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_delimiters_and_decimal_marks_are_recognized(delimiter, decimal, header, name, load):
    text = table(header, with_kinds(), delimiter, decimal)
    options = {"decimal": ","} if delimiter == decimal == "," else {}  # in quotation marks
    if options and header is None:
        options["header"] = False
    data = load(text, name=name, labels=["kind" if header else "x4"], **options)
    np.testing.assert_allclose(data.x, VALUES, rtol=1e-6)
    assert data.labels["kind" if header else "x4"].tolist() == KINDS
    usual = delimiter == ("\t" if name == "t.tsv" else ",")
    assert any(note.startswith("delimiter") for note in data.notes) != usual
    assert any(note.startswith("decimal commas") for note in data.notes) == (decimal == "," and not options)


def test_late_decimal_commas_are_recognized_and_those_of_labels_are_kept(load):
    data = load("a;b;y\n" + "1;2;3\n" * 500 + "1,5;3;2,5\n", labels=["y"])
    assert data.x[-1].tolist() == [1.5, 3]
    assert data.labels["y"][-1] == 2.5
    assert np.isnan(load("a;b\n1,5;?\n2;2,5\n", missing=["?"]).x[0, 1])


def test_tables_of_rs_write_csv2_and_write_table_are_read(load):
    assert load('"";"a";"b"\n"r1";1,5;2\n"r2";2,5;NA\n').ids.tolist() == ["r1", "r2"]
    assert load('"a" "b"\n"r1" 1.5 2\n"r2" 2.5 3\n').ids.tolist() == ["r1", "r2"]


@pytest.mark.parametrize(
    ("before", "note"),
    [
        ("# from the lab\n# on Monday, by hand\n", "2 comment lines skipped"),
        ("sep=;\n", "the line sep= skipped"),
        ("\ufeffsep=;\r\n", "the line sep= skipped"),
        ("\n# one\n\n", "1 comment line skipped"),
    ],
)
def test_lines_before_the_table_are_skipped(before, note, load):
    data = load(f"{before}a;b\n1;2\n3;4\n")
    assert (data.columns, data.x.tolist()) == (("a", "b"), [[1, 2], [3, 4]])
    assert note in data.notes


def test_names_of_columns_may_be_in_a_comment(load):
    data = load("# made by numpy\n# width,height\n1.5,2\n3,4\n")
    assert (data.columns, data.x.tolist()) == (("width", "height"), [[1.5, 2], [3, 4]])
    assert load("#SampleID,a\ns1,2\ns2,3\n", ids="#SampleID").ids.tolist() == ["s1", "s2"]
    assert load("#a,#b\n#1,2\n#2,3\n", ids="#a").ids.tolist() == ["#1", "#2"]  # no comments


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_are_recognized(encoding, load):
    text = "kind,a\nb,1\nc,2\n" if encoding.endswith("e") else "größe,a\né,1\nü,2\n"
    data = load(text.encode(encoding), labels=[text.partition(",")[0]])
    assert next(iter(data.labels.values())).tolist() == [text.split("\n")[1][0], text.split("\n")[2][0]]


def test_columns_of_the_same_name_give_a_note(load):
    data = load("a,a,b,b,b\n1,2,3,4,5\n")
    assert data.columns == ("a", "a.1", "b", "b.1", "b.2")
    assert "columns of the same name renamed: 'a' (2 times; now a, a.1, ...), 'b' (3 times" in data.notes[1]


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_columns_of_the_same_name_in_an_h5ad_give_a_note(tmp_path):
    anndata = pytest.importorskip("anndata")
    made = anndata.AnnData(np.arange(6.0).reshape(2, 3), var=pd.DataFrame(index=["g", "h", "g"]))
    made.write_h5ad(tmp_path / "t.h5ad")
    data = load_dataset(tmp_path / "t.h5ad")
    assert data.columns == ("g", "h", "g.1")
    assert "'g' (2 times" in data.notes[0]
    assert load_dataset(tmp_path / "t.h5ad", drop=["g"]).x.tolist() == [[1, 2], [4, 5]]


# --- refusals ---------------------------------------------------------------------------------------------------------

TEXT_COLUMNS = table(["name", "kind", "note", "v"], [[f"n{i}", "ab"[i % 2], f"t{i // 2}", float(i)] for i in range(12)])
IDS_AND_TEXT = table(["id no", "text", "v"], [[f"n{i}", f"t{i * 2 // 3}", float(i)] for i in range(12)])
REFUSALS = [
    ("a,b\n1,?\n2,3\n", "'b' holds '?' in row 1 (1 of 2 values are not numbers), a mark of", "--missing '?'"),
    ("a,b\n1,4\n2,-\n", "'b' holds '-' in row 2", "--missing=-"),
    ("a,b\n1,<0.05\n2,3\n", "a limit of detection: write a value such as half of it", "--missing '<0.05'"),
    ('a,b\n1,"2,899.37"\n2,"1,000.5"\n', "'2,899.37' in row 1", "commas between thousands: remove them"),
    ("a\tb\n1\t2,899\n2\t1,024\n", "commas between thousands, or a decimal comma", "--decimal ,"),
    ("a;b\n1.234,56;2\n2.000,10;3\n", "'1.234,56' in row 1", "points between thousands: remove them"),
    ("a;b\n1.5;2,5\n3.5;4,5\n", "'b' holds '2,5' in row 1", "a decimal comma: write a decimal point"),
    ('a,b\n"1,5",1\n"2,5",2\n', "a decimal comma", "--decimal ,"),
    ("a,b\n[m],[s]\n1,2\n3,4\n", "The first row is probably a line of units", "remove it"),
    ("a,b\nm,-\n1,2\n3,4\n", "The first row is probably a line of units", "remove it"),
    ("a,b\n1.0D+01,2\n2,3\n", "'1.0D+01' in row 1", "write E in place of D"),
    ("a,b\n1.0,\u22122\n2,3\n", "a minus sign that is no hyphen", "replace it by -"),
    ("a,b\n1,5%\n2,3%\n", "a number with a unit", "move the unit into the name"),
    ("a,b\n1,oops\n2,3\n3,4\n", "Correct them", "for this file perhaps --missing oops"),
    (TEXT_COLUMNS, "Correct them", "for this file perhaps --ids name --labels kind --labels note"),
    (IDS_AND_TEXT, "Correct them", "for this file perhaps --ids 'id no' --drop text"),
    ("größe,b\n1,2\n3,4\n".encode("latin-1"), "got the byte 0xF6 in line 1, 'ö' in Latin-1", "iconv -f WINDOWS-1252"),
    ("a,b\n1,2\n# the end\n", "line 3: expected 2 fields", "remove this line, which looks like a comment"),
]


@pytest.mark.parametrize(("text", "cause", "cure"), REFUSALS)
def test_an_error_names_the_cause_and_suggests_a_remedy(text, cause, cure, load):
    with pytest.raises(ValueError, match=re.escape(cause)) as caught:
        load(text)
    assert cure in str(caught.value)
    if "perhaps" not in str(caught.value) and "Correct" not in str(caught.value):
        assert "--labels" not in str(caught.value)


def test_the_suggested_remedies_work(load):
    assert np.isnan(load("a,b\n1,?\n2,-\n3,4\n", missing=["?", "-"]).x[:2, 1]).all()
    assert load('a,b\n"1,5",1\n"2,5",2\n', decimal=",").x[0].tolist() == [1.5, 1]
    assert load("a\tb\n1\t2,899\n2\t1,024\n", decimal=",").x[:, 1].tolist() == pytest.approx([2.899, 1.024])
    assert load("a:b\n1:2\n3:4\n", delimiter=":").x.tolist() == [[1, 2], [3, 4]]
    assert load("kind,a\n?,1\nb,2\n", labels=["kind"], missing=["?"]).labels["kind"].tolist() == ["", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": "ab"}, "delimiter: expected one character"),
        ({"missing": "?"}, r"missing: expected a list of names, got the text '\?'"),
    ],
)
def test_invalid_text_options_are_refused(options, message, load):
    with pytest.raises((ValueError, TypeError), match=f"{message}|Type-check error"):
        load("a,b\n1,2\n", **options)


def test_options_of_text_are_refused_for_other_data(tmp_path):
    np.save(tmp_path / "t.npy", VALUES)
    for source in (tmp_path / "t.npy", "digits"):
        with pytest.raises(
            ValueError, match=r"decimal: expected a table of text, \.csv or \.tsv, got .*; leave --decimal"
        ):
            load_dataset(source, decimal=",")


# --- digits -----------------------------------------------------------------------------------------------------------

ROWS = 40
CLOSE = {
    "northing": 5.6e6 + np.linspace(-1, 1, ROWS),
    "time": 1.6e9 + np.arange(ROWS),
    "julian": 2459000.5 + np.linspace(0, 3, ROWS),
    "tiny": 1e-50 * np.arange(1, ROWS + 1),
}
FORMATS = ("csv", "npy", "npz", "parquet", "h5ad", "sparse.npz")


def save(path, values):
    frame = pd.DataFrame(values, columns=[f"c{i}" for i in range(values.shape[1])])
    if path.name.endswith("sparse.npz"):
        sparse = pytest.importorskip("scipy.sparse")
        sparse.save_npz(path, sparse.csr_matrix(values))
    elif path.suffix == ".h5ad":
        pytest.importorskip("anndata").AnnData(values).write_h5ad(path)
    else:
        writers = {".csv": lambda: frame.to_csv(path, index=False), ".parquet": lambda: frame.to_parquet(path)}
        writers |= {".npy": lambda: np.save(path, values), ".npz": lambda: np.savez(path, x=values)}
        writers[path.suffix]()
    return path


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("name", CLOSE)
def test_all_digits_are_read(name, ending, tmp_path):
    values = np.column_stack([CLOSE[name], np.random.default_rng(0).normal(size=ROWS)])
    data = load_dataset(save(tmp_path / f"t.{ending}", values))
    x = data.x if isinstance(data.x, np.ndarray) else data.x.toarray()
    np.testing.assert_allclose(x, values, rtol=1e-15)  # pandas rounds in the last place
    assert constant_columns(data.all_rows()) == {}
    left = len({*values[:, 0].astype(np.float32).tolist()})
    assert f"'{data.columns[0]}' ({left} of {ROWS} distinct values left)" in lost_digits(data)
    if left <= ROWS / 2:
        with pytest.raises(ValueError, match=rf"'{data.columns[0]}' \({left} of {ROWS} distinct values left\)"):
            require_float32(data)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_a_column_with_one_other_value_is_not_constant(dtype, tmp_path):
    values = np.full((5000, 2), 1.6e9).astype(dtype)
    values[:, 1] = np.arange(5000)
    values[3001, 0] += 1
    np.save(tmp_path / "t.npy", values)
    data = load_dataset(tmp_path / "t.npy")
    assert constant_columns(data.all_rows()) == {}
    with pytest.raises(ValueError, match=r"'x0' \(1 of 2 distinct values left\)"):
        require_float32(data)


def test_columns_that_float32_distinguishes_stay_float32(tmp_path):
    rng = np.random.default_rng(0)
    values = np.column_stack(
        [rng.normal(size=500), 20 + rng.random(500), np.tile([0.3, 0.1 + 0.2], 250), np.full(500, 0.1)]
    )
    np.save(tmp_path / "t.npy", values)
    data = load_dataset(tmp_path / "t.npy")
    assert data.x.dtype == np.float32
    assert lost_digits(data) == ""
    require_float32(data)


@pytest.fixture
def done(capsys, tmp_path, monkeypatch):
    """Run a command that must succeed with an empty stderr; return its output."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: must_succeed(capsys, *arguments)


SMALL_MAP = ("--points-per-side", 4, "--basis-per-side", 2, "--max-iter", 3)


def test_a_map_uses_all_digits(done, tmp_path, monkeypatch):
    """Map and scores equal those of centered values; samples have the digits, too."""
    monkeypatch.setattr("warnings.warn", lambda *_, **__: None)  # EM still moves
    rng = np.random.default_rng(0)
    near = np.column_stack([rng.normal(size=ROWS), rng.normal(size=ROWS)])
    far = near + np.array([5.6e6, 1.6e9])
    for name, values in (("near", near), ("far", far)):
        pd.DataFrame(values, columns=["a", "b"]).to_csv(f"{name}.csv", index=False)
        pd.DataFrame(values[:1], columns=["a", "b"]).to_csv(f"{name}1.csv", index=False)
        assert run_cli("gtm", "fit", f"{name}.csv", "--set", "model.tol=0.5", *SMALL_MAP, "--out", name) == 0
        for part in ("", "1"):
            done("score", name, f"{name}{part}.csv", "--out", f"s-{name}{part}.csv")
    for part in ("", "1"):
        scores = [pd.read_csv(f"s-{name}{part}.csv")["log_likelihood"] for name in ("near", "far")]
        np.testing.assert_allclose(*scores, atol=1e-3)
    done("sample", "far", "-n", 50, "--out", "x.csv")
    assert pd.read_csv("x.csv")["b"].nunique() == 50


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_run_reads_new_rows_with_the_options_of_its_data(done, tmp_path):
    values = np.random.default_rng(0).normal(size=(ROWS, 4)).round(3)
    rows = [[f"=id{i}", *row] for i, row in enumerate(values.tolist())]
    (tmp_path / "t.csv").write_text("# lab\n" + table(["name", 10, 30, 20, 40], rows, ";", ","))
    output = done("fit", "t.csv", "--ids", "name", *QUICK, "--out", "run")
    assert "read: the first line holds names" in output
    assert "delimiter ';'; 1 comment line skipped; decimal commas" in output
    (tmp_path / "new.csv").write_text(table(["name", 40, 10, 30, 20], rows[:1], ";", ","))
    done("score", "run", "new.csv", "--out", "s.csv", "--safe-csv")
    assert pd.read_csv("s.csv")["id"].tolist() == ["'=id0"]
    new = pd.DataFrame(values, columns=["10", "30", "20", "40"]).assign(name=[row[0] for row in rows])  # the same noise
    new.to_parquet("new.parquet")
    done("score", "run", "new.parquet", "--samples", 2, "--out", "p.csv")
    done("score", "run", "--copy", "--samples", 2, "--out", "copy.csv")
    copied = load_dataset("copy.csv", ids="name")
    assert copied.columns == ("10", "30", "20", "40", "log_likelihood")
    np.testing.assert_allclose(copied.x[:, :4], values, rtol=1e-6)
    np.testing.assert_allclose(copied.x[:, 4], pd.read_csv("p.csv")["log_likelihood"], rtol=1e-5)
