"""Pictures of priors beyond two dimensions, of mixtures' components and of rate and distortion."""

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import gaussian_kde
from torch.distributions import Independent, Normal

from priory.evaluation import AggregatePosterior
from priory.plots import plot_component_use, plot_pairwise_marginals, plot_rate_distortion, save_figure
from priory.plots.cells import cell_means, cell_sums

SCALES = torch.tensor([0.5, 2.0, 1.0, 0.1])


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def independent_normal():
    return Independent(Normal(torch.tensor([0.0, 1.0, -2.0, 0.0]), SCALES), 1)


def heights(panel):
    (lines,) = (each for each in panel.collections if isinstance(each, ContourSet) and not each.filled)
    return lines.levels


def test_pairwise_contours_of_a_normal_enclose_their_mass():
    levels = [0.25, 0.5, 0.75, 0.9]
    panels = plot_pairwise_marginals(independent_normal(), torch.randn(300, 4) * SCALES, levels=levels)
    for i in range(4):
        for j in range(i):
            peak = 1 / (2 * math.pi * float(SCALES[i] * SCALES[j]))
            enclosed = 1 - np.exp(heights(panels[i, j])) / peak  # exp(-r^2 / 2) lies beyond radius r
            np.testing.assert_allclose(enclosed, levels[::-1], atol=0.05)


def test_pairwise_panels_show_their_dimensions():
    codes = torch.randn(200, 4) * SCALES
    before = torch.get_rng_state()
    panels = plot_pairwise_marginals(independent_normal(), codes)
    assert torch.equal(torch.get_rng_state(), before)
    for i in range(4):
        for j in range(4):
            if j < i:
                np.testing.assert_array_equal(panels[i, j].lines[0].get_xydata(), codes[:, [j, i]].double())
            assert panels[i, j].axison == (j <= i)
        assert panels[3, i].get_xlabel() == f"latent {i + 1}"
        assert panels[i, 0].get_ylabel() == (f"latent {i + 1}" if i else "density")


def test_dimensions_whose_codes_vary_most_are_drawn():
    codes = torch.randn(100, 4) * SCALES
    panels = plot_pairwise_marginals(torch.randn(4000, 4), codes, most=2)
    assert [panel.get_xlabel() for panel in panels[1]] == ["latent 2", "latent 3"]
    assert "the 2 of 4 dimensions" in panels[0, 1].get_legend().get_title().get_text()
    np.testing.assert_array_equal(panels[1, 0].lines[0].get_xydata(), codes[:, [1, 2]].double())


def test_an_aggregate_posterior_is_drawn_by_one_draw_for_each_row():
    loc = torch.zeros(1000, 3)
    loc[:, 0], loc[:, 2] = torch.linspace(-3, 3, 1000), torch.linspace(3, -3, 1000)
    scale = torch.tensor([0.01, 5.0, 0.01]).expand(1000, 3)
    prior = torch.randn(4000, 3)
    before = torch.get_rng_state()
    panels = plot_pairwise_marginals(prior, AggregatePosterior(loc, scale), most=2)
    assert torch.equal(torch.get_rng_state(), before)
    drawn = panels[1, 0].lines[0].get_xydata()
    assert [panel.get_xlabel() for panel in panels[1]] == ["latent 1", "latent 3"]
    deviations = (drawn - loc[:, [0, 2]].double().numpy()) / 0.01
    assert np.abs(deviations).max() < 5
    np.testing.assert_allclose(deviations.std(axis=0), 1.0, atol=0.1)


def test_one_dimensional_densities_are_kernel_estimates_of_one_width():
    samples, codes = torch.randn(3000, 2), 0.5 * torch.randn(400, 2) + 1
    panels = plot_pairwise_marginals(samples, codes)
    line = panels[1, 1].lines[0].get_xydata()
    (area,) = panels[1, 1].collections

    def width(values):
        first, third = np.quantile(values, [0.25, 0.75])
        return 0.6 * min(values.std(), (third - first) / 1.34) * len(values) ** -0.2

    clouds = [cloud[:, 1].double().numpy() for cloud in (samples, codes)]
    bandwidth = max(map(width, clouds))
    expected = [gaussian_kde(cloud, bandwidth / cloud.std(ddof=1))(line[:, 0]) for cloud in clouds]
    np.testing.assert_allclose(line[:, 1], expected[1], atol=0.01 * expected[1].max())
    top = max(vertex[1] for vertex in area.get_paths()[0].vertices)
    assert top == pytest.approx(expected[0].max(), rel=0.02)


