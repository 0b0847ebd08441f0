"""Figures of a map's nodes: numbers, classes and images at the positions of the nodes."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from priory.grid.nodes import latent_grid
from priory.plots import plot_class_landscape, plot_node_images, plot_node_values, save_figure
from priory.plots.class_landscape import at_lightness
from priory.plots.classes import MOST_STYLES, class_styles

PLACES = np.random.default_rng(0).uniform(-1, 1, size=(60, 2))


def patch(axes, node):
    """Return the value or color that is drawn at a position of the map."""
    image = axes.images[0]
    left, right, bottom, top = image.get_extent()
    picture = image.get_array()
    column = int((node[0] - left) / (right - left) * picture.shape[1])
    line = int((node[1] - bottom) / (top - bottom) * picture.shape[0])
    assert image.origin == "lower"
    return picture[line, column]


def luma(color):
    """Return the lightness of a color in gray, by Pillow."""
    pixel = tuple(round(255 * part) for part in color[:3])
    return Image.new("RGB", (1, 1), pixel).convert("L").getpixel((0, 0)) / 255


def marked(axes):
    """Return the positions of the markers of each label."""
    return {line.get_label().rpartition(" (")[0]: line.get_xydata() for line in axes.lines if "(" in line.get_label()}


@pytest.mark.parametrize("side", [1, 2, 5])
def test_each_number_is_drawn_at_its_node(side):
    nodes = latent_grid(side, dtype=torch.float64).numpy()
    values = np.random.default_rng(1).normal(size=side**2)
    axes = plot_node_values(torch.from_numpy(values), "spread (mg)", low=-1.0, high=2.0, places=PLACES)
    for node, value in zip(nodes, values, strict=True):
        assert patch(axes, node) == value
    assert axes.images[0].get_clim() == (-1.0, 2.0)
    assert axes.figure.axes[1].get_ylabel() == "spread (mg)"
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), PLACES)


def test_only_nodes_without_a_number_are_hatched():
    values = np.arange(9.0)
    assert plot_node_values(values, "usage").patch.get_hatch() is None
    values[4] = np.nan
    axes = plot_node_values(values, "usage")
    assert axes.patch.get_hatch()
    mask = np.ma.getmaskarray(axes.images[0].get_array())
    assert mask.sum() == 1
    assert mask[1, 1]


def test_each_node_has_its_most_probable_class_by_letter_and_color():
    side, names = 6, ["0", "1", "b"]
    shares = np.random.default_rng(2).dirichlet(np.full(3, 0.5), size=side**2)
    axes = plot_class_landscape(shares, names, decided=0.6, name="kind")
    places, styles = marked(axes), class_styles(names)
    expected = {name: [] for name in [*names, "undecided"]}
    for node, share in zip(latent_grid(side, dtype=torch.float64).numpy(), shares, strict=True):
        best = max(range(3), key=lambda k: share[k])
        sure = share[best] >= 0.6
        expected[names[best] if sure else "undecided"].append(node)
        color = patch(axes, node)
        lightness = 0.94 - 0.34 * (share[best] - 0.6) / 0.4 if sure else 1.0
        assert luma(color) == pytest.approx(lightness, abs=0.006)
        if sure:  # a mixture of the class's color with white or black has the same hue
            hue = np.array(to_rgb(styles[names[best]][1]))
            assert np.array_equal(np.argsort(hue, kind="stable")[[0, -1]], np.argsort(color, kind="stable")[[0, -1]])
    for name, nodes in expected.items():
        np.testing.assert_allclose(places[name], nodes)
    assert axes.get_legend().get_title().get_text() == "kind (nodes)"
    markers = {line.get_label().rpartition(" (")[0]: line.get_marker() for line in axes.lines}
    assert markers == {name: f"$\\mathbf{{{name}}}$" for name in names} | {"undecided": "x"}


@pytest.mark.parametrize("color", ["#000000", "#ffffff", "#ddcc77", "#0072b2", "#332288"])
@pytest.mark.parametrize("lightness", [0.6, 0.77, 0.94])
def test_equal_probabilities_have_equal_lightness(color, lightness):
    mixed = at_lightness(np.array(to_rgb(color)), lightness)
    assert (mixed >= 0).all()
    assert (mixed <= 1).all()
    assert luma(mixed) == pytest.approx(lightness, abs=0.006)
    assert luma(mixed) - luma(to_rgb("black")) > 0.5  # the letter's color


def test_nodes_without_probabilities_and_rare_classes_have_common_styles():
    shares = np.zeros((25, 20))
    winners = np.arange(25) % 20
    shares[np.arange(25), winners] = 1.0
    shares[24] = np.nan
    axes = plot_class_landscape(shares, [f"kind {i}" for i in range(20)])
    counts = {name: len(places) for name, places in marked(axes).items()}
    assert len(counts) == MOST_STYLES - 1 + 2
    assert counts["undecided"] == 1
    assert counts["others"] == 20 - (MOST_STYLES - 1)
    assert [counts[f"kind {i}"] for i in range(4)] == [2, 2, 2, 2]
    assert luma(patch(axes, (1.0, 1.0))) == 1.0


def test_node_images_lie_at_their_nodes(tmp_path):
    side, height, width = 4, 2, 3
    contents = np.random.default_rng(3).uniform(size=(side**2, height * width))
    axes = plot_node_images(torch.from_numpy(contents), image_shape=(1, height, width), side=side, low=0.0, high=1.0)
    canvas = axes.images[0].get_array()
    for k in range(side**2):
        u_1, u_2 = divmod(k, side)
        top, left = (side - 1 - u_2) * height, u_1 * width
        np.testing.assert_array_equal(canvas[top : top + height, left : left + width].ravel(), contents[k])
    assert axes.images[0].get_alpha() is None
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$u_1$", "$u_2$")
    save_figure(axes, tmp_path / "nodes.png")


def test_images_of_hardly_used_nodes_are_faded():
    usage = np.array([0.0, 0.125 / 2, 0.125, 0.8125])
    alpha = plot_node_images(np.ones((4, 1)), image_shape=(1, 1), side=2, usage=usage).images[0].get_alpha()
    np.testing.assert_allclose(alpha, [[0.3 + 0.7 / 2, 1.0], [0.3, 1.0]])  # u_2 = 1 above, u_1 = -1 to the left


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_node_values(np.ones(5), "usage"), "values: expected the nodes of a square grid, got 5"),
        (lambda: plot_node_values(np.ones(0), "usage"), "values: expected the nodes of a square grid, got 0"),
        (lambda: plot_class_landscape(np.ones((5, 2)), "ab"), "probabilities: expected the nodes of a square grid"),
        (lambda: plot_class_landscape(np.ones((4, 2)), ["a"]), "names: expected 2 names"),
        (lambda: plot_class_landscape(np.ones((4, 2)), "ab", decided=1.0), "decided: expected a probability of at"),
        (lambda: plot_node_images(np.ones((5, 4)), image_shape=(2, 2), side=2), "contents: expected 2 x 2 nodes"),
        (lambda: plot_node_images(np.ones((4, 4)), image_shape=(2, 3), side=2), "contents: expected 6 columns"),
        (
            lambda: plot_node_images(np.ones((4, 4)), image_shape=(2, 2), side=2, usage=np.ones(3)),
            "usage: expected 4 shares of at least 0",
        ),
    ],
)
def test_invalid_arguments_raise_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
