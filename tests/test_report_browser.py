"""The report in real Chromium: what it shows when it is opened, pointed at, clicked and selected from."""

import csv
import io
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("plotly")
pytest.importorskip("matplotlib")
pytest.importorskip("playwright", reason="playwright is not installed")

from matplotlib import colormaps
from matplotlib.image import imread
from playwright.sync_api import sync_playwright
from scipy.interpolate import RegularGridInterpolator

from priory.workbench.report import MapContents, Metric, NodeContents, Picture, ReportContents, Table, write_report

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed: apt-get install chromium"),
]

# WebGL without a graphics card; a container's root has no sandbox
SWITCHES = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
HOSTILE = "<img src=x onerror='window.stolen=1'><b>bold</b><a href='http://example.org/'>link</a></script>"
IDS = [f"row {i}" for i in range(60)]
IDS[:6] = [HOSTILE, "=cmd|' /C calc'!A0", '+1 "quoted", with comma', "-5", "@sum", "two\nlines"]
MINUS = "\N{MINUS SIGN}"
BLUE = (0x00, 0x72, 0xB2)  # Okabe & Ito's, the first class's


def places():
    """60 rows apart from each other, none on a node."""
    return np.array([[-0.9 + 0.2 * (i // 6), -0.75 + 0.3 * (i % 6)] for i in range(60)])


def nodes(contents):
    line = np.array([-1.0, 0.0, 1.0])
    numbers = {"usage": np.linspace(0, 1, 9), HOSTILE: np.arange(9.0)}
    return NodeContents(np.array([[u, v] for u in line for v in line]), contents, numbers)


def images():
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (60, 64))
    x[0, :2] = 0, 255  # black and white are found
    labels = {"half": np.repeat(["left", "right"], 30), HOSTILE: np.repeat([HOSTILE, ""], 30)}
    names = [f"pixel {i}" for i in range(63)] + [HOSTILE]
    a_map = MapContents(
        places(), IDS, labels, score=np.linspace(-9, 9, 60), score_name=HOSTILE, x=x, columns=names,
        image_shape=(8, 8), nodes=nodes(random.integers(0, 256, (9, 64))), axes=(HOSTILE, HOSTILE),
    )  # fmt: skip
    svg = Picture(HOSTILE, HOSTILE, b'<svg xmlns="http://www.w3.org/2000/svg"><script>window.stolen=1</script></svg>')
    metrics = [Metric("negative log-likelihood of the test rows (nats)", 92.44, 0.41, "Lower is better. " * 9)]
    return ReportContents(HOSTILE, [(HOSTILE, "x" * 200)], metrics, a_map, [svg], [HOSTILE])


def table():
    x = np.random.default_rng(1).normal(size=(60, 9)) * 10.0 ** np.arange(9)
    x[33, 4] = np.nan
    columns = [f"c{i}" for i in range(9)]
    return ReportContents("table", map=MapContents(places(), IDS, x=x, columns=columns, nodes=nodes(x[:9])))


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield started
        started.close()


class Opened:
    """A report in a tab, and what the tab said and asked for."""

    def __init__(self, browser, path, contents, **options):
        self.contents, self.said, self.asked = contents.map, [], []
        self.tab = browser.new_page(**{"viewport": {"width": 1280, "height": 1000}} | options)
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.url = write_report(path, contents).as_uri()
        self.tab.goto(self.url)
        self.tab.wait_for_selector("html[data-ready]", timeout=30_000)
        self.tab.evaluate("document.getElementById('map').scrollIntoView()")

    def point(self, place):
        """Where a place of the map is on the screen."""
        script = """([u, v]) => {
            const plot = document.getElementById("plot"), { xaxis, yaxis } = plot._fullLayout;
            const box = plot.getBoundingClientRect();
            return [box.x + xaxis._offset + xaxis.d2p(u), box.y + yaxis._offset + yaxis.d2p(v)];
        }"""
        return self.tab.evaluate(script, [float(each) for each in place])

    def hover(self, place):
        x, y = self.point(place)
        self.tab.mouse.move(x - 60, y + 7)
        self.tab.mouse.move(x, y)
        self.tab.wait_for_selector("#tip:not([hidden])")
        return self.tab.locator("#tip")

    def click_between(self, place):
        """Click on a place between nodes, and wait for the frame around it."""
        self.tab.mouse.click(*self.point(place))
        self.tab.wait_for_function(
            """([x, y]) => {
                const frame = document.getElementById("plot").layout.annotations.at(-1);
                return frame && Math.hypot(frame.x - x, frame.y - y) < 0.02;
            }""",
            arg=np.clip(place, -1.0, 1.0).tolist(),
        )
        assert self.tab.locator("#details h3").first.text_content() == "Between nodes"

    def drag(self, start, end):
        """Drag with the mouse, and wait for the path."""
        self.tab.mouse.move(*self.point(start))
        self.tab.mouse.down()
        self.tab.mouse.move(*self.point(end), steps=4)
        self.tab.mouse.up()
        self.wait_for_path(end)

    def wait_for_path(self, end):
        """Wait for the path to this place, with the frame at its start."""
        self.tab.wait_for_function(
            """([x, y]) => {
                const { shapes: [, line], annotations } = document.getElementById("plot").layout;
                return line && Math.hypot(line.x1 - x, line.y1 - y) < 0.02 && annotations.at(-1).x === line.x0;
            }""",
            arg=[float(each) for each in end],
        )

    def frame(self):
        """The place that the frame is around."""
        return self.tab.evaluate("(({ x, y }) => [x, y])(document.getElementById('plot').layout.annotations.at(-1))")

    def pixels(self, of, which=0):
        """The gray values of a canvas in an element, the first one by default, as it was drawn."""
        script = """canvas => [canvas.width, ...canvas.getContext("2d").getImageData(
            0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 0)]"""
        return self.tab.locator(f"{of} canvas").nth(which).evaluate(script)[1:]

    def color(self, place):
        """Of the screen there."""
        x, y = self.point(place)
        shot = self.tab.screenshot(clip={"x": round(x) - 1, "y": round(y) - 1, "width": 3, "height": 3})
        return tuple(np.rint(255 * imread(io.BytesIO(shot))[1, 1, :3]).astype(int).tolist())

    @contextmanager
    def drawn_anew(self):
        """What the block does has been drawn when it ends."""
        drawings = "Number(document.getElementById('plot').dataset.drawings)"
        before = self.tab.evaluate(drawings)
        yield
        self.tab.wait_for_function(f"{drawings} > {before}")
        self.tab.wait_for_timeout(50)

    def choose(self, selector, name):
        with self.drawn_anew():
            self.tab.select_option(selector, label=name)


@pytest.fixture(scope="module")
def of_images(browser, tmp_path_factory):
    return Opened(browser, tmp_path_factory.mktemp("images") / "report.html", images())


@pytest.fixture(scope="module")
def of_table(browser, tmp_path_factory):
    return Opened(browser, tmp_path_factory.mktemp("table") / "report.html", table())


def test_it_opens_without_a_word_and_asks_for_nothing(of_images, of_table):
    for opened in (of_images, of_table):
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith(("data:", "blob:"))] == [opened.url]
        assert opened.tab.locator("#map-state").is_hidden()
        assert opened.tab.evaluate("document.getElementById('plot').data[1].type") == "scattergl"


@pytest.mark.parametrize("row", [0, 5, 44])
def test_hovering_shows_the_rows_thumbnail_and_id(of_images, row):
    tip = of_images.hover(places()[row])
    assert tip.locator("dd").first.text_content() == IDS[row]
    assert of_images.pixels("#tip") == of_images.contents.x[row].tolist()
    values = tip.locator("dd").all_text_contents()
    assert values[1] == ("left" if row < 30 else "right")
    assert values[2] == (HOSTILE if row < 30 else "none")
    assert float(values[3].replace(MINUS, "-")) == pytest.approx(of_images.contents.score[row], rel=1e-3)


def test_hovering_shows_a_tables_furthest_columns(of_table):
    tip = of_table.hover(places()[17])
    x = of_table.contents.x
    far = (x[17] - np.nanmean(x, 0)) / np.nanstd(x, 0)
    order = np.argsort(-np.abs(far))[:6]
    assert tip.locator(".columns dt").all_text_contents() == [f"c{i}" for i in order]
    written = [text.replace(MINUS, "-") for text in tip.locator(".columns dd").all_text_contents()]
    assert [float(text) for text in written[::2]] == pytest.approx(x[17, order], rel=1e-3)
    assert written[1::2] == [f"{far[i]:+.1f} sd" for i in order]


def test_what_is_said_of_a_row_stays_inside_the_window(browser, tmp_path):
    opened = Opened(browser, tmp_path / "report.html", table(), viewport={"width": 1280, "height": 800})
    for row in (places()[:, 1].argmin(), places()[:, 1].argmax(), places()[:, 0].argmax()):
        box = opened.hover(places()[row]).bounding_box()
        assert 0 <= box["x"] <= 1280 - box["width"]
        assert 0 <= box["y"] <= 800 - box["height"]
    opened.tab.close()


def test_colors_follow_the_choice(of_images):
    of_images.tab.mouse.move(5, 5)
    first, last = places()[7], places()[52]
    of_images.choose("#color-by", "half")
    assert of_images.color(first) == pytest.approx(BLUE, abs=3)
    before = of_images.color(last)
    assert before != pytest.approx(BLUE, abs=40)
    of_images.choose("#color-by", "pixel 3")
    darkest, lightest = (places()[find(of_images.contents.x[:, 3])] for find in (np.argmin, np.argmax))
    assert of_images.color(darkest) == pytest.approx((0x00, 0x22, 0x4E), abs=3)  # the ends of cividis
    assert of_images.color(lightest) == pytest.approx((0xFE, 0xE8, 0x38), abs=3)
    of_images.choose("#color-by", HOSTILE)
    of_images.choose("#color-by", "half")
    assert of_images.color(last) == before


def test_missing_values_have_a_color_of_their_own_and_are_counted(of_table):
    of_table.tab.mouse.move(5, 5)
    of_table.choose("#color-by", "c4")
    assert of_table.color(places()[33]) == pytest.approx((0xD0, 0xD4, 0xD9), abs=3)
    smallest = np.nanargmin(of_table.contents.x[:, 4])
    assert of_table.color(places()[smallest]) == pytest.approx((0x00, 0x22, 0x4E), abs=3)
    assert "1 row has no value" in of_table.tab.locator("#legend").text_content()


def test_a_class_can_be_hidden(of_images):
    of_images.choose("#color-by", "half")
    box = of_images.tab.get_by_label("left")
    with of_images.drawn_anew():
        box.uncheck()
    assert of_images.color(places()[7]) == (255, 255, 255)
    assert of_images.color(places()[52]) != (255, 255, 255)
    with of_images.drawn_anew():
        box.check()
    assert of_images.color(places()[7]) == pytest.approx(BLUE, abs=3)


@pytest.mark.parametrize("node", [1, 5])
def test_clicking_a_node_shows_what_it_decodes_to(of_images, of_table, node):
    place = of_images.contents.nodes.places[node]
    of_images.tab.mouse.click(*of_images.point(place))
    of_images.tab.wait_for_function(f"document.querySelector('#details h3')?.textContent === 'Node {node}'")
    assert of_images.pixels("#details") == of_images.contents.nodes.contents[node].tolist()
    of_table.tab.mouse.click(*of_table.point(place))
    of_table.tab.wait_for_function(f"document.querySelector('#details h3')?.textContent === 'Node {node}'")
    x = of_table.contents.x
    far = np.abs((x[node] - np.nanmean(x, 0)) / np.nanstd(x, 0))
    names = of_table.tab.locator("#details .columns dt").all_text_contents()
    assert names == [f"c{i}" for i in np.argsort(-far)[:6]]


def test_clicking_a_row_shows_it_and_its_nearest_node(of_images):
    of_images.tab.mouse.click(*of_images.point(places()[20]))
    of_images.tab.wait_for_function("document.querySelector('#details h3')?.textContent === 'Row'")
    gaps = np.square(of_images.contents.nodes.places - places()[20]).sum(1)
    titles = of_images.tab.locator("#details h3").all_text_contents()
    assert titles == ["Row", f"Nearest node: {gaps.argmin()}"]
    assert of_images.pixels("#details") == of_images.contents.x[20].tolist()


def test_nodes_and_rows_are_found_by_keyboard(of_images):
    of_images.tab.get_by_label("Node", exact=True).fill("4")
    of_images.tab.keyboard.press("Enter")
    of_images.tab.wait_for_function("document.querySelector('#details h3')?.textContent === 'Node 4'")
    of_images.tab.get_by_label("Find id").fill("row 31")
    of_images.tab.keyboard.press("Enter")
    of_images.tab.wait_for_function("document.querySelector('#details dd')?.textContent === 'row 31'")


def between(contents, places):
    """What is decoded at places of the grid of `nodes`, by bilinear interpolation: (P, D)."""
    line = np.array([-1.0, 0.0, 1.0])
    return RegularGridInterpolator((line, line), contents.reshape(3, 3, -1).astype(float))(np.atleast_2d(places))


def number(text):
    return float(text.replace(MINUS, "-"))


def columns_of(opened):
    """The columns of the path in the page's order, by name: the values at the start, at the slider and at the end."""
    names, values = (opened.tab.locator(f"#path .changes {tag}").all_text_contents() for tag in ("dt", "dd"))
    cells = zip(names, np.reshape(values, (-1, 4)), strict=True)  # at the slider, at the start, the curve, at the end
    return {name: [number(row[i]) for i in (1, 0, 3)] for name, row in cells}


def path_of(opened):
    """The ends of the line on the map."""
    script = "(({ x0, y0, x1, y1 }) => [[x0, y0], [x1, y1]])(document.getElementById('plot').layout.shapes[1])"
    return np.array(opened.tab.evaluate(script))


PLACES = [(-0.42, 0.31), (0.62, -0.9), (-0.5, -0.02)]  # far from rows and nodes


@pytest.mark.parametrize("place", PLACES)
def test_a_click_between_nodes_shows_the_bilinear_mix_of_the_nodes_around(of_images, of_table, place):
    for opened in (of_images, of_table):
        opened.click_between(place)
        assert "bilinear interpolation" in opened.tab.locator("#details .hint").first.text_content()
        assert opened.frame() == pytest.approx(place, abs=0.005)
    (expected,) = between(of_images.contents.nodes.contents, of_images.frame())
    np.testing.assert_allclose(of_images.pixels("#details"), expected, atol=0.51)
    (expected,) = between(of_table.contents.nodes.contents, of_table.frame())
    listed = of_table.tab.locator("#details .columns").first
    names, values = (listed.locator(tag).all_text_contents() for tag in ("dt", "dd"))
    for name, value in zip(names, values[::2], strict=True):  # each is followed by its distance from the mean
        assert number(value) == pytest.approx(expected[int(name[1:])], rel=1e-3)


def test_a_click_outside_of_the_grid_shows_its_edge(of_images):
    of_images.click_between((1.3, 0.45))
    assert of_images.frame() == pytest.approx((1.0, 0.45), abs=0.005)
    (expected,) = between(of_images.contents.nodes.contents, of_images.frame())
    np.testing.assert_allclose(of_images.pixels("#details"), expected, atol=0.51)


@pytest.mark.parametrize(("first", "last"), [(0, 8), (5, 1), (4, 4)])
def test_at_a_node_a_path_shows_what_the_node_decodes(of_images, of_table, first, last):
    for opened in (of_images, of_table):
        opened.tab.get_by_label("path from node").fill(str(first))
        opened.tab.get_by_label("path to node").fill(str(last))
        opened.tab.keyboard.press("Enter")
        opened.wait_for_path(opened.contents.nodes.places[last])
        np.testing.assert_allclose(path_of(opened), opened.contents.nodes.places[[first, last]], atol=1e-7)
    for which, node in ((0, first), (6, last)):
        assert of_images.pixels("#path-strip", which) == of_images.contents.nodes.contents[node].tolist()
    contents = of_table.contents.nodes.contents
    for name, (start, here, end) in columns_of(of_table).items():
        assert (start, here, end) == pytest.approx(contents[[first, first, last], int(name[1:])], rel=1e-3)


def test_a_drag_draws_a_path_with_decodes_along_it(of_images):
    of_images.drag((-0.42, 0.31), (0.62, -0.9))
    ends = path_of(of_images)
    np.testing.assert_allclose(ends, [(-0.42, 0.31), (0.62, -0.9)], atol=0.005)
    assert of_images.tab.locator("#path-strip canvas").count() == 7
    along = between(of_images.contents.nodes.contents, np.linspace(*ends, 7))
    for which in (0, 3, 6):
        np.testing.assert_allclose(of_images.pixels("#path-strip", which), along[which], atol=0.51)
    assert "bilinear interpolation" in of_images.tab.locator("#path-hint").text_content()


def test_a_drag_from_a_row_hides_its_tip(of_images):
    of_images.hover(places()[20])
    of_images.drag(places()[20], (0.62, -0.9))
    assert of_images.tab.locator("#tip").is_hidden()


def test_the_columns_that_change_most_along_a_path_are_first(of_table):
    of_table.drag((-0.42, 0.31), (0.62, -0.9))
    along = between(of_table.contents.nodes.contents, np.linspace(*path_of(of_table), 2001))
    order = np.argsort(-np.ptp(along, 0) / np.nanstd(of_table.contents.x, 0))
    assert list(columns_of(of_table)) == [f"c{i}" for i in order]


def test_the_slider_moves_the_frame_along_the_path(of_images, of_table):
    for opened in (of_images, of_table):
        opened.drag((-0.9, 0.9), (0.3, -0.3))
        ends = path_of(opened)
        assert opened.frame() == pytest.approx(ends[0])
        slider = opened.tab.get_by_label("Position on the path")
        slider.focus()
        opened.tab.keyboard.press("PageUp")
        opened.tab.keyboard.press("ArrowRight")
        place = ends[0] + 0.11 * (ends[1] - ends[0])
        assert opened.frame() == pytest.approx(place)
        (expected,) = between(opened.contents.nodes.contents, place)
        if opened is of_images:
            np.testing.assert_allclose(opened.pixels("#path-here"), expected, atol=0.51)
        else:
            assert all(row[1] == pytest.approx(expected[int(n[1:])], rel=1e-3) for n, row in columns_of(opened).items())
        opened.tab.keyboard.press("End")
        assert opened.frame() == pytest.approx(ends[1])


def test_a_path_stays_while_rows_are_colored_and_clicked_and_the_next_one_replaces_it(of_table):
    of_table.drag((-0.9, 0.9), (0.3, -0.3))
    first = path_of(of_table)
    of_table.tab.mouse.click(*of_table.point(places()[20]))
    of_table.tab.wait_for_function("document.querySelector('#details h3')?.textContent === 'Row'")
    of_table.choose("#color-by", "c3")
    np.testing.assert_array_equal(path_of(of_table), first)
    lines = of_table.tab.locator("#plot .shapelayer path")
    assert lines.count() == 2  # black in white
    of_table.drag((0.3, 0.9), (-0.3, -0.3))
    assert lines.count() == 2
    assert path_of(of_table)[0] == pytest.approx((0.3, 0.9), abs=0.005)


def test_a_double_click_shows_all_of_a_zoomed_map(of_images):
    seen = "document.getElementById('plot')._fullLayout.xaxis.range"
    before = of_images.tab.evaluate(seen)
    of_images.tab.evaluate("Plotly.relayout('plot', { 'xaxis.range': [-0.2, 0.2], 'yaxis.range': [-0.2, 0.2] })")
    of_images.tab.mouse.dblclick(*of_images.point((0.1, 0.05)))
    of_images.tab.wait_for_function(f"{seen}[1] > 1")
    assert of_images.tab.evaluate(seen) == pytest.approx(before)


@pytest.mark.parametrize("given", [{"nodes": None}, {"x": None, "columns": ()}], ids=["no grid", "no contents"])
def test_a_map_without_decoded_nodes_has_no_path(browser, tmp_path, given):
    a_map = replace(table().map, **given)
    opened = Opened(browser, tmp_path / "report.html", ReportContents("t", map=a_map))
    assert opened.tab.locator("#path").is_hidden()
    assert opened.tab.evaluate("document.getElementById('plot').layout.dragmode") == "pan"
    opened.tab.mouse.click(*opened.point(PLACES[0]))
    opened.tab.mouse.click(*opened.point(places()[20]))
    opened.tab.wait_for_function("document.querySelector('#details h3')?.textContent === 'Row'")
    assert opened.said == []
    opened.tab.close()


def test_nodes_are_colored_and_pictured(of_images):
    tab = of_images.tab
    tab.mouse.move(5, 5)
    tab.uncheck("#rows-shown")
    of_images.choose("#nodes-by", "usage")
    corner = of_images.contents.nodes.places[8] + 0.05  # the ring around what was found is elsewhere
    assert of_images.color(corner) == pytest.approx((0xFE, 0xE8, 0x38), abs=3)
    of_images.choose("#nodes-by", "their images")
    assert tab.locator("#plot .imagelayer image").count() == 1
    of_images.choose("#nodes-by", "gray")
    assert tab.locator("#plot .imagelayer image").count() == 0
    tab.check("#rows-shown")


def legend(opened):
    titles = opened.tab.locator("#legend h3").all_text_contents()
    return dict(zip(titles, opened.tab.locator("#legend .scale-ends").all_text_contents(), strict=True))


def test_two_quantities_have_two_scales_and_one_has_one(browser, tmp_path):
    opened = Opened(browser, tmp_path / "report.html", table())
    x, contents = opened.contents.x.copy(), opened.contents.nodes.contents
    opened.choose("#color-by", "c0")
    opened.choose("#nodes-by", "usage")
    assert list(legend(opened)) == ["Rows: c0", "Nodes: usage"]
    assert opened.color(opened.contents.nodes.places[8] + 0.05) == pytest.approx((0x4A, 0x14, 0x86), abs=3)
    contents[0, 0] = 2 * x[:, 0].max()
    wider = replace(opened.contents, x=x)
    opened = Opened(browser, tmp_path / "report.html", ReportContents("t", map=wider))
    opened.choose("#color-by", "c0")
    opened.choose("#nodes-by", "the rows\u2019 column")
    (ends,) = legend(opened).values()
    assert ends.endswith(f"{contents[0, 0]:.4g}")
    lightest = opened.color(opened.contents.nodes.places[0] + 0.05)
    assert lightest == pytest.approx((0xFE, 0xE8, 0x38), abs=3)
    assert opened.color(places()[x[:, 0].argmax()]) != pytest.approx(lightest, abs=20)
    opened.tab.close()


def test_skewed_values_are_colored_by_quantiles(browser, tmp_path):
    ranks = np.random.default_rng(0).permutation(60)
    x = np.stack([4.0 ** (ranks % 30), np.arange(60.0)], 1)  # each value twice
    a_map = MapContents(places(), IDS, x=x, columns=["a", "b"])
    opened = Opened(browser, tmp_path / "report.html", ReportContents("t", map=a_map))
    opened.choose("#color-by", "b")
    plain = {row: opened.color(places()[row]) for row in (0, 59)}
    opened.choose("#color-by", "a")
    for row in (7, 20, 33, 46):  # a color of cividis for each rank, and not one for nearly all
        part = (ranks[row] % 30) / 29
        expected = 255 * np.array(colormaps["cividis"](part)[:3])
        assert opened.color(places()[row]) == pytest.approx(expected, abs=8)
    (ends,) = legend(opened).values()
    assert "colors by quantiles" in opened.tab.locator("#legend").text_content()
    assert ends.startswith("1")
    opened.choose("#color-by", "b")
    assert plain == {row: opened.color(places()[row]) for row in (0, 59)}
    opened.tab.close()


def test_all_cells_of_a_comparison_are_inside_a_phone(browser, tmp_path):
    header = ("prior", "seeds", *(f"a metric {i}" for i in range(6)))
    rows = [(name, "5", *(f"better by {i}00.123 \u00b1 0.123" for i in range(6))) for name in ("standard", "gtm-vamp")]
    path = write_report(tmp_path / "page.html", ReportContents("t", tables=[Table("nats per row; " * 9, header, rows)]))
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.goto(path.as_uri())
    cells = tab.locator(".comparison td, .comparison th, .comparison caption").all()
    boxes = [box for cell in cells if (box := cell.bounding_box()) is not None]
    assert len(boxes) == 2 * len(header) + 1
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 for box in boxes)
    assert tab.evaluate("document.querySelector('.scrolled').scrollWidth") <= 390
    tab.close()


def test_exported_ids_are_those_in_the_box(of_images):
    tab = of_images.tab
    tab.locator('.modebar-btn[data-val="select"]').click()
    (left, top), (right, bottom) = of_images.point((-1.0, 0.0)), of_images.point((-0.6, -0.85))
    tab.mouse.move(left, top)
    tab.mouse.down()
    tab.mouse.move((left + right) / 2, bottom, steps=3)
    tab.mouse.move(right, bottom, steps=3)
    tab.mouse.up()
    inside = [i for i, (u, v) in enumerate(places()) if u < -0.6 and v < 0.0]
    tab.wait_for_function(f"document.getElementById('selected-count').textContent.startsWith('{len(inside)} rows')")
    of_images.choose("#color-by", "pixel 3")  # what is selected stays so
    assert tab.evaluate("[...document.getElementById('plot').data[1].selectedpoints]") == inside
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Export").click()
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    guarded = {IDS[1]: "'" + IDS[1], IDS[2]: "'" + IDS[2], IDS[4]: "'" + IDS[4]}
    assert header == ["id"]
    assert rows == [[guarded.get(IDS[i], IDS[i])] for i in inside]


def test_a_cell_of_the_export_is_no_formula(of_images):
    given = ["=1+1", "+cmd", "-cmd", "@a", "\tx", "-5", "+1.5e-3", "1", "a", ' "q", ', "a\nb", "", "-"]
    written = of_images.tab.evaluate("cells => cells.map(csvCell)", given)
    read = list(csv.reader(io.StringIO("\r\n".join(written) + "\r\n", newline="")))
    guarded = ["'=1+1", "'+cmd", "'-cmd", "'@a", "'\tx", "-5", "+1.5e-3", "1", "a", ' "q", ', "a\nb", "", "'-"]
    assert [row[0] if row else "" for row in read] == guarded


def test_names_do_nothing(of_images, of_table):
    """After all of the above: nothing ran, nothing became an element, nothing was asked for."""
    assert of_images.tab.evaluate("window.stolen") is None
    assert of_images.tab.locator("main b, main a, main img[src='x'], #plot a[href]").count() == 0
    assert of_images.tab.locator("h1").text_content() == HOSTILE
    assert of_images.tab.title() == HOSTILE
    assert of_images.said == of_table.said == []
    assert [url for url in of_images.asked if not url.startswith(("data:", "blob:"))] == [of_images.url]


def test_a_script_that_slipped_in_would_not_run(of_images):
    of_images.tab.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.stolen = 1";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src='x:' onerror='window.stolen = 1'>");
    }""")
    of_images.tab.wait_for_timeout(100)
    assert of_images.tab.evaluate("window.stolen") is None


def test_a_finger_taps_between_nodes_and_draws_a_path(browser, tmp_path):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}
    opened = Opened(browser, tmp_path / "report.html", images(), **phone)
    opened.tab.touchscreen.tap(*opened.point(PLACES[0]))
    opened.tab.wait_for_function("document.querySelector('#details h3')?.textContent === 'Between nodes'")
    assert opened.frame() == pytest.approx(PLACES[0], abs=0.01)
    finger = opened.tab.context.new_cdp_session(opened.tab)
    start, end = (np.array(opened.point(place)) for place in PLACES[:2])
    for kind, points in [("Start", [start]), *(("Move", [p]) for p in np.linspace(start, end, 5)[1:]), ("End", [])]:
        touches = [{"x": x, "y": y} for x, y in points]
        finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})
    opened.wait_for_path(PLACES[1])
    assert opened.tab.evaluate("document.documentElement.scrollWidth") == 390
    assert opened.said == []
    opened.tab.close()


def test_a_phone_scrolls_downwards_only(browser, tmp_path):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "device_scale_factor": 2}
    opened = Opened(browser, tmp_path / "report.html", images(), **phone)
    opened.tab.touchscreen.tap(*opened.point(places()[44]))
    opened.tab.wait_for_function("document.querySelector('#details dd')?.textContent === 'row 44'")
    opened.choose("#nodes-by", "usage")
    assert opened.tab.evaluate("document.documentElement.scrollWidth") == 390
    assert opened.said == []
    opened.tab.close()


def test_the_wheel_scrolls_the_page_and_with_ctrl_it_zooms_the_map(of_table):
    seen = "(({ xaxis }) => xaxis.range[1] - xaxis.range[0])(document.getElementById('plot')._fullLayout)"
    of_table.tab.mouse.move(*of_table.point((0.05, 0.05)))
    before, top = of_table.tab.evaluate(seen), of_table.tab.evaluate("scrollY")
    of_table.tab.mouse.wheel(0, -50)
    of_table.tab.wait_for_function(f"scrollY < {top}")
    assert of_table.tab.evaluate(seen) == before
    of_table.tab.keyboard.down("Control")
    of_table.tab.mouse.wheel(0, -200)
    of_table.tab.keyboard.up("Control")
    of_table.tab.wait_for_function(f"{seen} < {0.95 * before}")
    zoomed = of_table.tab.evaluate(seen)
    of_table.choose("#color-by", "c3")
    assert of_table.tab.evaluate(seen) == pytest.approx(zoomed)


def test_without_webgl_it_is_drawn_all_the_same(browser, tmp_path):
    path = write_report(tmp_path / "report.html", table())
    tab = browser.new_page()
    tab.add_init_script("""const real = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...others) {
            return kind.startsWith("webgl") ? null : real.call(this, kind, ...others);
        };""")
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    assert tab.locator("#map-state").text_content() == "This browser has no WebGL, so drawing the map is slow."
    assert tab.locator("#plot .scatterlayer path.point").count() == 60 + 9
    tab.close()


def test_without_javascript_the_rest_is_there(browser, tmp_path):
    path = write_report(tmp_path / "report.html", images())
    tab = browser.new_page(java_script_enabled=False)
    tab.goto(path.as_uri())
    assert "needs JavaScript" in tab.locator("noscript").text_content()
    assert "92.44" in tab.locator("table").text_content()
    assert tab.locator("#map").is_hidden()
    tab.close()
