"""Figures of priors, samples and training runs: data in, matplotlib axes out.

No function touches pyplot, rcParams or the backend. Without `axes=` a figure of its own is made, which `save_figure`
writes and which a notebook shows as `axes.figure`. Light and dark, not hue alone, tell things apart, so that a figure
survives grey printing and colour blindness.
"""

from priory.plots.contours import plot_prior_contours
from priory.plots.figure import save_figure
from priory.plots.images import plot_images, plot_reconstructions
from priory.plots.maps import plot_landscapes, plot_likelihood_curve, plot_magnification, plot_map
from priory.plots.tables import plot_rows, plot_samples
from priory.plots.training import plot_training_curve

__all__ = [
    "plot_images",
    "plot_landscapes",
    "plot_likelihood_curve",
    "plot_magnification",
    "plot_map",
    "plot_prior_contours",
    "plot_reconstructions",
    "plot_rows",
    "plot_samples",
    "plot_training_curve",
    "save_figure",
]
