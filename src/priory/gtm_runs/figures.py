"""Which pictures a map gets: chosen here, drawn by `plots`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from priory.datasets import Dataset
from priory.grids import latent_grid
from priory.gtm_runs.folder import GTMRun
from priory.gtm_runs.jobs import PICTURES
from priory.gtm_runs.model import MapModel
from priory.maps.pictures import draw_map, some_rows
from priory.plots import (
    plot_landscapes,
    plot_likelihood_curve,
    plot_magnification,
    plot_node_images,
    save_figure,
)
from priory.run_folder import FIGURES

MOST_LANDSCAPES = 9
FINE_SIDE = 64  # places along each side at which the magnification is drawn


def draw_figures(run: GTMRun, model: MapModel, dataset: Dataset, history: dict[str, np.ndarray]) -> list[Path]:
    """Draw all rows on the map, its nodes, its magnification, the course of EM; returns the files in that order."""
    every = dataset.all_rows()
    rows = some_rows(every)
    places = model.drawn(rows).places.place.numpy()
    fine = latent_grid(FINE_SIDE, dtype=torch.float64).numpy()
    figures = (
        draw_map(rows, places, model.gtm.nodes_, len(every)),
        _nodes(run, model, dataset),
        plot_magnification(model.gtm.magnification_factors(fine), places),
        plot_likelihood_curve(history["log_likelihood"]),
    )
    paths = []
    for name, figure in zip(PICTURES, figures, strict=True):
        paths.append(run.path / FIGURES / f"{name}.png")
        save_figure(figure, paths[-1])
    return paths


def _nodes(run: GTMRun, model: MapModel, dataset: Dataset) -> Any:
    """The nodes' images, u_1 to the right and u_2 upwards; of a table, the columns that vary most over the map."""
    side = model.gtm.points_per_side
    if run.image_shape is not None:
        images = run.restored(torch.from_numpy(model.images()))
        title = "The nodes' images, $u_1$ to the right, $u_2$ upwards"
        found = dataset.summary()
        grey: dict[str, Any] = {"image_shape": run.image_shape, "low": found.low, "high": found.high}
        return plot_node_images(images, side=side, title=title, **grey)
    order = np.argsort(-model.gtm.means_.var(axis=0), kind="stable")[:MOST_LANDSCAPES]
    axes = plot_landscapes(model.images()[:, order], names=[run.modelled[i] for i in order], most=MOST_LANDSCAPES)
    shown = f"the {len(order)} of {len(run.modelled)} columns that vary most" if len(run.modelled) > len(order) else ""
    text = f"Columns over the map, $u_1$ to the right, $u_2$ upwards{'; ' if shown else ''}{shown}"
    axes[0].figure.suptitle(text, fontsize="medium")
    return axes
