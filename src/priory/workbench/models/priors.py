"""Builders of the priors in `priory.workbench.settings.priors`.

Arguments are the model's settings, which include the prior's, and the training rows as the encoder's first layer reads
them.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory._support.imports import located
from priory.grid.guide import Guide
from priory.grid.nodes import latent_grid
from priory.nn.networks import mlp
from priory.priors import (
    ExemplarPrior,
    FlowPrior,
    GTMPrior,
    GTMVampPrior,
    MixtureOfGaussians,
    NoiseContrastivePrior,
    Prior,
    ResampledPrior,
    StandardNormal,
    VampPrior,
    VampPriorMixture,
)
from priory.priors.feature_range import scale_above
from priory.priors.radial import FittedGTM, Sheet, fitted_gtm, radial_network
from priory.workbench.models.facts import MOST_START_ROWS, Features
from priory.workbench.settings.priors import PRIORS, GridSettings, VampSettings

FEWEST_GTM_ROWS, MOST_GTM_NUMBERS = 1000, 2**26  # limits for the classical GTM of a grid: rows, and numbers in all


def build_standard(settings: Any, features: Features) -> StandardNormal:
    """Build the standard normal."""
    return StandardNormal(settings.latent_dim)


def build_mog(settings: Any, features: Features) -> MixtureOfGaussians:
    """Build a mixture of Gaussians."""
    return MixtureOfGaussians(settings.latent_dim, settings.components, learn_weights=settings.learn_weights)


def build_vamp(settings: Any, features: Features) -> VampPrior:
    """Build a VampPrior; raises the errors of `_from_rows`."""
    return VampPrior.from_data(**_from_rows(settings, features))


def build_vamp_mixture(settings: Any, features: Features) -> VampPriorMixture:
    """Build a VampPrior mixture; raises the errors of `_from_rows`."""
    return VampPriorMixture.from_data(
        **_from_rows(settings, features),
        latent_dim=settings.latent_dim,
        concentration=settings.concentration,
        evidence_rows=settings.evidence_rows,
    )


def _from_rows(settings: VampSettings, features: Features) -> dict[str, Any]:
    """Return the arguments of `VampPrior.from_data`.

    Raises:
        ValueError: pseudo-inputs start as rows, and there are fewer rows than pseudo-inputs, so that several would be
            equal.
    """
    num_rows = len(features.rows)
    if settings.initialize == "data" and settings.components > num_rows:
        raise ValueError(
            f"--components {settings.components}: expected at most {num_rows}, the number of training rows, because "
            f"pseudo-inputs start as rows; give --set model.components={num_rows} or fewer, or let them start "
            "elsewhere with --set model.initialize=mean"
        )
    return {
        "x": features.rows,
        "num_components": settings.components,
        "initialize": settings.initialize,
        "low": features.low,
        "high": features.high,
        "learn_pseudo_inputs": settings.learn_pseudo_inputs,
        "learn_weights": settings.learn_weights,
    }


def build_gtm(settings: Any, features: Features) -> GTMPrior:
    """Build a GTM prior."""
    grid = latent_grid(settings.points_per_side, settings.grid_dim)
    network = grid_network(settings, 2 * settings.latent_dim)
    guide = _guide(settings, features, _started_gtm(settings, features))
    return GTMPrior(settings.latent_dim, grid, network, learn_weights=settings.learn_weights, guide=guide)


def build_gtm_vamp(settings: Any, features: Features) -> GTMVampPrior:
    """Build a GTM-VampPrior. Its pseudo-inputs start as the nodes' images of a classical GTM, or as the mean row."""
    low, high, rows = features.low, features.high, features.rows
    learned: dict[str, Any] = {
        "learn_weights": settings.learn_weights,
        "learn_pseudo_inputs": settings.learn_pseudo_inputs,
    }
    gtm = _started_gtm(settings, features)
    if gtm is not None and settings.grid_network == "rbf":
        return GTMVampPrior.from_gtm(gtm, low=low, high=high, **learned)
    grid, network = latent_grid(settings.points_per_side, settings.grid_dim), grid_network(settings, rows.shape[1])
    scale, guide = scale_above(rows, low), _guide(settings, features, gtm)
    prior = GTMVampPrior(grid, network, low=low, high=high, scale=scale, guide=guide, **learned)
    set_constant(network, prior.feature_range.unconstrain(rows.mean(0)))
    return prior


