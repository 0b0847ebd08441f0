"""Figures of very many rows: vector files are small and written quickly, because rows are drawn as pixels."""

import time

import numpy as np
import pytest
import torch

from priory import plots
from priory.grid.nodes import latent_grid

MANY = 200_000  # a million, in the slow suite, take five times as long
SECONDS, MEGABYTES = 30.0, 4.0  # generous: 200 000 rows take 0.5 to 3.5 s; maps as vectors would have 14 MB and more

RNG = np.random.default_rng(0)


def cloud(number, columns=2):
    return RNG.uniform(-1, 1, size=(number, columns))


FIGURES = {
    "letters": lambda n: plots.plot_map(cloud(n), classes=np.arange(n) % 10),
    "markers": lambda n: plots.plot_map(cloud(n), classes=np.array(["long", "longer", ""])[np.arange(n) % 3]),
    "plain": lambda n: plots.plot_map(cloud(n)),
    "values": lambda n: plots.plot_map(cloud(n), values=np.where(np.arange(n) % 9, np.arange(n), np.nan)),
    "spread": lambda n: plots.plot_map(cloud(n).round(1), values=np.arange(n), nodes=latent_grid(20)),
    "magnification": lambda n: plots.plot_magnification(np.ones(400), cloud(n)),
    "classes": lambda n: plots.plot_class_landscape(cloud(400) ** 2, ["a", "b"], places=cloud(n)),
    "pairwise": lambda n: plots.plot_pairwise_marginals(cloud(n, 8), cloud(n, 8)),
    "samples": lambda n: plots.plot_samples(cloud(n, 20), cloud(n, 20)),
    "contours": lambda n: plots.plot_prior_contours(
        torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), 1.0), 1), torch.from_numpy(cloud(n))
    ),
}


def check_small_and_quick(figure, number, folder, seconds, suffixes):
    start = time.perf_counter()
    axes = FIGURES[figure](number)
    for suffix in suffixes:
        path = folder / f"many.{suffix}"
        plots.save_figure(axes, path)
        assert path.stat().st_size < MEGABYTES * 1e6
    assert time.perf_counter() - start < seconds


@pytest.mark.parametrize("figure", FIGURES)
def test_many_rows_give_a_small_svg(figure, tmp_path):
    check_small_and_quick(figure, MANY, tmp_path, SECONDS, ["svg"])


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
def test_a_million_rows_give_small_vector_files(figure, tmp_path):
    check_small_and_quick(figure, 1_000_000, tmp_path, 5 * SECONDS, ["svg", "pdf"])


def test_many_numbers_are_drawn_as_means_of_cells():
    number = 6000
    places, values = cloud(number), RNG.normal(size=number)
    axes = plots.plot_map(places, values=values, name="weight")
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    means = image.get_array()
    rows: dict[tuple[int, int], list[float]] = {}
    for (x, y), value in zip(places, values, strict=True):
        line = int((y - bottom) / (top - bottom) * len(means))
        rows.setdefault((line, int((x - left) / (right - left) * len(means))), []).append(value)
    for cell, held in rows.items():
        assert means[cell] == pytest.approx(sum(held) / len(held))
    assert np.ma.count(means) == len(rows)
    assert axes.figure.axes[1].get_ylabel() == "weight, mean of the rows in each cell"


@pytest.mark.parametrize("number", [9, 6000])
def test_rows_without_any_number_are_drawn(number, tmp_path):
    axes = plots.plot_map(cloud(number), values=np.full(number, np.nan))
    plots.save_figure(axes, tmp_path / "none.png")
    assert axes.get_legend().get_texts()[0].get_text() == f"none ({number})"


def test_nodes_without_any_number_are_drawn(tmp_path):
    axes = plots.plot_node_values(np.full(9, np.nan), "usage")
    plots.save_figure(axes, tmp_path / "none.svg")
    assert axes.patch.get_hatch()