def test_many_codes_are_drawn_as_pixels_by_their_number():
    codes = torch.randn(3000, 3)
    panel = plot_pairwise_marginals(torch.randn(4000, 3), codes)[1, 0]
    (image,) = panel.images
    assert not panel.lines
    left, right, bottom, top = image.get_extent()
    opacity = image.get_array()[..., 3]
    cells = len(opacity)
    counts = np.zeros((cells, cells))
    for x, y in codes[:, :2].double().numpy():
        column, line = (
            math.floor((x - left) / (right - left) * cells),
            math.floor((y - bottom) / (top - bottom) * cells),
        )
        if 0 <= line < cells and 0 <= column < cells:
            counts[line, column] += 1
    np.testing.assert_array_equal(opacity > 0, counts > 0)
    order = np.argsort(counts[counts > 0], kind="stable")
    assert (np.diff(opacity[counts > 0][order]) >= 0).all()
    assert opacity.max() < 0.6  # a dark contour is visible on this gray


def test_cells_have_counts_and_means():
    rng = np.random.default_rng(0)
    points, values = rng.normal(size=(500, 2)), rng.normal(size=500)
    low, high = np.array([-1.0, -2.0]), np.array([1.0, 1.5])
    counts, means = cell_sums(points, low, high, 4), cell_means(points, values, low, high, 4)
    for line in range(4):
        for column in range(4):
            lower = low + (high - low) / 4 * np.array([column, line])
            inside = [
                value
                for point, value in zip(points, values, strict=True)
                if (point >= lower).all() and (point < lower + (high - low) / 4).all()
            ]
            assert counts[line, column] == len(inside)
            assert means[line, column] == pytest.approx(sum(inside) / len(inside))
    assert np.ma.is_masked(cell_means(points[:1] * 0, values[:1], low, high, 4)[0, 0])