def build_exemplar(settings: Any, features: Features) -> ExemplarPrior:
    """Build an exemplar prior; its rows are set in training.

    Raises:
        ValueError: a step needs more exemplars than there are rows.
    """
    number = len(features.rows)
    if features.are_data and number < min(settings.exemplars or 0, MOST_START_ROWS):
        raise ValueError(
            f"--set model.exemplars={settings.exemplars}: expected at most {number}, the number of training "
            "rows; give fewer, or leave it out to use all rows"
        )
    return ExemplarPrior(
        settings.latent_dim,
        number,
        exemplars=settings.exemplars,
        neighbors=settings.neighbors,
        scale=settings.exemplar_scale,
    )


def build_flow(settings: Any, features: Features) -> FlowPrior:
    """Build a flow of affine couplings."""
    return FlowPrior.coupling(settings.latent_dim, settings.flow_transforms, settings.prior_hidden)


def build_resampled(settings: Any, features: Features) -> ResampledPrior:
    """Build a resampled prior."""
    return ResampledPrior(_base(settings, features), _acceptance(settings), truncation=settings.truncation)


def build_noise_contrastive(settings: Any, features: Features) -> NoiseContrastivePrior:
    """Build a noise-contrastive prior."""
    return NoiseContrastivePrior(_base(settings, features), _acceptance(settings))


def _base(settings: Any, features: Features) -> Prior:
    return located(PRIORS[settings.base_prior].build)(settings, features)


def _acceptance(settings: Any) -> nn.Sequential:
    return mlp(settings.latent_dim, settings.acceptance_hidden, 1, activation=nn.Tanh)


def grid_network(settings: Any, num_outputs: int) -> nn.Sequential:
    """Build g: R^C -> R^num_outputs, a perceptron or weighted radial basis functions."""
    if settings.grid_network == "mlp":
        return mlp(settings.grid_dim, settings.prior_hidden, num_outputs, activation=nn.Tanh)
    return radial_network(settings.functions_per_side, settings.grid_dim, settings.basis_width, num_outputs)


def _started_gtm(settings: GridSettings, features: Features) -> FittedGTM | None:
    """Fit the initial classical GTM of a grid to the features; None if the grid starts at the mean, or without data."""
    if settings.grid_start == "mean" or not features.are_data:
        return None
    options = {
        "points_per_side": settings.points_per_side,
        "n_components": settings.grid_dim,
        "basis_per_side": settings.functions_per_side,
        "basis_width": settings.basis_width,
    }
    return fitted_gtm(features.rows[: rows_for_gtm(*features.rows.shape)], options, 0)


def rows_for_gtm(num_rows: int, num_features: int) -> int:
    """Return the number of rows for a grid's classical GTM: all, unless they are very wide."""
    return min(num_rows, max(FEWEST_GTM_ROWS, MOST_GTM_NUMBERS // num_features))


def _guide(settings: Any, features: Features, gtm: FittedGTM | None) -> Guide | None:
    """Return the initial guide of a grid; if saved weights will replace it, one of the right size."""
    if settings.grid_start == "mean":
        return None
    if gtm is None:
        return Guide(torch.zeros(settings.points_per_side**settings.grid_dim, features.rows.shape[1]), 1.0)
    return Sheet(gtm).guide(None, features.low, features.high)


def set_constant(network: nn.Sequential, value: Float[Tensor, " output"]) -> None:
    """Set the constant part of g."""
    last: Any = network[-1]
    constant = last.weight[:, -1] if last.bias is None else last.bias  # the last radial function is the constant 1
    constant.data.copy_(value)
