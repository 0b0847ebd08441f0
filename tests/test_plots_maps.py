"""Figures of maps: contents and positions."""

import numpy as np
import pytest
import torch

from priory.grid.nodes import latent_grid
from priory.plots import (
    plot_landscapes,
    plot_likelihood_curve,
    plot_magnification,
    plot_map,
    plot_node_values,
    save_figure,
)
from priory.plots.classes import MOST_STYLES

PLACES = np.random.default_rng(0).uniform(-1, 1, size=(60, 2))


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def drawn(axes):
    """Return the positions of all rows' markers, without the nodes."""
    return np.concatenate([line.get_xydata() for line in axes.lines if line.get_zorder() > 0])


def test_classes_differ_in_marker_and_are_counted(tmp_path):
    classes = np.repeat(["ten", "nine", ""], [30, 20, 10])
    axes = plot_map(PLACES, classes=classes, name="kind")
    assert legend_of(axes) == ["nine (20)", "ten (30)", "none (10)"]
    assert axes.get_legend().get_title().get_text() == "kind (rows)"
    assert len({line.get_marker() for line in axes.lines}) == 3
    np.testing.assert_array_equal(np.sort(drawn(axes), axis=0), np.sort(PLACES, axis=0))
    save_figure(axes, tmp_path / "map.png")


def test_short_names_are_markers_in_the_order_of_numbers():
    axes = plot_map(PLACES, classes=np.repeat(["10", "9", "b"], 20))
    assert [line.get_marker() for line in axes.lines[:3]] == [f"$\\mathbf{{{name}}}$" for name in ("9", "10", "b")]


def test_the_most_frequent_of_many_classes_have_their_own_style():
    counts = np.arange(1, 15)
    classes = np.repeat([f"class {i}" for i in counts], counts)
    axes = plot_map(np.zeros((len(classes), 2)), classes=classes)
    assert len(legend_of(axes)) == MOST_STYLES
    assert legend_of(axes)[-1] == "others (6)"  # classes of 1, 2 and 3 rows


def test_numbers_determine_colors():
    axes = plot_map(torch.from_numpy(PLACES), values=np.r_[np.nan, np.arange(59.0)], name="weight")
    assert axes.collections[0].get_array().tolist() == list(range(59))
    assert axes.figure.axes[1].get_ylabel() == "weight"
    assert legend_of(axes) == ["none (1)"]


def test_rows_at_one_position_are_spread_within_the_distance_of_nodes():
    nodes = latent_grid(5)
    places = np.repeat([[0.5, -0.5], [-1.0, 1.0]], [40, 1], axis=0)
    shown = drawn(plot_map(places, nodes=nodes))
    assert len(np.unique(shown.round(6), axis=0)) == 41
    distances = np.linalg.norm(shown[:40] - places[:40], axis=1)
    assert distances.max() < 0.25
    np.testing.assert_array_equal(shown[40], places[40])
    np.testing.assert_array_equal(drawn(plot_map(places)), places)


def test_landscapes_have_u1_to_the_right_and_u2_upwards():
    nodes = latent_grid(3)
    axes = plot_landscapes(torch.cat([nodes, nodes.square()], 1), names=["u1", "u2", "a", "b" * 40], most=4)
    assert [panel.get_title() for panel in axes] == ["u1", "u2", "a", "b" * 21 + "..."]
    first, second = (panel.images[0].get_array() for panel in axes[:2])
    np.testing.assert_array_equal(first, [[-1, 0, 1]] * 3)
    np.testing.assert_array_equal(second, np.array([[-1, 0, 1]] * 3).T)
    assert axes[0].images[0].origin == "lower"
    assert axes[0].images[0].get_extent() == [-1.5, 1.5, -1.5, 1.5]
    assert len(plot_landscapes(torch.cat([nodes, nodes], 1), most=3)) == 3