def test_component_use_is_ordered_by_weight_and_has_perplexities():
    weights, usage = np.array([0.1, 0.4, 0.2, 0.3]), torch.tensor([0.5, 0.25, 0.25, 0.0])
    axes = plot_component_use(weights, usage)
    line, dots, arrows = axes.lines
    np.testing.assert_allclose(line.get_ydata(), [0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(dots.get_xydata(), [[1, 0.25], [3, 0.25], [4, 0.5]])
    assert arrows.get_xdata().tolist() == [2]
    assert arrows.get_marker() == "v"
    assert axes.get_yscale() == "log"
    entropy = -sum(w * math.log(w) for w in weights)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[0] == f"mixing weights: perplexity {math.exp(entropy):.1f} of 4"
    assert texts[1].endswith(f"perplexity {2**1.5:.1f}")
    assert axes.get_title().startswith("1 of 4 components")


def test_equal_weights_are_ordered_by_use():
    usage = np.random.default_rng(0).dirichlet(np.full(50, 0.5))
    weights = torch.softmax(torch.zeros(50), 0)
    seen = plot_component_use(weights, usage).lines[1].get_ydata()
    np.testing.assert_allclose(seen, sorted(usage, reverse=True)[: len(seen)])


MODELS = ["normal", "mixture of Gaussians", "vamp", "gtm", "gtm-vamp", "flow", "vamp, L = 2", "gtm-vamp, 20 x 20"]


@pytest.mark.parametrize("seed", range(4))
def test_legend_of_eight_models_covers_nothing_and_styles_are_distinct(seed):
    rng = np.random.default_rng(seed)
    points = {name: 20 + 2 * rng.normal(size=2) for name in MODELS}
    axes = plot_rate_distortion(points, errors={"vamp": (0.3, 0.4)})
    axes.figure.draw_without_rendering()
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == MODELS
    box = legend.get_window_extent()
    assert axes.figure.bbox.x0 <= box.x0 < box.x1 <= axes.figure.bbox.x1
    assert not any(box.overlaps(other.get_window_extent()) for other in [axes.patch, *axes.texts])
    looks = []
    for (name, place), bars in zip(points.items(), axes.containers, strict=True):
        assert bars.get_label() == name
        np.testing.assert_array_equal(bars.lines[0].get_xydata(), [place])
        looks.append((bars.lines[0].get_marker(), bars.lines[0].get_markerfacecolor()))
    assert len(set(looks)) == len(MODELS)


def test_iso_lines_have_the_elbo_of_their_labels():
    axes = plot_rate_distortion({"a": (20.0, 80.0), "b": (25.0, 70.0)})
    lines = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
    texts = {text.xy: text.get_text().replace("\N{MINUS SIGN}", "-") for text in axes.texts}
    assert len(lines) == len(texts) >= 3
    for line in lines:
        elbos = -line.get_xydata().sum(axis=1)
        np.testing.assert_allclose(elbos, float(texts[tuple(line.get_xydata()[-1])]))


def test_a_model_without_errors_has_no_bars_in_the_legend():
    axes = plot_rate_distortion({"a": (1.0, 2.0), "b": (2.0, 1.0)}, errors={"b": (0.1, 0.2)})
    assert [(each.has_xerr, each.has_yerr) for each in axes.containers] == [(False, False), (True, True)]
    assert "bars: ± standard error" in axes.get_title()
    assert "bars" not in plot_rate_distortion({"a": (1.0, 2.0)}).get_title()


def test_standard_errors_are_drawn_as_bars():
    axes = plot_rate_distortion({"a": (20.0, 80.0), "b": (25.0, 70.0)}, errors={"b": (0.5, 2.0)})
    across, up = (bar.get_segments()[0] for bar in axes.containers[1].lines[2])
    np.testing.assert_allclose(across, [[24.5, 70.0], [25.5, 70.0]])
    np.testing.assert_allclose(up, [[25.0, 68.0], [25.0, 72.0]])


def luma(color):
    """Return the lightness of a color in gray, by Pillow."""
    pixel = tuple(round(255 * part) for part in to_rgb(color))
    return Image.new("RGB", (1, 1), pixel).convert("L").getpixel((0, 0)) / 255


def test_prior_and_codes_differ_in_gray():
    few, many = (plot_pairwise_marginals(torch.randn(4000, 2), torch.randn(n, 2)) for n in (50, 5000))
    fills = [luma(color) for each in few[1, 0].collections if each.filled for color in each.get_facecolor()[:, :3]]
    assert min(fills) - luma(few[1, 0].lines[0].get_color()) > 0.5
    assert (np.diff(fills) < -0.02).all()  # each region is darker than the one around it
    (contours,) = many[1, 0].collections
    darkest = 1 - many[1, 0].images[0].get_array()[..., 3].max()
    assert darkest - luma(contours.get_edgecolor()[0]) > 0.15
    line, dots, _ = plot_component_use([0.5, 0.5], [1.0, 0.0]).lines
    assert luma(dots.get_color()) - luma(line.get_color()) > 0.4


@pytest.mark.filterwarnings("error")
def test_constant_dimensions_are_drawn(tmp_path):
    codes = torch.randn(30, 3) * torch.tensor([1.0, 0.0, 1.0])
    save_figure(plot_pairwise_marginals(torch.zeros(50, 3), codes), tmp_path / "flat.svg")


def test_given_axes_are_used():
    panels = Figure().subplots(2, 3)
    assert plot_component_use([0.5, 0.5], [0.5, 0.5], axes=panels[0, 2]) is panels[0, 2]
    assert plot_rate_distortion({"a": (1, 2)}, axes=panels[1, 2]) is panels[1, 2]
    assert (plot_pairwise_marginals(torch.randn(99, 2), torch.randn(9, 2), axes=panels[:, :2]) == panels[:, :2]).all()


CODES = torch.randn(9, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plot_pairwise_marginals(torch.randn(9, 3), torch.randn(9, 2)),
            r"prior: expected samples \(number, 2\)",
        ),
        (lambda: plot_pairwise_marginals(torch.randn(9, 1), torch.randn(9, 1)), "codes: expected finite numbers"),
        (lambda: plot_pairwise_marginals(CODES, torch.full((9, 2), math.nan)), "codes: expected finite"),
        (lambda: plot_pairwise_marginals(CODES, CODES, most=1), "most: expected at least 2"),
        (
            lambda: plot_pairwise_marginals(CODES, CODES, levels=[2.0]),
            "levels: expected masses",
        ),
        (
            lambda: plot_pairwise_marginals(CODES, CODES, axes=Figure().subplots(3, 3)),
            "axes: expected an array of 2 x 2 axes",
        ),
        (lambda: plot_component_use([0.5, 0.6], [0.5, 0.5]), "weights: expected shares"),
        (lambda: plot_component_use([0.5, 0.5], [-0.5, 1.5]), "usage: expected shares"),
        (lambda: plot_component_use([0.5, 0.5], [1.0]), "usage: expected 2 shares, one per weight, got 1"),
        (lambda: plot_rate_distortion({}), "points: expected name -> "),
        (lambda: plot_rate_distortion({"a": (1.0, math.nan)}), "points: expected name -> "),
        (lambda: plot_rate_distortion({"a": (1, 2)}, errors={"b": (1, 1)}), "errors: expected names of points"),
        (lambda: plot_rate_distortion({"a": (1, 2)}, errors={"a": (-1, 1)}), "errors: expected name -> two standard"),
    ],
)
def test_invalid_arguments_raise_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
