"""Figures of priors, samples and training runs: data in, matplotlib axes out.

No function touches pyplot, rcParams or the backend. Without `axes=`, a function makes a new figure, which `save_figure`
writes and which a notebook shows as `axes` or `axes.figure`. Styles differ in lightness, not only in hue, so figures
remain readable in gray and with color blindness.
"""

from priory.plots.class_landscape import plot_class_landscape
from priory.plots.components import plot_component_use
from priory.plots.conditions import plot_conditions
from priory.plots.contours import plot_prior_contours
from priory.plots.figure import save_figure
from priory.plots.images import plot_images, plot_node_images, plot_reconstructions
from priory.plots.landscapes import plot_landscapes, plot_magnification, plot_node_values
from priory.plots.maps import plot_map
from priory.plots.pairwise import plot_pairwise_marginals
from priory.plots.rate_distortion import plot_rate_distortion
from priory.plots.tables import plot_rows, plot_samples
from priory.plots.training import plot_likelihood_curve, plot_training_curve

__all__ = [
    "plot_class_landscape",
    "plot_component_use",
    "plot_conditions",
    "plot_images",
    "plot_landscapes",
    "plot_likelihood_curve",
    "plot_magnification",
    "plot_map",
    "plot_node_images",
    "plot_node_values",
    "plot_pairwise_marginals",
    "plot_prior_contours",
    "plot_rate_distortion",
    "plot_reconstructions",
    "plot_rows",
    "plot_samples",
    "plot_training_curve",
    "save_figure",
]
