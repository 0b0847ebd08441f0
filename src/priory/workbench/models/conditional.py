"""Builders of conditional priors p(z | c), and of the parts of a model that read the context."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from priory._support.imports import located
from priory.nn.conditional import ConditionalEncoder
from priory.nn.encoders import NormalEncoder
from priory.nn.networks import mlp
from priory.priors import (
    ComponentCovariates,
    ConditionalFlowPrior,
    ConditionalMixtureOfGaussians,
    ConditionalMixturePrior,
    GridCovariates,
    GridPrior,
    Prior,
    StandardNormal,
    VampPrior,
)
from priory.priors.vamp import initial_pseudo_inputs
from priory.workbench.models import priors
from priory.workbench.models.facts import Features
from priory.workbench.settings.networks import NETWORKS

IMAGE_FEATURES = 256  # outputs of a network of images, which the encoder reads together with the context
CONTEXT_HIDDEN = 64  # width of the network of a context with quantities


def build_encoder(settings: Any, num_inputs: int, context_dim: int, image_shape: Any) -> ConditionalEncoder:
    """Build the encoder of rows and context; a convolutional network reads only the image."""
    part, outputs = NETWORKS[settings.networks[0]], 2 * settings.latent_dim
    build = located(part.encoder)
    if part.needs_images:
        features = build(settings, num_inputs, IMAGE_FEATURES, image_shape)
        network = mlp(IMAGE_FEATURES + context_dim, (IMAGE_FEATURES,), outputs)
        return ConditionalEncoder(NormalEncoder(network, settings.log_variance_range), features)
    network = build(settings, num_inputs + context_dim, outputs, image_shape)
    return ConditionalEncoder(NormalEncoder(network, settings.log_variance_range))


def build_standard(settings: Any, features: Features) -> StandardNormal:
    """Build the standard normal, the same for all contexts."""
    return priors.build_standard(settings, features)


def build_mog(settings: Any, features: Features) -> Prior:
    """Build a mixture of Gaussians that depends linearly on categories, and by a perceptron on quantities."""
    mixture = priors.build_mog(settings, features)
    if not settings.prior_condition:
        return mixture
    width = sum(features.context_sizes)
    if 1 not in features.context_sizes:
        return ConditionalMixtureOfGaussians(mixture, width)
    network = mlp(width, (CONTEXT_HIDDEN,), CONTEXT_HIDDEN, output_activation=nn.Tanh)
    return ConditionalMixtureOfGaussians(mixture, CONTEXT_HIDDEN, network)


def build_vamp(settings: Any, features: Features) -> ConditionalMixturePrior:
    """Build a VampPrior whose pseudo-inputs have covariates, initially those of their rows, or the mean."""
    prior, context = priors.build_vamp(settings, features), features.context
    assert context is not None
    start = context.mean(0).expand(settings.components, -1)
    if settings.initialize == "data":
        positions = torch.arange(len(context)).unsqueeze(1)
        chosen = initial_pseudo_inputs(positions, settings.components, "data", None, None).squeeze(1)
        start = context[chosen]
        options = {"learn_pseudo_inputs": settings.learn_pseudo_inputs, "learn_weights": settings.learn_weights}
        prior = VampPrior(features.rows[chosen], low=features.low, high=features.high, **options)
    covariates = ComponentCovariates(features.context_sizes, start)
    return ConditionalMixturePrior(prior, covariates, weights=settings.prior_condition)


def build_gtm(settings: Any, features: Features) -> Prior:
    """Build a GTM prior with p(u | c) on its grid."""
    return _on_grid(priors.build_gtm, settings, features)


def build_gtm_vamp(settings: Any, features: Features) -> Prior:
    """Build a GTM-VampPrior with p(u | c) on its grid and covariates of its pseudo-inputs."""
    return _on_grid(priors.build_gtm_vamp, settings, features)


def build_flow(settings: Any, features: Features) -> Prior:
    """Build a flow of affine couplings whose networks read the context."""
    if not settings.prior_condition:
        return priors.build_flow(settings, features)
    sizes = settings.latent_dim, sum(features.context_sizes)
    return ConditionalFlowPrior(*sizes, settings.flow_transforms, settings.prior_hidden)


def _ignoring_conditions(build: Callable[..., GridPrior], settings: Any, features: Features) -> GridPrior:
    """Build a prior on a grid from rows without the linear effect of the conditions, which its guide subtracts too.

    The effect is the least-squares regression of the features on the context, as in ComBat without its scales
    (Johnson, Li & Rabinovic 2007, Biostatistics 8(1), eq. 2.1, gamma).
    """
    context, rows = features.context, features.rows
    assert context is not None
    effect = nn.utils.skip_init(nn.Linear, context.shape[1], rows.shape[1]).requires_grad_(False)
    if features.are_data:
        center = context.double().mean(0)
        slopes = torch.linalg.pinv(context.double() - center) @ rows.double()
        effect.weight.copy_(slopes.mT)
        effect.bias.copy_(-center @ slopes)
        low, high = (-math.inf if features.low is None else features.low, features.high)
        rows = (rows - effect(context)).clamp(low, high)
    prior = build(settings, replace(features, rows=rows))
    if prior.guide is not None:
        prior.guide.effect = effect
    return prior


def _on_grid(build: Callable[..., GridPrior], settings: Any, features: Features) -> ConditionalMixturePrior:
    """Build a conditional prior on a grid: all contexts share the grid, and initially p(c | u) = p(c) everywhere."""
    assert features.context is not None
    prior = build(settings, features) if settings.prior_condition else _ignoring_conditions(build, settings, features)
    sizes = features.context_sizes
    network = priors.grid_network(settings, sum(sizes))
    last: Any = network[-1]
    last.weight.data.zero_()
    least = 0.5 / len(features.context)  # minimum share, for a category that these rows lack
    parts = features.context.mean(0).split(sizes)
    start = torch.cat([part if len(part) == 1 else part.clamp(min=least).log() for part in parts])
    priors.set_constant(network, start)
    return ConditionalMixturePrior(prior, GridCovariates(sizes, network), weights=settings.prior_condition)
