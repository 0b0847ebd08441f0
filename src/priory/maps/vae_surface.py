"""The map of a VAE whose prior has a grid."""

import torch
from jaxtyping import Float
from torch import Tensor

from priory.distributions.mixture import Mixture
from priory.evaluation import log_likelihood
from priory.evaluation.importance import overflows
from priory.model import cast_like, evaluation_mode
from priory.priors import GridPrior
from priory.vae import VAE

AT_ONCE = 2**24  # numbers of the decoded nodes that are made at a time


class VAESurface:
    """The surface of a VAE whose prior has a grid: p(k | x) is p(k | z) at z = E[z | x].

    The image of a place u is the decoded mean of the component's mean at u. Distances are measured between
    preprocessed rows, as the encoder's first layer reads them.

    Args:
        vae: used in evaluation mode; its prior is evaluated here, once.
        num_samples: importance samples a row of `log_likelihood`.

    Raises:
        ValueError: the prior has no grid, or its nodes are no full grid.
    """

    likelihood_is_estimated = True

    def __init__(self, vae: VAE, *, num_samples: int = 64) -> None:
        prior = vae.prior
        if not isinstance(prior, GridPrior):
            raise ValueError(
                f"model: expected a VAE whose prior has a grid (GTM, GTM-VampPrior), got a {type(prior).__name__}, "
                "which has none; train a VAE with such a prior, refit one to it, or fit a GTM to its latents"
            )
        self.grid_shape = prior.grid_shape
        if len(self.grid_shape) != prior.nodes.shape[1]:
            raise ValueError(
                "model: expected a prior over the nodes of a full grid, as `latent_grid` makes it, got "
                f"{len(prior.nodes)} nodes that are no full grid"
            )
        self.vae, self.prior, self.num_samples = vae, prior, num_samples
        with torch.no_grad(), evaluation_mode(vae):
            self._p_z: Mixture = vae.latent_prior()  # type: ignore[assignment]
        self.nodes = prior.nodes.detach().double().cpu()
        self.weights = prior.mixing_weights.detach().double().cpu()

    @torch.no_grad()
    def responsibilities(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum node"]:
        with evaluation_mode(self.vae):
            z = self.vae.encode(cast_like(x, self.vae)).mean
        far = overflows(z).unsqueeze(-1)
        joint = self._p_z.component_log_prob(z.masked_fill(far, 0.0)).double()
        return torch.softmax(joint.masked_fill(far, -torch.inf), -1).cpu()  # NaN if all are -inf

    @torch.no_grad()
    def log_likelihood(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, " datum"]:
        return log_likelihood(self.vae, x, num_samples=self.num_samples, prior=self._p_z).double().cpu()

    @torch.no_grad()
    def contents(self) -> Float[Tensor, "node input"]:
        with evaluation_mode(self.vae):
            first = self.vae.decode(self._p_z.components.mean[:1]).mean
            parts = self._p_z.components.mean.split(max(1, AT_ONCE // first.shape[-1]))
            return torch.cat([self.vae.decode(z).mean.double().cpu() for z in parts])

    @torch.no_grad()
    def features(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum feature"]:
        with evaluation_mode(self.vae):
            return self.vae.preprocess(cast_like(x, self.vae)).cpu()

    def magnification(self, u: Float[Tensor, "place grid"] | None = None) -> Float[Tensor, " place"]:
        places = self.prior.nodes if u is None else u.to(self.prior.nodes)
        with evaluation_mode(self.vae):
            return torch.cat([self._stretch(part.detach()) for part in places.split(1024)]).double().cpu()

    def _stretch(self, u: Float[Tensor, "place grid"]) -> Float[Tensor, " place"]:
        """sqrt(det(J'J)) by two backward passes: v'J is linear in v, and its derivative by v is a column of J.

        `torch.func.jvp` would take one forward pass, but it raises a deprecation warning inside torch.
        """
        with torch.enable_grad():
            u = u.clone().requires_grad_()
            z = self.prior.components_at(u, self.vae.encoder).mean
            image = self.vae.preprocess(self.vae.decode(z).mean)
            v = torch.zeros_like(image, requires_grad=True)
            (pulled,) = torch.autograd.grad(image, u, v, create_graph=True)
            axes = pulled.unbind(1)
            slopes = [torch.autograd.grad(axis.sum(), v, retain_graph=True)[0].double() for axis in axes]
        jacobian = torch.stack(slopes, -1)
        return torch.linalg.det(jacobian.mT @ jacobian).clamp(min=0.0).sqrt()
