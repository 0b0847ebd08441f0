"""Figures, checked by the artists that matplotlib draws."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

pytest.importorskip("matplotlib")

from matplotlib.collections import PolyCollection
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from priory import plots

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


def standard_normal():
    return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)


def narrow_mixture(scale, num_components=16):
    """Return a mixture with equal weights and different widths, the smallest below a thousandth of the window."""
    generator = torch.Generator().manual_seed(0)
    loc = 3 * torch.randn(num_components, 2, generator=generator)
    widths = scale * torch.linspace(0.5, 2, num_components)[:, None].expand(-1, 2)
    return MixtureSameFamily(Categorical(torch.ones(num_components)), Independent(Normal(loc, widths), 1))


class LogProbOnly:
    """A density without a sampler."""

    def __init__(self, density, offset=0.0):
        self.density, self.offset = density, offset

    def log_prob(self, value):
        return self.density.log_prob(value) + self.offset


def thresholds(axes):
    (lines,) = (c for c in axes.collections if isinstance(c, ContourSet) and not c.filled)
    return lines.levels


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_contours_of_a_standard_normal_agree_with_the_closed_form():
    axes = plots.plot_prior_contours(standard_normal(), torch.randn(450, 2), levels=LEVELS)
    # The mass beyond radius r is exp(-r^2 / 2), so the region with density above t has mass 1 - 2 pi t.
    enclosed = 1 - 2 * math.pi * np.exp(thresholds(axes))
    np.testing.assert_allclose(enclosed, LEVELS[::-1], atol=2e-3)


@pytest.mark.parametrize("scale", [0.3, 0.05, 0.01, 0.001])
def test_contours_of_mixtures_enclose_the_stated_share_of_samples(scale):
    prior = narrow_mixture(scale)
    axes = plots.plot_prior_contours(prior, prior.sample((450,)), levels=LEVELS)
    log_density = prior.log_prob(prior.sample((40_000,))).numpy()
    enclosed = [(log_density > threshold).mean() for threshold in thresholds(axes)]
    np.testing.assert_allclose(enclosed, sorted(LEVELS, reverse=True), atol=0.02)


def test_contours_without_a_sampler_are_limited_to_the_mass_in_the_window():
    points = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    with pytest.warns(UserWarning, match="has 0.466 of the prior's mass"):  # erf(1 / sqrt(2))^2
        axes = plots.plot_prior_contours(LogProbOnly(standard_normal()), points, levels=LEVELS, margin=0.0)
    expected = [math.log(0.7 / (2 * math.pi)), math.log(0.9 / (2 * math.pi))]
    np.testing.assert_allclose(thresholds(axes), expected, atol=0.02)
    assert "contours enclose 10, 30 %" in axes.get_title()


def test_a_plateau_is_one_contour():
    def log_prob(value):
        return torch.where((value.abs() < 1).all(dim=1), -math.log(4), -math.inf)

    density = LogProbOnly(standard_normal())
    density.log_prob = log_prob
    axes = plots.plot_prior_contours(density, torch.tensor([[-1.5, -1.5], [1.5, 1.5]]), levels=[0.5, 0.9])
    np.testing.assert_allclose(thresholds(axes), [-math.log(4)])


@pytest.mark.parametrize("number", [1, 7, 450, 3000])
def test_every_point_is_a_dot_and_the_window_has_99_percent_of_points_and_samples(number):
    points = 2 * torch.distributions.StudentT(2.0).sample((number, 2)) + 1
    axes = plots.plot_prior_contours(standard_normal(), points)
    (dots,) = axes.lines
    np.testing.assert_array_equal(dots.get_xydata(), points.double().numpy())
    low, high = np.transpose([axes.get_xlim(), axes.get_ylim()])
    for cloud in (points, torch.randn(20_000, 2)):
        assert ((cloud.numpy() >= low) & (cloud.numpy() <= high)).all(axis=1).mean() >= 0.99 - 0.005 * (
            len(cloud) > 9999
        )
    assert np.ptp(axes.get_xlim()) == pytest.approx(np.ptp(axes.get_ylim()))
    assert axes.get_aspect() == 1
    outside = int((~((points.numpy() >= low) & (points.numpy() <= high)).all(axis=1)).sum())
    assert (f"({outside} outside" in axes.get_title()) == (outside > 0)


def test_contours_use_given_axes_and_leave_the_generator_unchanged():
    panels = Figure().subplots(1, 2)
    points = torch.randn(10, 2, dtype=torch.float64, requires_grad=True)
    before = torch.get_rng_state()
    prior = Independent(Normal(torch.zeros(2, dtype=torch.float64), 1.0), 1)
    assert plots.plot_prior_contours(prior, points, axes=panels[1]) is panels[1]
    assert torch.equal(torch.get_rng_state(), before)
    assert not panels[0].lines


@pytest.mark.parametrize(
    ("prior", "points", "options", "message"),
    [
        (standard_normal(), torch.zeros(5, 40), {}, r"points: expected shape \(N, 2\), got \(5, 40\).*priory.maps"),
        (standard_normal(), torch.zeros(0, 2), {}, "points: expected at least one row of finite floats, got 0 rows"),
        (standard_normal(), torch.full((5, 2), torch.nan), {}, "points: expected at least one row of finite floats"),
        (Normal(torch.zeros(2), 1.0), torch.zeros(5, 2), {}, r"prior: expected batch shape \(\) .*Independent"),
        (
            LogProbOnly(Normal(torch.zeros(2), 1.0)),
            torch.randn(5, 2),
            {},
            "prior: expected a log_prob of one number per row",
        ),
        (LogProbOnly(standard_normal(), torch.nan), torch.randn(5, 2), {}, "prior: expected a log_prob .* NaN"),
        (
            standard_normal(),
            torch.zeros(5, 2),
            {"levels": [50.0, 90.0]},
            "levels: expected enclosed masses between 0 and 1",
        ),
        (standard_normal(), torch.zeros(5, 2), {"levels": []}, "levels: expected"),
        (standard_normal(), torch.zeros(5, 2), {"margin": -1.0}, "margin: expected a fraction >= 0"),
    ],
)
def test_invalid_arguments_of_contours_raise_clear_errors(prior, points, options, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_prior_contours(prior, points, **options)


def test_a_window_without_the_prior_is_refused():
    far = LogProbOnly(Independent(Normal(torch.full((2,), 50.0), 1.0), 1))
    with pytest.warns(UserWarning, match="window has"), pytest.raises(ValueError, match="levels: the window holds"):
        plots.plot_prior_contours(far, torch.randn(50, 2))


def test_unnormalized_densities_give_a_warning_and_are_scaled():
    with pytest.warns(UserWarning, match="not normalized"):
        axes = plots.plot_prior_contours(LogProbOnly(standard_normal(), 5.0), 4 * torch.randn(99, 2), levels=[0.5])
    np.testing.assert_allclose(thresholds(axes), [math.log(0.5 / (2 * math.pi)) + 5], atol=0.02)


def test_labeled_points_of_contours_are_styled_as_on_a_map():
    prior, points = standard_normal(), torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    kinds = np.array(["a", "b", ""])[np.arange(300) % 3]
    axes = plots.plot_prior_contours(prior, points, classes=kinds, name="kind")
    assert axes.get_legend().get_title().get_text() == "kind (rows)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a (100)", "b (100)", "none (100)"]
    drawn = np.concatenate([line.get_xydata() for line in axes.lines])
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(points.numpy(), axis=0))
    axes = plots.plot_prior_contours(prior, points, values=points[:, 0].numpy(), name="dose")
    (dots,) = (each for each in axes.collections if len(each.get_offsets()) == 300)
    np.testing.assert_allclose(dots.get_array(), dots.get_offsets()[:, 0])
    assert dots.colorbar.ax.get_ylabel() == "dose"
    many = torch.randn(6000, 2, generator=torch.Generator().manual_seed(0))
    axes = plots.plot_prior_contours(prior, many, values=many[:, 0].numpy(), name="dose")
    assert axes.images[0].get_extent() == [*axes.get_xlim(), *axes.get_ylim()]
    with pytest.raises(ValueError, match=r"classes, values: expected one of them, 300 long, got \[2\]"):
        plots.plot_prior_contours(prior, points, classes=["a", "b"])


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 5)])
def test_each_pixel_of_each_image_has_the_correct_position(shape):
    images = torch.arange(7 * 15, dtype=torch.float32).reshape(7, 15)
    axes = plots.plot_images(images, image_shape=shape, columns=3, title="seven")
    canvas = axes.images[0].get_array()
    assert canvas.shape == (9, 15)
    for n in range(7):
        for i in range(3):
            for j in range(5):
                assert canvas[n // 3 * 3 + i, n % 3 * 5 + j] == images[n, i * 5 + j]
    assert np.ma.getmaskarray(np.ma.masked_invalid(canvas)).sum() == 2 * 15
    frames = next(c for c in axes.collections if isinstance(c, PolyCollection)).get_paths()
    assert len(frames) == 7
    np.testing.assert_array_equal(frames[4].vertices[0], [4.5, 2.5])  # between pixels
    assert axes.get_title() == "seven"


def test_images_share_one_gray_scale():
    scale = plots.plot_images(np.eye(4, dtype=np.uint8), image_shape=(2, 2), low=-1.0, high=3.0).images[0].norm
    assert (scale.vmin, scale.vmax) == (-1, 3)
    scale = plots.plot_reconstructions(np.eye(4), 9 * np.eye(4), image_shape=(2, 2)).images[0].norm
    assert (scale.vmin, scale.vmax) == (0, 1)


def test_reconstructions_are_below_their_originals_and_labeled():
    originals, reconstructions = np.random.default_rng(0).random((2, 5, 6))
    axes = plots.plot_reconstructions(originals, reconstructions, image_shape=(2, 3), columns=3)
    canvas = axes.images[0].get_array()
    stride = 5  # two lines of images and a gap of one pixel
    for n in range(5):
        top, left = n // 3 * stride, n % 3 * 3
        np.testing.assert_array_equal(canvas[top : top + 2, left : left + 3].ravel(), originals[n])
        np.testing.assert_array_equal(canvas[top + 2 : top + 4, left : left + 3].ravel(), reconstructions[n])
    np.testing.assert_array_equal(axes.get_yticks(), [0.5, 2.5, 5.5, 7.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["data", "reconstruction"] * 2


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.plot_images(np.ones((3, 7)), image_shape=(2, 3)), "images: expected 6 columns"),
        (lambda: plots.plot_images(np.ones((3, 6)), image_shape=(3, 2, 1)), r"image_shape: expected \(height, width\)"),
        (lambda: plots.plot_images(np.ones((3, 6)), image_shape=(2, 3), columns=0), "columns: expected at least 1"),
        (lambda: plots.plot_images(np.ones((0, 6)), image_shape=(2, 3)), r"images: expected shape \(batch, input\)"),
        (
            lambda: plots.plot_reconstructions(np.ones((3, 6)), np.ones((2, 6)), image_shape=(2, 3)),
            "reconstructions: expected the shape of originals",
        ),
        (lambda: plots.plot_rows(np.ones((3, 6)), np.ones((3, 5))), "reconstructions: expected the shape of originals"),
        (lambda: plots.plot_rows(np.ones((3, 2)), np.ones((3, 2)), names=["a"]), "names: expected 2 names"),
        (lambda: plots.plot_rows(np.ones((3, 2)), np.ones((3, 2)), axes=[Figure().subplots()]), "axes: expected two"),
        (lambda: plots.plot_samples(np.ones((3, 6)), np.ones((3, 5))), "samples: expected 6 columns as in data"),
        (lambda: plots.plot_samples(np.ones((3, 6)), np.ones((3, 6)), max_columns=0), "max_columns: expected at least"),
        (lambda: plots.plot_training_curve({"epoch": [1]}), "history: expected 'epoch' and 'train_elbo'"),
        (
            lambda: plots.plot_training_curve({"epoch": [1], "train_elbo": []}),
            "history: expected columns of one length",
        ),
        (lambda: plots.save_figure(Figure(), "figure.xyz"), "path: expected a suffix among .*svg.*got 'figure.xyz'"),
    ],
)
def test_errors_name_the_argument(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_rows_are_standardized_by_the_data():
    data = torch.tensor([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]])
    left, right = plots.plot_rows(data, data + 2, names=["a", "b"])
    scale = math.sqrt(8 / 3)
    np.testing.assert_allclose(left.images[0].get_array(), [[-2 / scale, 0], [0, 0], [2 / scale, 0]])
    np.testing.assert_allclose(
        right.images[0].get_array(), [[0, 2], [2 / scale, 2], [4 / scale, 2]]
    )  # constant: shifted
    assert left.images[0].get_clim() == right.images[0].get_clim() == (-2.5, 2.5)
    assert [label.get_text() for label in right.get_xticklabels()] == ["a", "b"]


def test_samples_are_drawn_as_quantiles_standardized_by_the_data():
    data = np.random.default_rng(0).normal(size=(200, 4)) * 5 + 3
    samples = data[:100] + 5
    axes = plots.plot_samples(data, samples)
    thin, thick = axes.collections[2:]
    for column in range(4):
        standard = (samples[:, column] - data[:, column].mean()) / data[:, column].std()
        drawn = [bar.get_segments()[column][:, 0] for bar in (thin, thick)]
        np.testing.assert_allclose(drawn, np.quantile(standard, [[0.05, 0.95], [0.25, 0.75]]))
        assert axes.lines[1].get_xdata()[column] == pytest.approx(np.median(standard))
    assert axes.get_title() == "median, middle 50 % and 90 %"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["data (200 rows)", "samples (100 rows)"]


@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_the_columns_with_the_largest_variance_of_a_wide_table_are_drawn(make):
    data = np.random.default_rng(0).normal(size=(50, 30))
    data[:, [28, 3, 17]] *= 9.0, 7.0, 8.0
    names = [f"gene {i}" for i in range(30)]
    title = "the 3 of 30 columns with the largest variance"
    axes = plots.plot_samples(make(data), make(data[:9] + 1), names=names, max_columns=3)
    assert axes.get_title().startswith(title)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gene 3", "gene 17", "gene 28"]
    np.testing.assert_allclose(
        axes.lines[1].get_xdata(), np.median(((data[:9] + 1 - data.mean(0)) / data.std(0))[:, [3, 17, 28]], axis=0)
    )
    left, right = plots.plot_rows(make(data), make(data + 1), names=names, max_columns=3)
    assert left.figure.get_suptitle() == title
    assert [label.get_text() for label in right.get_xticklabels()] == ["gene 3", "gene 17", "gene 28"]
    shown = (data + 1 - data.mean(0)) / data.std(0)
    np.testing.assert_allclose(right.images[0].get_array(), shown[:, [3, 17, 28]])


def history(epochs=100, warm_up=20):
    epoch = np.arange(1, epochs + 1)
    train = -88 - 1e5 * np.exp(-epoch / 1.0) - 15 * np.exp(-epoch / 20)
    valid = np.where(epoch % 5 == 0, train - 3 - 0.001 * np.maximum(epoch - 60, 0) ** 2, np.nan)
    valid[9] = 0.0  # epoch 10 has the highest value, but is in the warm-up, which has another bound
    kl = 24 * (1 - np.exp(-epoch / 6.0))
    beta = np.minimum(1, epoch / warm_up)
    return {"epoch": epoch, "train_elbo": train, "valid_elbo": valid, "train_kl": kl, "beta": beta, "seconds": epoch}


def labeled(axes, label):
    (line,) = (line for line in axes.lines if line.get_label().startswith(label))
    return line


def test_training_curve_marks_the_best_full_epoch_and_the_end_of_the_warm_up():
    columns = history()
    upper, lower = plots.plot_training_curve(columns)
    candidates = [(columns["valid_elbo"][i], i + 1) for i in range(19, 100) if np.isfinite(columns["valid_elbo"][i])]
    best, epoch = max(candidates)
    assert labeled(upper, f"best epoch after the warm-up: {epoch} (\N{MINUS SIGN}").get_xydata().tolist() == [
        [epoch, best]
    ]
    for panel in (upper, lower):
        assert set(labeled(panel, "KL warm-up ends").get_xdata()) == {20}
    assert len(labeled(upper, "validation").get_xdata()) == 20  # a line through the epochs that were validated
    np.testing.assert_array_equal(labeled(lower, "training").get_ydata(), columns["train_kl"])
    assert [panel.get_ylabel() for panel in (upper, lower)] == ["ELBO (nats)", "KL (nats)"]


def test_the_legend_mentions_the_warm_up_only_if_it_matters():
    columns = history()
    columns["valid_elbo"][9] = np.nan
    upper, _ = plots.plot_training_curve(columns)
    assert labeled(upper, "best epoch").get_label().startswith("best epoch: ")
    columns["beta"][:] = 1
    columns["valid_elbo"][9] = 0
    upper, _ = plots.plot_training_curve(columns)
    assert labeled(upper, "best epoch").get_label() == "best epoch: 10 (0.00 nats)"


def test_the_best_epoch_has_the_best_objective():
    columns = history() | {"beta": np.ones(100)}
    columns["valid_objective"] = np.where(np.arange(100) == 69, -1.0, -50.0)
    columns["valid_elbo"][69] = -84.0
    upper, _ = plots.plot_training_curve(columns)
    mark = labeled(upper, "best epoch: 70 (\N{MINUS SIGN}1.00 nats of the objective)")
    assert mark.get_xydata().tolist() == [[70, -84.0]]


def test_first_epochs_do_not_compress_the_training_curve():
    columns = history()
    columns["valid_elbo"][9] = np.nan
    upper, lower = plots.plot_training_curve(columns)
    low, high = upper.get_ylim()
    assert -130 < low < columns["train_elbo"][20:].min()
    assert -88.2 < high < -80
    assert "lie below the axis" in upper.get_title(loc="right")
    assert lower.get_ylim()[0] < columns["train_kl"].min()  # no extreme values, so none are cut off
    assert lower.get_title(loc="right") == ""


@pytest.mark.parametrize(
    "draw",
    [lambda: plots.plot_training_curve(history())[0], lambda: plots.plot_likelihood_curve(-(np.arange(9.0) ** 2))],
)
def test_legends_do_not_overlap_curves(draw):
    axes = draw()
    axes.figure.canvas.draw()
    legend, panel = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert not legend.shrunk(0.999, 0.999).overlaps(panel)
    assert axes.figure.bbox.contains(legend.x1, legend.y0)  # inside the figure


def test_the_legend_mentions_noise_on_training_rows():
    upper, _ = plots.plot_training_curve(history(), input_noise=0.126)
    assert labeled(upper, "training").get_label() == "training, with noise 0.13\non the encoder's input"
    assert upper.get_ylim()[0] > -200  # the first epochs are cut off here, too


@pytest.mark.parametrize(
    "columns",
    [
        {"epoch": [1], "train_elbo": [-5.0], "train_kl": [2.0]},
        {"epoch": [1, 2], "valid_elbo": [-5.0, -5.0], "beta": [0.1, 0.2]},
        {"epoch": [1, 2], "train_elbo": [math.nan, -5.0], "valid_elbo": [math.nan] * 2, "train_kl": [math.nan] * 2},
    ],
)
def test_short_and_sparse_histories_are_drawn(columns, tmp_path):
    panels = plots.plot_training_curve(columns)
    plots.save_figure(panels, tmp_path / "curve.png")
    assert not [line for line in panels[0].lines if line.get_label() == "KL warm-up ends"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_saving_a_figure_leaves_no_other_files(tmp_path, suffix):
    axes = plots.plot_images(np.eye(4, 6), image_shape=(2, 3))
    path = tmp_path / f"figure.{suffix}"
    for figure in (axes, axes.figure, np.array([axes])):
        plots.save_figure(figure, path)
    start = path.read_bytes()[:8]
    assert start.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])
    assert os.listdir(tmp_path) == [path.name]


def test_a_failed_save_keeps_the_old_figure(tmp_path, monkeypatch):
    axes = plots.plot_images(np.eye(4, 6), image_shape=(2, 3))
    path = tmp_path / "figure.svg"
    path.write_text("old")

    def half(self, target, **options):
        with open(target, "w") as file:
            file.write("half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        plots.save_figure(axes, path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_figure_with_a_subfigure_is_saved_as_a_whole(tmp_path):
    left, _ = Figure(figsize=(4, 1)).subfigures(1, 2)
    plots.save_figure(left.subplots(), tmp_path / "whole.png")
    width, height = np.frombuffer((tmp_path / "whole.png").read_bytes()[16:24], dtype=">u4")
    assert (width, height) == (800, 200)


def test_twenty_thousand_dots_give_a_small_svg(tmp_path):
    for number, vector in ((20_000, False), (1000, True)):
        axes = plots.plot_prior_contours(standard_normal(), torch.randn(number, 2))
        plots.save_figure(axes, tmp_path / "dots.svg")
        assert (tmp_path / "dots.svg").stat().st_size < 1e6
        assert (axes.lines[0].get_rasterized() is True) != vector


def run(script):
    return subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)


def test_plots_do_not_change_global_settings(tmp_path):
    script = f"""
