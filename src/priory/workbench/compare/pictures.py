"""The pictures of a comparison: one panel per prior, from the run of its first seed."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory._support.seeds import own_noise
from priory.evaluation.contexts import overall_prior
from priory.maps.model_surface import grid_prior_of
from priory.model import device_of
from priory.plots import plot_map, plot_prior_contours, plot_rate_distortion, save_figure
from priory.plots.figure import to_numpy
from priory.plots.regions import draw, square_window
from priory.vae import AnyVAE
from priory.workbench.compare.cells import Cell
from priory.workbench.compare.panels import for_all, panels_for, write_below
from priory.workbench.compare.results import Comparison
from priory.workbench.data import DatasetRows, telling_rows
from priory.workbench.jobs import vae as vae_jobs
from priory.workbench.pictures.maps import by_first_label, some_rows
from priory.workbench.report import Picture
from priory.workbench.runs.folder import FIGURES
from priory.workbench.runs.vae_run import Run

MARGIN = 0.06  # around the window, as a share of its side
MOST_ALIKE = 4.0  # ratio of window sides; above it, shared axes would make the smaller prior's contours a blot
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)  # mass of the prior inside each contour

Window = tuple[np.ndarray, np.ndarray]  # lower left and upper right corner


class Drawing(NamedTuple):
    """A figure that is not yet saved, with title and caption."""

    figure: Any
    title: str
    caption: str


class Shown(NamedTuple):
    """A run in a picture: its cell, model and rows, and the result of `vae_jobs.embed` for the rows."""

    cell: Cell
    vae: AnyVAE
    rows: DatasetRows
    places: dict[str, np.ndarray]


def draw_pictures(comparison: Comparison, out: Path) -> tuple[list[Picture], list[str]]:
    """Draw the pictures that suit the models into `out/figures`; return them, and a sentence for each one left out."""
    shown = _shown_runs(comparison, out)
    if not shown:
        return [], []
    pictures, left_out = [], []
    drawings = {"contours": contours(shown), "maps": maps(shown), "rate_distortion": rate_distortion(comparison)}
    for name, drawn in drawings.items():
        if isinstance(drawn, str):
            left_out.append(drawn)
            continue
        path = out / FIGURES / f"{name}.png"
        save_figure(drawn.figure, path)
        pictures.append(Picture(drawn.title, drawn.caption, path))
    return pictures, left_out


def _shown_runs(comparison: Comparison, out: Path) -> list[Shown]:
    """Return each prior's first finished run; all have the same rows."""
    shown: list[Shown] = []
    for cell in filter(None, map(comparison.first_run, comparison.priors)):
        run = Run.open(out / cell.name)
        vae = run.load_model()
        rows = shown[0].rows if shown else some_rows(telling_rows(run.load_dataset()))
        shown.append(Shown(cell, vae, rows, vae_jobs.embed(vae, rows)))
    return shown


def contours(shown: list[Shown]) -> Drawing | str:
    """Draw the contours of each prior, if possible in the same window."""
    latent_dim = shown[0].places["z_mean"].shape[1]
    if latent_dim != 2:
        return f"contours of the priors are left out: they need --latent-dim 2, but these runs have {latent_dim}"
    windows = [_window(each) for each in shown]
    sides = [float((high - low).max()) for low, high in windows]
    shared = max(sides) <= MOST_ALIKE * min(sides)
    if shared:
        low, high = np.min([w[0] for w in windows], axis=0), np.max([w[1] for w in windows], axis=0)
        center, half = (low + high) / 2, float((high - low).max()) / 2
        windows = [(center - half, center + half)] * len(windows)  # the smallest square around all
    look = by_first_label(shown[0].rows)
    panels = panels_for(len(shown), 3.6)
    for panel, each, window in zip(panels, shown, windows, strict=True):
        with torch.no_grad():
            prior = overall_prior(each.vae, each.rows)
            plot_prior_contours(prior, _means(each), **look, levels=LEVELS, window=window, axes=panel)
        panel.set_title(str(each.cell), fontsize="medium")
    for_all(panels)
    masses = ", ".join(f"{100 * level:g}" for level in LEVELS)
    dots, label = ("markers", f", by {look['name']}") if look else ("dots", "")
    scales = "all panels have the same axes" if shared else "the axes differ, because the latent spaces do"
    caption = (
        f"Contours enclose {masses} % of the prior's mass; {dots} are the encoded means of "
        f"{len(shown[0].rows)} rows{label}; {scales}."
    )
    write_below(panels, caption, alike=shared)
    return Drawing(panels[0].figure, "Priors and encoded rows", caption)


def _means(shown: Shown) -> Tensor:
    return torch.from_numpy(shown.places["z_mean"]).to(device_of(shown.vae))


def _window(shown: Shown) -> Window:
    """Return a square that contains nearly all encoded rows and nearly all of the prior's mass."""
    points = _means(shown)
    with torch.no_grad(), own_noise(shown.cell.seed, device_of(shown.vae)):
        samples = draw(overall_prior(shown.vae, shown.rows), points)
    return square_window([to_numpy(cloud) for cloud in (points, samples) if cloud is not None], MARGIN)


def maps(shown: list[Shown]) -> Drawing | str:
    """Draw the rows on the map of each grid prior, styled by their first label."""
    shown = [each for each in shown if each.places.get("map", np.empty((0, 0))).shape[1] == 2]
    if not shown:
        return "maps are left out: none of these priors has a grid of two dimensions (gtm and gtm-vamp have)"
    look = by_first_label(shown[0].rows)
    panels = panels_for(len(shown), 4.4)
    for panel, each in zip(panels, shown, strict=True):
        prior = grid_prior_of(each.vae)
        assert prior is not None
        plot_map(each.places["map"], **look, nodes=prior.nodes, axes=panel)
        panel.set_title(str(each.cell), fontsize="medium")
    for_all(panels)
    label = f", by {look['name']}" if look else ""
    caption = (
        f"{len(shown[0].rows)} rows at their places on the map{label}. Neighbors have similar codes; the "
        "orientation of a map has no meaning."
    )
    write_below(panels, caption, alike=True)
    return Drawing(panels[0].figure, "Maps of the grid priors", caption)


def rate_distortion(comparison: Comparison) -> Drawing:
    """Draw each prior in the plane of rate and distortion."""
    estimates = comparison.rates_and_distortions()
    points = {prior: (rate.value, distortion.value) for prior, (rate, distortion) in estimates.items()}
    errors = {
        prior: (rate.se, distortion.se) for prior, (rate, distortion) in estimates.items() if math.isfinite(rate.se)
    }
    axes = plot_rate_distortion(points, errors=errors or None)
    caption = (
        "Lines have equal ELBO; lower lines are better. Further to the right on a line, a code contains more "
        "information about its row. Bars: plus and minus the standard error over seeds, if there are several."
    )
    return Drawing(axes.figure, "Rate and distortion", caption)
