"""What a map is drawn from: a grid of nodes behind a model, whatever the model."""

from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from priory.maps.gtm_surface import GTMSurface, Standardized
from priory.maps.vae_surface import VAESurface
from priory.vae import VAE


class Surface(Protocol):
    """A grid of nodes in a model of rows x; everything on the CPU in float64, but for `features`.

    Attributes:
        nodes: u_k, (K, C): a full grid in `latent_grid`'s order.
        grid_shape: nodes along each side.
        weights: mixing weights pi_k, (K,).
    """

    nodes: Tensor
    grid_shape: tuple[int, ...]
    weights: Tensor

    def responsibilities(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum node"]:
        """p(k | x)."""

    def log_likelihood(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, " datum"]:
        """log p(x) in nats, in the data's units; exact or estimated."""

    def contents(self) -> Float[Tensor, "node input"]:
        """What lives at each node: the mean of x there, in the data's units."""

    def features(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum feature"]:
        """Rows in the space where distances between them are looked at."""

    def magnification(self, u: Float[Tensor, "place grid"] | None = None) -> Float[Tensor, " place"]:
        """sqrt(det(J'J)), J = d features / du, at places of the map; at the nodes where None."""


def surface_of(model: Any) -> Surface:
    """The surface of a VAE with a grid prior, of a fitted `GTM`, or the surface itself.

    Raises:
        ValueError: the model has no grid, or is not fitted.
    """
    if isinstance(model, VAE):
        return VAESurface(model)
    if hasattr(model, "grid_shape") and hasattr(model, "contents"):
        return model
    steps = getattr(model, "named_steps", None)
    if steps is not None and len(steps) == 2 and hasattr(model[0], "scale_") and not hasattr(model[0], "min_"):
        return GTMSurface(_fitted(model[1]), Standardized(model[0]))
    if hasattr(model, "magnification_factors"):
        return GTMSurface(_fitted(model))
    raise ValueError(
        "model: expected a VAE whose prior has a grid, a fitted GTM or a pipeline of a StandardScaler and one, got a "
        f"{type(model).__name__}; `priory.load(RUN)` gives either"
    )


def _fitted(gtm: Any) -> Any:
    if not hasattr(gtm, "means_"):
        raise ValueError(f"model: expected a fitted GTM, got a {type(gtm).__name__} without means_; call fit(X) first")
    return gtm
