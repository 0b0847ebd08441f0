"""The report's page, read back by the standard library's HTML parser, and its parts by zlib and matplotlib."""

import base64
import io
import json
import math
import sys
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

pytest.importorskip("plotly")
pytest.importorskip("matplotlib")

from matplotlib.image import imread

from priory.plots.classes import MOST_STYLES
from priory.workbench.report import (
    MapContents,
    Metric,
    NodeContents,
    Picture,
    ReportContents,
    Table,
    render_report,
    write_report,
)
from priory.workbench.report.budget import LIMIT, seeded_subset
from priory.workbench.report.encoding import json_for_html, quantized
from priory.workbench.report.labels import label_part
from priory.workbench.report.map_data import map_data
from priory.workbench.report.rows import column_moments
from priory.workbench.report.thumbnails import gray_tiles, sprite_sheet

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> & \u2028\u2029 \"'` {{ 7 * 7 }} =1+1"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


class Page(HTMLParser):
    """Elements with their attributes, and the text of each."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.open = [], [], ""
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, **wanted):
        (found,) = (
            text for (_, have), text in zip(self.elements, self.texts, strict=True) if wanted.items() <= have.items()
        )
        return found


def unpacked(part):
    data = zlib.decompress(base64.b64decode(part["data"]))
    if part["type"] == "text":
        return json.loads(data)
    values = np.frombuffer(data, dtype="<" + part["type"])
    if "missing" not in part:
        return values
    return np.where(values == part["missing"], np.nan, part["low"] + part["step"] * values.astype(float))


def grid(side):
    line = np.linspace(-1, 1, side)
    return np.array([[u, v] for u in line for v in line])


def a_map(num_rows=30, num_columns=6, **others):
    random = np.random.default_rng(0)
    x = random.normal(size=(num_rows, num_columns)) * np.arange(1, num_columns + 1)
    given = {
        "places": random.uniform(-1, 1, (num_rows, 2)),
        "ids": [f"row {i}" for i in range(num_rows)],
        "labels": {"kind": random.choice(["a", "b"], num_rows)},
        "score": random.normal(size=num_rows),
        "x": x,
        "columns": [f"c{i}" for i in range(num_columns)],
        "nodes": NodeContents(grid(3), random.normal(size=(9, num_columns)), {"usage": random.random(9)}),
    }
    return MapContents(**given | others)


def test_the_page_holds_every_row_as_it_was_given():
    contents = a_map()
    page = Page(render_report(ReportContents("title", map=contents)))
    data = json.loads(page.text(id="map-data"))
    assert unpacked(data["ids"]) == contents.ids
    for axis in range(2):
        np.testing.assert_array_equal(unpacked(data["places"][axis]), contents.places[:, axis].astype(np.float32))
    np.testing.assert_array_equal(unpacked(data["score"]["numbers"]), contents.score.astype(np.float32))
    (label,) = data["labels"]
    kinds, kind = unpacked(label["kinds"]), unpacked(label["kind"])
    assert [kinds[k] for k in kind] == contents.labels["kind"].tolist()
    for i, column in enumerate(data["columns"]):
        np.testing.assert_array_equal(unpacked(column["rows"]), contents.x[:, i].astype(np.float32))
        np.testing.assert_array_equal(unpacked(column["nodes"]), contents.nodes.contents[:, i].astype(np.float32))
        assert (column["mean"], column["scale"]) == pytest.approx((contents.x[:, i].mean(), contents.x[:, i].std()))
    assert data["notes"] == []
    assert data["nodes"]["side"] == 3


def test_rows_at_one_place_are_drawn_apart_and_keep_their_place():
    data = map_data(a_map(places=np.zeros((30, 2))), 100_000)
    true, shown = (np.stack([unpacked(part) for part in data[name]], axis=1) for name in ("places", "shown"))
    assert not true.any()
    assert len(np.unique(shown.round(4), axis=0)) == 30
    assert np.linalg.norm(shown, axis=1).max() < 0.5  # half of the nodes' distance


def test_names_of_every_kind_stay_text():
    contents = a_map(
        ids=[HOSTILE] * 30, labels={HOSTILE: np.array([HOSTILE] * 30)}, columns=[HOSTILE] * 6, score_name=HOSTILE,
        axes=(HOSTILE, HOSTILE), nodes=NodeContents(grid(3), np.zeros((9, 6)), {HOSTILE: np.zeros(9)}),
    )  # fmt: skip
    everything = ReportContents(
        HOSTILE, [(HOSTILE, HOSTILE)], [Metric(HOSTILE, 1.0, 0.1, HOSTILE)], contents, [Picture(HOSTILE, HOSTILE, SVG)],
        [HOSTILE],
    )  # fmt: skip
    harmless = ReportContents("t", [("t", "t")], [Metric("t", 1.0, 0.1, "t")], a_map(), [Picture("t", "t", SVG)], ["t"])
    page, plain = Page(render_report(everything)), Page(render_report(harmless))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.text(id="map-heading").strip() == "The map"
    assert json.loads(page.text(id="map-data"))["labels"][0]["name"] == HOSTILE
    assert page.texts[[tag for tag, _ in page.elements].index("h1")].strip() == HOSTILE
    assert page.all("img")[0]["alt"] == f"{HOSTILE}: {HOSTILE}"


def test_json_has_no_character_that_a_page_could_take_for_markup():
    written = json_for_html({HOSTILE: [HOSTILE, "\ud800"]})
    assert json.loads(written) == {HOSTILE: [HOSTILE, "\ud800"]}
    assert written.isascii()
    assert not set("<>&") & set(written)


def test_texts_that_are_no_unicode_are_written_all_the_same():
    assert b"a?b" in render_report(ReportContents("a\ud800b"))


def test_the_page_uses_no_network():
    page = Page(render_report(ReportContents("t", map=a_map(), pictures=[Picture("t", "c", SVG)])))
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline' " not in policy.split("style-src")[0]
    assert "http" not in policy
    sources = [value for _, have in page.elements for name, value in have.items() if name in ("src", "href", "action")]
    assert sources
    assert all(source.startswith("data:") for source in sources)


def test_a_page_without_a_map_has_no_script():
    page = render_report(ReportContents("t", metrics=[Metric("m", 1.0, None, "r")]))
    assert not Page(page).all("script")
    assert b"script-src 'none'" in page
    assert len(page) < 20_000


@pytest.mark.parametrize(
    ("value", "se", "expected"),
    [
        (92.4412, 0.4131, ("92.44", "0.41")),
        (-1234.5, 61.0, ("\N{MINUS SIGN}1234", "61")),  # half to even
        (0.96314, 0.0021, ("0.9631", "0.0021")),
        (1.0000000229, 3e-16, ("1", "3e\N{MINUS SIGN}16")),  # rounding is no error to print sixteen digits for
        (0.5, None, ("0.5", "")),
        (0.5, 0.0, ("0.5", "0")),
        (math.nan, math.nan, ("nan", "nan")),
    ],
)
def test_a_number_has_as_many_digits_as_its_error(value, se, expected):
    page = Page(render_report(ReportContents("t", metrics=[Metric("m", value, se, "r")])))
    cells = [text for (tag, _), text in zip(page.elements, page.texts, strict=True) if tag in ("td", "span")]
    found = cells[0], "".join(cells[1:-1]).replace("±\xa0", "").strip(), cells[-1].strip()
    assert found == (*expected, "r")


@pytest.mark.parametrize(("kind", "levels"), [("u1", 254), ("u2", 65534)])
def test_quantized_numbers_are_off_by_half_a_step_at_most(kind, levels):
    values = np.random.default_rng(0).normal(size=500) * 1e3 + 7
    values[3] = np.nan
    found = unpacked(quantized(values, kind))
    step = (np.nanmax(values) - np.nanmin(values)) / levels
    assert np.isnan(found[3])
    known = np.isfinite(values)
    assert np.abs(found - values)[known].max() <= step / 2 * (1 + 1e-9)
    assert found[known].min() == values[known].min()


@pytest.mark.parametrize("values", [[5.0, 5.0], [np.nan, np.nan], [-8e307, 8e307], [3.0, np.inf]])
def test_odd_ranges_are_quantized(values):
    found = unpacked(quantized(np.array(values), "u1"))
    np.testing.assert_allclose(found, np.where(np.isfinite(values), values, np.nan), rtol=1e-12)


def test_moments_of_every_matrix_type_equal_numpys():
    x = np.random.default_rng(0).poisson(0.7, (400, 12)).astype(np.float64) + 0.0
    for rows in (x, csr_matrix(x), torch.from_numpy(x), torch.from_numpy(x).bfloat16(), x.astype(np.uint8)):
        found = column_moments(a_map(400, 12, x=rows).x)
        for mine, numpys in zip(found, (x.mean(0), x.std(0), x.min(0), x.max(0)), strict=True):
            np.testing.assert_allclose(mine, numpys, rtol=1e-12)


def test_moments_leave_missing_values_out():
    x = np.random.default_rng(0).normal(1e8, 1.0, (300, 4))
    x[::3, 1], x[:, 3] = np.nan, np.nan
    found = column_moments(x)
    np.testing.assert_allclose(found.scale[:3], np.nanstd(x[:, :3], axis=0), rtol=1e-6)
    assert [each[3] for each in found] == [0, 0, 0, 0]
    sparse = csr_matrix([[0.0, np.nan], [4.0, 3.0], [0.0, 0.0]])
    np.testing.assert_allclose(column_moments(sparse).mean, [4 / 3, 1.5])


def test_moments_of_huge_numbers_are_finite():
    x = np.full((30, 6), -1e308)
    x[::2] = 1e308
    data = json.loads(Page(render_report(ReportContents("t", map=a_map(x=x)))).text(id="map-data"))
    assert data["columns"][0]["scale"] > 1e307


def test_the_most_frequent_of_many_classes_have_groups():
    values = np.repeat([f"k{i}" for i in range(20)] + [""], [*range(1, 21), 4])
    part = label_part("kind", values)
    own = [group for group in part["groups"] if group["own"]]
    assert {group["name"] for group in own} == {f"k{i}" for i in range(9, 20)}
    assert len(own) == MOST_STYLES - 1
    assert part["groups"][-2:] == [
        {"name": "9 others", "count": sum(range(1, 10)), "own": False},
        {"name": "none", "count": 4, "own": False},
    ]
    kinds, group = unpacked(part["kinds"]), unpacked(part["group"])
    for i, kind in enumerate(kinds):
        expected = kind if int(kind[1:] or -1) >= 9 else "9 others" if kind else "none"
        assert part["groups"][group[i]]["name"] == expected


def test_whole_numbers_are_classes_and_others_are_measurements():
    assert [g["name"] for g in label_part("k", np.array([10, 9, 9]))["groups"]] == ["9", "10"]
    assert [g["name"] for g in label_part("k", np.array([1.0, np.nan]))["groups"]] == ["1", "none"]
    assert [g["name"] for g in label_part("k", np.array(["--5", "3", "-4"]))["groups"]] == ["-4", "3", "--5"]
    assert "numbers" in label_part("k", np.array([0.5, 1.0]))
    assert "numbers" in label_part("k", np.arange(51))


def test_each_tile_of_a_sheet_is_its_image():
    tiles = np.random.default_rng(0).integers(0, 256, (11, 3, 5), dtype=np.uint8)
    sheet = sprite_sheet(tiles)
    pixels = np.rint(imread(io.BytesIO(base64.b64decode(sheet["png"]))) * 255)
    for i, tile in enumerate(tiles):
        top, left = 3 * (i // sheet["across"]), 5 * (i % sheet["across"])
        np.testing.assert_array_equal(pixels[top : top + 3, left : left + 5], tile)


def test_a_sheet_of_nodes_lies_as_the_map_does():
    tiles = (np.arange(9, dtype=np.uint8) * 20).reshape(9, 1, 1)
    sheet = sprite_sheet(tiles, side=3)
    pixels = np.rint(imread(io.BytesIO(base64.b64decode(sheet["png"]))) * 255)[::2, ::2]  # tile, gap, tile, ...
    # node 1 is (u_1, u_2) = (-1, 0): the left column, the middle line; node 2, (-1, 1), the top left
    np.testing.assert_array_equal(pixels, [[40, 100, 160], [20, 80, 140], [0, 60, 120]])


def test_gray_values_are_clipped_and_large_images_are_shrunk():
    found = gray_tiles(np.array([[-1.0, 0.0, 8.0, 99.0]]), (2, 2), 0.0, 16.0)
    np.testing.assert_array_equal(found, [[[0, 0], [128, 255]]])
    large = np.kron(np.array([[0.0, 1.0], [1.0, 0.0]]), np.ones((100, 50)))
    small = gray_tiles(large.reshape(1, -1), (200, 100), 0.0, 1.0)
    assert small.shape == (1, 50, 25)
    assert (small[0, :25, :12] == 0).all()
    assert (small[0, :25, 13:] == 255).all()


def test_too_many_thumbnails_become_a_noted_random_subset():
    x = np.random.default_rng(0).integers(0, 256, (2000, 64))
    contents = a_map(2000, 64, x=x, image_shape=(8, 8), nodes=None)
    data = map_data(contents, 150_000)
    assert len(json_for_html(data)) <= 150_000
    rows = unpacked(data["sheet"]["rows"])
    assert 100 < len(rows) < 2000
    np.testing.assert_array_equal(rows, seeded_subset(2000, len(rows)))
    assert f"{len(rows)} of 2000 rows have a thumbnail" in data["notes"][0]
    pixels = np.rint(imread(io.BytesIO(base64.b64decode(data["sheet"]["png"]))) * 255)
    i, across = 77, data["sheet"]["across"]
    tile = pixels[8 * (i // across) : 8 * (i // across) + 8, 8 * (i % across) : 8 * (i % across) + 8]
    np.testing.assert_array_equal(tile.ravel(), x[rows[i]])


@pytest.mark.parametrize(("bytes_left", "kind"), [(600_000, "f4"), (320_000, "u2"), (200_000, "u1")])
def test_decoded_means_of_nodes_are_in_the_page_to_its_precision(bytes_left, kind):
    random = np.random.default_rng(0)
    decoded = random.uniform(-3, 19, (9, 20))
    contents = a_map(3000, 20, image_shape=(4, 5), low=0.0, high=16.0, nodes=NodeContents(grid(3), decoded))
    data = map_data(contents, bytes_left)
    assert data["columns"][0]["rows"]["type"] == kind
    for column in data["columns"]:
        values = decoded[:, int(column["name"][1:])]
        half_a_step = np.ptp(values) / 65534 / 2 if kind != "f4" else 2**-24 * np.abs(values).max()
        np.testing.assert_allclose(unpacked(column["nodes"]), values, rtol=0, atol=half_a_step * (1 + 1e-9))
    pixels = 255 * imread(io.BytesIO(base64.b64decode(data["node_sheet"]["png"])))
    gap = data["node_sheet"]["gap"]
    for node, values in enumerate(decoded):
        top, left = (2 - node % 3) * (4 + gap), node // 3 * (5 + gap)
        gray = 255 * np.clip(values / 16, 0, 1)
        np.testing.assert_allclose(pixels[top : top + 4, left : left + 5].ravel(), gray, rtol=0, atol=0.5 + 1e-4)


def test_too_many_columns_become_a_noted_subset_that_varies_most():
    contents = a_map(1000, 200)  # column i has the scale i + 1
    data = map_data(contents, 120_000)
    kept = [column["name"] for column in data["columns"]]
    assert len(json_for_html(data)) <= 120_000
    assert 20 < len(kept) < 200
    assert min(contents.x.std(0)[int(name[1:])] for name in kept) >= np.sort(contents.x.std(0))[-len(kept)]
    assert f"{len(kept)} of the 200 columns" in " ".join(data["notes"])


def test_ids_that_do_not_fit_become_numbers_with_a_note():
    ids = [np.random.default_rng(i).bytes(100).hex() for i in range(1000)]
    data = map_data(a_map(1000, ids=ids), 80_000)
    assert len(json_for_html(data)) <= 80_000
    assert unpacked(data["ids"]) == [str(i) for i in range(1000)]
    assert "ids are left out: they would make the file too large" in data["notes"][0]


@pytest.mark.parametrize("bytes_left", [60_000, 80_000, 150_000, 400_000])
@pytest.mark.parametrize("image_shape", [None, (4, 5)])
def test_whatever_does_not_fit_is_left_out(bytes_left, image_shape):
    random = np.random.default_rng(0)
    names = np.array([random.bytes(30).hex() for _ in range(1000)])
    nodes = NodeContents(grid(15), random.normal(size=(225, 20)), {"usage": random.random(225)})
    labels = {"first": names, "second": names[::-1], "third": random.random(1000)}
    contents = a_map(1000, 20, ids=names, labels=labels, image_shape=image_shape, nodes=nodes)
    data = map_data(contents, bytes_left)
    assert len(json_for_html(data)) <= bytes_left
    assert len(unpacked(data["ids"])) == 1000
    assert (unpacked(data["ids"]) == names.tolist()) == (bytes_left == 400_000)
    assert len(data["labels"]) == 3 or any("label" in note for note in data["notes"])


def test_too_many_rows_become_a_noted_random_subset():
    contents = a_map(20_000)
    data = map_data(contents, 300_000)
    assert len(json_for_html(data)) <= 300_000
    ids = unpacked(data["ids"])
    assert len(ids) == data["count"] < 20_000
    row = int(ids[5].removeprefix("row "))
    assert unpacked(data["places"][0])[5] == np.float32(contents.places[row, 0])
    assert unpacked(data["columns"][0]["rows"])[5] == pytest.approx(contents.x[row, 0], abs=0.05)
    assert f"{data['count']} of the 20000 rows are drawn" in data["notes"][0]


def test_pictures_that_are_too_large_are_left_out_with_a_note():
    large = Picture("large", "c", b"\x89PNG" + bytes(4_000_000))
    page = render_report(ReportContents("t", pictures=[large, Picture("small", "c", SVG)]))
    assert [image["alt"] for image in Page(page).all("img")] == ["small: c"]
    assert "“large” is left out" in page.decode()


def test_a_page_is_written_whole_and_the_same_each_time(tmp_path):
    contents = ReportContents("t", map=a_map())
    path = write_report(tmp_path / "new" / "report.html", contents)
    assert path.read_bytes() == render_report(contents)
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"places": np.zeros((30, 3))}, r"places: expected shape \(any, 2\), got \(30, 3\)"),
        ({"places": np.full((30, 2), np.nan)}, "places: expected finite coordinates"),
        ({"ids": ["a"]}, r"ids: expected shape \(30,\), got \(1,\)"),
        ({"labels": {"kind": np.zeros(2)}}, r"labels\['kind'\]: expected shape \(30,\)"),
        ({"score": np.zeros(2)}, r"score: expected shape \(30,\)"),
        ({"columns": ["a"]}, r"x: expected shape \(30, 1\), got \(30, 6\)"),
        ({"image_shape": (2, 2)}, "image_shape: expected height \\* width = 6"),
        ({"nodes": NodeContents(np.zeros((4, 2)), np.zeros((4, 5)))}, r"nodes.contents: expected shape \(4, 6\)"),
    ],
)
def test_contents_that_do_not_fit_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        a_map(**given)


def test_nodes_and_pictures_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"nodes.numbers\['usage'\]: expected shape \(4,\), got \(3,\)"):
        NodeContents(np.zeros((4, 2)), np.zeros((4, 5)), {"usage": np.zeros(3)})
    with pytest.raises(ValueError, match="image: expected PNG or SVG, got a file that starts with b'GIF89a'"):
        Picture("t", "c", b"GIF89a")


def test_without_its_libraries_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[plots\]'"):
        render_report(ReportContents("t", map=a_map()))


def large_images(num_rows=100_000):
    """Rows of 784 pixels that compress as badly as handwriting: a seventh of them is gray."""
    random = np.random.default_rng(0)
    x = np.zeros((num_rows, 784), dtype=np.uint8)
    x[:, 330:440] = random.integers(0, 256, (num_rows, 110))
    return a_map(num_rows, 784, x=x, image_shape=(28, 28), nodes=NodeContents(grid(20), x[:400].astype(float)))


def large_table(num_rows=100_000):
    random = np.random.default_rng(0)
    return a_map(num_rows, 50, ids=[random.bytes(30).hex() for _ in range(num_rows)])


@pytest.mark.slow
@pytest.mark.parametrize("make", [large_images, large_table])
def test_a_hundred_thousand_rows_are_at_most_ten_megabytes(make, tmp_path):
    contents = make()
    path = write_report(tmp_path / "report.html", ReportContents("large", map=contents))
    assert 0.9 * LIMIT < path.stat().st_size <= LIMIT
    data = json.loads(Page(path.read_bytes()).text(id="map-data"))
    assert unpacked(data["ids"]) == list(contents.ids)
    assert len(unpacked(data["labels"][0]["kind"])) == 100_000
    assert data["columns"]
    assert ("sheet" in data) == (contents.image_shape is not None)


def test_tables_failures_and_links_of_a_comparison():
    contents = ReportContents(
        "two priors",
        tables=[Table("nats", ("prior", "nll"), [("standard", "97.8 ± 0.4"), ("<i>vamp", "98.2 ± 0.6")], "over seeds")],
        failures=["flow, seed 0: memory: <none>"],
        links=[("gtm, seed 0", "gtm-0/report.html"), ("odd", 'a"b/<c>.html')],
    )
    page = Page(render_report(contents))
    assert [a["href"] for a in page.all("a")] == ["gtm-0/report.html", "a%22b/%3Cc%3E.html"]
    assert not page.all("i")
    text = render_report(contents).decode()
    for shown in ("97.8 ± 0.4", "&lt;i&gt;vamp", "over seeds", "flow, seed 0: memory: &lt;none&gt;"):
        assert shown in text
    with pytest.raises(ValueError, match="rows: expected 2 cells, like the header, got"):
        Table("", ("a", "b"), [("only one",)])