import sys, numpy as np, torch, matplotlib
def settings():  # reading `rcParams["backend"]` would choose a backend
    return {{key: repr(dict.__getitem__(matplotlib.rcParams, key)) for key in matplotlib.rcParams}}
before = settings()
from priory import plots
normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), 1.0), 1)
plots.save_figure(plots.plot_prior_contours(normal, torch.randn(9, 2)), {str(tmp_path / "a.pdf")!r})
plots.save_figure(plots.plot_training_curve({{"epoch": [1, 2], "train_elbo": [1, 2]}}), {str(tmp_path / "a.svg")!r})
plots.plot_rows(np.eye(3), np.eye(3)), plots.plot_samples(np.eye(3), np.eye(3))
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
"""
    result = run(script)
    assert result.returncode == 0, result.stderr


def test_an_error_names_the_extra_if_matplotlib_is_missing():
    script = """
import sys
sys.modules["matplotlib"] = None
from priory import plots
import numpy
try:
    plots.plot_samples(numpy.eye(3), numpy.eye(3))
except ImportError as error:
    assert "pip install '.[plots]'" in str(error)
else:
    raise SystemExit("no error")
"""
    result = run(script)
    assert result.returncode == 0, result.stderr


HOSTILE = [r"$\foo$", "_hidden", "a$_{b$ c", "x" * 200, "<b>two\nlines</b>"]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_names_from_a_file_are_drawn_literally(tmp_path, kind):
    """Two $ make no formula, names that begin with _ are in the legend, and long names leave room for the picture."""
    rows = np.random.default_rng(0).normal(size=(9, 5))
    classes = np.resize(HOSTILE, 9)
    axes = {
        "samples": plots.plot_samples(rows, rows, names=HOSTILE),
        "reconstructions": plots.plot_rows(rows, rows, names=HOSTILE)[0],
        "landscapes": plots.plot_landscapes(rows, names=HOSTILE)[0],
        "classes": plots.plot_map(rows[:, :2], classes=classes, name=HOSTILE[0]),
        "values": plots.plot_map(rows[:, :2], values=rows[:, 2], name=HOSTILE[0]),
        "nodes": plots.plot_node_values(rows[:, 0], HOSTILE[0]),
        "landscape": plots.plot_class_landscape(np.eye(5)[np.arange(9) % 5], HOSTILE, name=HOSTILE[3]),
    }
    for name, drawn in axes.items():
        plots.save_figure(drawn, tmp_path / f"{name}.{kind}")
        box = drawn.get_position()
        assert min(box.width, box.height) > 0.1, name
    for name in ("classes", "landscape"):
        listed = [text.get_text().strip() for text in axes[name].get_legend().get_texts()]
        assert len(listed) == 5
        assert any(text.startswith("_hidden (") for text in listed)