def test_magnification_is_relative_to_its_geometric_mean():
    axes = plot_magnification(np.repeat([1.0, 4.0, 16.0], 3), PLACES)
    np.testing.assert_allclose(axes.images[0].get_array(), [[-2, 0, 2]] * 3)
    of_nodes = plot_magnification(np.repeat([1.0, 4.0, 16.0], 3), PLACES, mean=8.0)
    np.testing.assert_allclose(of_nodes.images[0].get_array(), [[-3, -1, 1]] * 3)
    low, *_ = plot_magnification(np.array([1.0, 1.0, 1.0, 1e-9])).images
    assert (low.get_clim()[0], low.colorbar.extend) == (-4.0, "min")
    flat = plot_magnification(np.zeros(4)).images[0].get_array()
    assert np.isfinite(flat).all()


def test_the_legend_of_a_likelihood_curve_has_its_last_value():
    axes = plot_likelihood_curve([-9.0, -4.0, -3.25])
    assert legend_of(axes) == ["training rows: \N{MINUS SIGN}3.25 nats"]
    assert plot_likelihood_curve([1.0]).lines[0].get_marker() == "o"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_map(np.zeros((3, 3))), r"places: expected shape \(batch, 2\)"),
        (lambda: plot_map(PLACES, classes=["a"]), "classes, values: expected one of them, 60 long, got"),
        (lambda: plot_map(PLACES, classes=["a"] * 60, values=[1.0] * 60), "classes, values: expected one of them"),
        (lambda: plot_landscapes(np.zeros((5, 2))), "images: expected the nodes of a square grid, got 5"),
        (lambda: plot_magnification(np.zeros(5)), "factors: expected the nodes of a square grid, got 5"),
        (lambda: plot_likelihood_curve([]), "log_likelihood: expected at least one iteration"),
    ],
)
def test_invalid_arguments_raise_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_class_that_resembles_a_number_is_a_name():
    axes = plot_map(np.zeros((3, 2)), classes=["--5", "10", "9"])
    assert axes.get_legend_handles_labels()[1] == ["9 (1)", "10 (1)", "--5 (1)"]


@pytest.mark.parametrize("draw", ["rows", "cells", "nodes", "columns"])
@pytest.mark.parametrize("skewed", [True, False])
def test_skewed_numbers_are_colored_by_quantiles(draw, skewed):
    random = np.random.default_rng(0)
    number = {"rows": 400, "cells": 6000}.get(draw, 400)
    values = random.permutation(np.arange(float(number)))
    values = np.exp(values / number * 12) if skewed else values
    places = random.uniform(-1, 1, (number, 2))
    if draw == "columns":
        axes = plot_landscapes(values[:, None], names=["dose"])[0]
    elif draw == "nodes":
        axes = plot_node_values(values, "dose")
    else:
        axes = plot_map(places, values=values, name="dose")
    picture = axes.images[0] if axes.images else axes.collections[0]
    drawn = np.ma.masked_invalid(picture.get_array()).compressed()
    shares = picture.norm(drawn)
    if skewed:  # rank divided by the number of other values, for any size
        expected = (np.searchsorted(np.sort(drawn), drawn)) / (len(drawn) - 1)
        np.testing.assert_allclose(shares, expected, atol=0.01)
        quarters = np.quantile(drawn, [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(picture.colorbar.get_ticks(), quarters, rtol=0.02)
        assert float(picture.colorbar.ax.get_yticklabels()[-1].get_text()) == pytest.approx(drawn.max(), rel=0.01)
    else:
        np.testing.assert_allclose(shares, (drawn - drawn.min()) / np.ptp(drawn), atol=1e-9)
    text = axes.get_xlabel() if draw == "columns" else picture.colorbar.ax.get_ylabel()
    assert ("colors by quantiles" in text) == skewed


def test_a_frequent_value_has_one_color():
    values = np.zeros(100)
    values[:10] = 2.0 ** np.arange(10)
    picture = plot_node_values(values, "count").images[0]
    np.testing.assert_allclose(picture.norm([0.0, 1.0, 8.0, 512.0]), [0, 0.1, 0.4, 1], atol=1e-9)
    limited = plot_node_values(values, "count", low=0, high=100).images[0]
    np.testing.assert_allclose(limited.norm([0.0, 25.0, 100.0]), [0, 0.25, 1])
