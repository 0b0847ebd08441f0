"""The map of a latent-variable model whose prior has a grid."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.distributions.chain import Chain, center_of, top_level
from priory.distributions.mixture import Mixture
from priory.evaluation import log_likelihood
from priory.evaluation.importance import overflows
from priory.model import (
    LatentVariableModel,
    cast_like,
    context_of,
    evaluation_mode,
    latent_prior_of,
    likelihood_of,
    posterior_of,
)
from priory.nn.hierarchy import top_of
from priory.objectives import guide_of
from priory.priors import ConditionalMixturePrior, GridPrior
from priory.priors.hierarchical import top_prior
from priory.vae import feature_encoder, features_of

AT_ONCE = 2**24  # numbers in the nodes that are decoded at a time


def prior_behind(model: object) -> Any:
    """Return the prior whose components are the nodes of the map; None if the model has no prior.

    With several levels, it is the prior of the top level; for a conditional prior, the mixture that all contexts share.
    """
    prior = top_prior(getattr(model, "prior", None))
    return prior.prior if isinstance(prior, ConditionalMixturePrior) else prior


def grid_prior_of(model: object) -> GridPrior | None:
    """Return the prior of a model if it has a grid, which gives a map; else None. See `prior_behind`."""
    prior = prior_behind(model)
    return prior if isinstance(prior, GridPrior) else None


def node_scores(
    model: LatentVariableModel, p_z: Mixture, z: Float[Tensor, "datum latent"], x: Float[Tensor, "datum input"]
) -> Float[Tensor, "datum node"]:
    """Return log p(k | x) of a map, up to a constant that does not depend on k.

    Without a guide, it is log p(k | z). With a guide, it is log p(k | z) + min(1, L / F) log r_k(x), where r_k(x) are
    the guide's responsibilities, L is the number of latent dimensions and F the number of features.
    """
    scores, guide = p_z.component_log_prob(z).double(), guide_of(model)
    if guide is None:
        return scores
    return scores + guide.evidence(features_of(model, x), z.shape[-1], context_of(model))


class ModelSurface:
    """The surface of a model whose prior has a grid.

    p(k | x) is p(k | z) at z = E[z | x]. If the prior has a guide, p(k | x) also depends on the guide's
    responsibilities; `node_scores` has the formula.

    With several levels of z, z is the top level, whose prior has the grid. The image of a position u is the decoded
    mean of the component at u; the lower levels are at the center of p(z_rest | z_top). Distances are measured between
    rows; for a `VAE` between preprocessed rows, as the encoder's first layer reads them.

    Args:
        model: its attribute `prior` is a `GridPrior`; used in evaluation mode. The prior is evaluated once, here.
        num_samples: importance samples per row for `log_likelihood`.

    Raises:
        ValueError: the prior has no grid, or its nodes are not a full grid.
    """

    likelihood_is_estimated = True

    def __init__(self, model: LatentVariableModel, *, num_samples: int = 64) -> None:
        prior = grid_prior_of(model)
        if prior is None and context_of(model) is not None:
            raise ValueError(
                "model: expected a conditional model without a fixed context (all contexts share the map), got a model "
                "with one; give the ConditionalVAE, and priory.with_context(rows, context)"
            )
        if prior is None:
            kind = type(getattr(model, "prior", None)).__name__
            raise ValueError(
                f"model: expected one whose attribute `prior` has a grid (GTM, GTM-VampPrior), got a {kind}, which has "
                "none; train with such a prior, refit one to the model, or fit a GTM to its latents"
            )
        self.grid_shape = prior.grid_shape
        if len(self.grid_shape) != prior.nodes.shape[1]:
            raise ValueError(
                "model: expected a prior over the nodes of a full grid, as `latent_grid` makes it, got "
                f"{len(prior.nodes)} nodes that are not a full grid"
            )
        self.model, self.prior, self.num_samples = model, prior, num_samples
        with torch.no_grad(), evaluation_mode(model):
            whole = self._latent_prior()
        p_z = top_level(whole)
        if not isinstance(p_z, Mixture) or p_z.num_components != prior.num_components:
            raise ValueError(
                f"model: expected latent_prior() to give the mixture of its `prior`, {prior.num_components} "
                f"components, got {p_z}; return self.prior(self.encode)"
            )
        self._whole, self._p_z = whole, p_z
        self.nodes = prior.nodes.detach().double().cpu()
        self.weights = prior.mixing_weights.detach().double().cpu()

    def _latent_prior(self) -> Distribution:
        """Return p(z); its components, or those of its top level, are at the nodes."""
        return latent_prior_of(self.model)

    def _components_at(self, u: Float[Tensor, "place grid"]) -> Distribution:
        """Return the components at positions on the map."""
        encoder = feature_encoder(self.model)
        return self.prior.components_at(u, top_of(encoder) if isinstance(self._whole, Chain) else encoder)

    def _decoding_at(self, u: Float[Tensor, "place grid"]) -> LatentVariableModel:
        """Return the model that decodes z at positions on the map."""
        return self.model

    def _image(self, u: Float[Tensor, "place grid"], z: Float[Tensor, "place latent"]) -> Float[Tensor, "place *input"]:
        """Return E[x | z] at positions on the map and at these z of the top level."""
        whole = self._whole.completed(z) if isinstance(self._whole, Chain) else z
        return likelihood_of(self._decoding_at(u), whole).mean

    @torch.no_grad()
    def responsibilities(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum node"]:
        with evaluation_mode(self.model):
            x = cast_like(x, self.model)
            z = center_of(posterior_of(self.model, x))[..., : self._p_z.event_shape[0]]
            far = overflows(z).unsqueeze(-1)
            scores = node_scores(self.model, self._p_z, z.masked_fill(far, 0.0), x)
        return torch.softmax(scores.masked_fill(far, -torch.inf), -1).cpu()  # NaN if all are -inf

    @torch.no_grad()
    def log_likelihood(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, " datum"]:
        return log_likelihood(self.model, x, num_samples=self.num_samples, prior=self._whole).double().cpu()

    @torch.no_grad()
    def contents(self) -> Float[Tensor, "node input"]:
        nodes, loc = self.prior.nodes, self._p_z.components.mean
        with evaluation_mode(self.model):
            size = max(1, AT_ONCE // self._image(nodes[:1], loc[:1]).numel())
            parts = zip(nodes.split(size), loc.split(size), strict=True)
            return torch.cat([self._image(u, z).double().cpu() for u, z in parts])

    @torch.no_grad()
    def features(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum feature"]:
        with evaluation_mode(self.model):
            return features_of(self.model, cast_like(x, self.model)).flatten(1).cpu()

    def magnification(self, u: Float[Tensor, "place grid"] | None = None) -> Float[Tensor, " place"]:
        places = self.prior.nodes if u is None else u.to(self.prior.nodes)
        with evaluation_mode(self.model):
            return torch.cat([self._stretch(part.detach()) for part in places.split(1024)]).double().cpu()

    def _stretch(self, u: Float[Tensor, "place grid"]) -> Float[Tensor, " place"]:
        """Return sqrt(det(J'J)) by two backward passes: v'J is linear in v, and its derivative by v is a column of J.

        `torch.func.jvp` would need one forward pass, but it raises a deprecation warning inside torch.
        """
        with torch.enable_grad():
            u = u.clone().requires_grad_()
            image = features_of(self.model, self._image(u, self._components_at(u).mean)).flatten(1)
            v = torch.zeros_like(image, requires_grad=True)
            (pulled,) = torch.autograd.grad(image, u, v, create_graph=True)
            axes = pulled.unbind(1)
            slopes = [torch.autograd.grad(axis.sum(), v, retain_graph=True)[0].double() for axis in axes]
        jacobian = torch.stack(slopes, -1)
        return torch.linalg.det(jacobian.mT @ jacobian).clamp(min=0.0).sqrt()
