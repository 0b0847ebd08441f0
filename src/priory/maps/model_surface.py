"""The map of a latent-variable model whose prior has a grid."""

import torch
from jaxtyping import Float
from torch import Tensor

from priory.distributions.chain import Chain, center_of, top_level
from priory.distributions.mixture import Mixture
from priory.evaluation import log_likelihood
from priory.evaluation.importance import overflows
from priory.model import LatentVariableModel, cast_like, evaluation_mode, latent_prior_of, likelihood_of, posterior_of
from priory.nn.encoders import Encoder
from priory.nn.hierarchy import top_of
from priory.priors import GridPrior
from priory.priors.hierarchical import top_prior
from priory.vae import feature_encoder, features_of

AT_ONCE = 2**24  # numbers of the decoded nodes that are made at a time


def grid_prior_of(model: object) -> GridPrior | None:
    """Return the prior of a model's top level if it has a grid, from which a map is drawn, else None."""
    prior = top_prior(getattr(model, "prior", None))
    return prior if isinstance(prior, GridPrior) else None


class ModelSurface:
    """The surface of a model whose prior has a grid: p(k | x) is p(k | z) at z = E[z | x].

    Of several levels of z it is that of the top level, whose prior has the grid. The image of a place u is the decoded
    mean of the component's mean at u, with the lower levels at the center of p(z_rest | z_top). Distances are measured
    between rows; those of a `VAE` between preprocessed rows, as the encoder's first layer reads them.

    Args:
        model: its attribute `prior` is a `GridPrior`; used in evaluation mode. The prior is evaluated here, once.
        num_samples: importance samples a row of `log_likelihood`.

    Raises:
        ValueError: the prior has no grid, or its nodes are no full grid.
    """

    likelihood_is_estimated = True

    def __init__(self, model: LatentVariableModel, *, num_samples: int = 64) -> None:
        prior = grid_prior_of(model)
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
                f"{len(prior.nodes)} nodes that are no full grid"
            )
        self.model, self.prior, self.num_samples = model, prior, num_samples
        with torch.no_grad(), evaluation_mode(model):
            whole = latent_prior_of(model)
        p_z = top_level(whole)
        if not isinstance(p_z, Mixture) or p_z.num_components != prior.num_components:
            raise ValueError(
                f"model: expected latent_prior() to give the mixture of its `prior`, {prior.num_components} "
                f"components, got {p_z}; return self.prior(self.encode)"
            )
        self._whole, self._p_z = whole, p_z
        self.nodes = prior.nodes.detach().double().cpu()
        self.weights = prior.mixing_weights.detach().double().cpu()

    @torch.no_grad()
    def responsibilities(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum node"]:
        with evaluation_mode(self.model):
            center = center_of(posterior_of(self.model, cast_like(x, self.model)))
        z = center[..., : self._p_z.event_shape[0]]
        far = overflows(z).unsqueeze(-1)
        joint = self._p_z.component_log_prob(z.masked_fill(far, 0.0)).double()
        return torch.softmax(joint.masked_fill(far, -torch.inf), -1).cpu()  # NaN if all are -inf

    @torch.no_grad()
    def log_likelihood(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, " datum"]:
        return log_likelihood(self.model, x, num_samples=self.num_samples, prior=self._whole).double().cpu()

    @torch.no_grad()
    def contents(self) -> Float[Tensor, "node input"]:
        with evaluation_mode(self.model):
            first = self._image(self._p_z.components.mean[:1])
            parts = self._p_z.components.mean.split(max(1, AT_ONCE // first.numel()))
            return torch.cat([self._image(z).double().cpu() for z in parts])

    @torch.no_grad()
    def features(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum feature"]:
        with evaluation_mode(self.model):
            return features_of(self.model, cast_like(x, self.model)).flatten(1).cpu()

    @property
    def _encoder(self) -> Encoder:
        """What the grid's pseudo-inputs are read with."""
        encoder = feature_encoder(self.model)
        return top_of(encoder) if isinstance(self._whole, Chain) else encoder

    def _image(self, z: Float[Tensor, "place latent"]) -> Float[Tensor, "place *input"]:
        """E[x | z] at a place of the top level."""
        return likelihood_of(self.model, self._whole.completed(z) if isinstance(self._whole, Chain) else z).mean

    def magnification(self, u: Float[Tensor, "place grid"] | None = None) -> Float[Tensor, " place"]:
        places = self.prior.nodes if u is None else u.to(self.prior.nodes)
        with evaluation_mode(self.model):
            return torch.cat([self._stretch(part.detach()) for part in places.split(1024)]).double().cpu()

    def _stretch(self, u: Float[Tensor, "place grid"]) -> Float[Tensor, " place"]:
        """sqrt(det(J'J)) by two backward passes: v'J is linear in v, and its derivative by v is a column of J.

        `torch.func.jvp` would take one forward pass, but it raises a deprecation warning inside torch.
        """
        with torch.enable_grad():
            u = u.clone().requires_grad_()
            z = self.prior.components_at(u, self._encoder).mean
            image = features_of(self.model, self._image(z)).flatten(1)
            v = torch.zeros_like(image, requires_grad=True)
            (pulled,) = torch.autograd.grad(image, u, v, create_graph=True)
            axes = pulled.unbind(1)
            slopes = [torch.autograd.grad(axis.sum(), v, retain_graph=True)[0].double() for axis in axes]
        jacobian = torch.stack(slopes, -1)
        return torch.linalg.det(jacobian.mT @ jacobian).clamp(min=0.0).sqrt()
