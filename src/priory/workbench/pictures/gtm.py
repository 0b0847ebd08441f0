"""The pictures of a map's run: the map, and the likelihood during EM."""

from pathlib import Path

import numpy as np

from priory.plots import plot_likelihood_curve
from priory.workbench.data import Dataset
from priory.workbench.models.scaled_gtm import MapModel
from priory.workbench.pictures.maps import Look, map_figures, save_figures, some_rows
from priory.workbench.runs.folder import FIGURES
from priory.workbench.runs.gtm_run import GTMRun


def draw_figures(run: GTMRun, model: MapModel, dataset: Dataset, history: dict[str, np.ndarray]) -> list[Path]:
    """Draw `map_figures` of all rows, and the likelihood during EM; return the files, most important first."""
    rows, summary = some_rows(dataset.all_rows()), dataset.summary()
    look = Look(run.modeled, run.image_shape, run.restored, summary.low, summary.high)
    figures = map_figures(model.drawn(rows), rows, len(dataset), look)
    figures["training"] = plot_likelihood_curve(
        history["log_likelihood"], held_out=history.get("held_out_log_likelihood")
    )
    return save_figures(figures, run.path / FIGURES)
