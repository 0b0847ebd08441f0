"""The surface of a model: its grid of nodes, which gives a map."""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from priory._support.messages import first_few
from priory.maps.conditional_surface import ConditionalSurface
from priory.maps.gtm_surface import GTMSurface
from priory.maps.model_surface import ModelSurface
from priory.model import LatentVariableModel
from priory.rows import Rows
from priory.vae import ConditionalVAE


@runtime_checkable
class Surface(Protocol):
    """A grid of nodes in a model of rows x; all results are float64 on the CPU, except `features`.

    Attributes:
        nodes: u_k, (K, C): a full grid in the order of `latent_grid`.
        grid_shape: nodes along each side.
        weights: mixing weights pi_k, (K,).
        likelihood_is_estimated: whether `log_likelihood` is an estimate; else it is exact.
    """

    nodes: Tensor
    grid_shape: tuple[int, ...]
    weights: Tensor
    likelihood_is_estimated: bool

    def responsibilities(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum node"]:
        """Return p(k | x); NaN for a row without density under all nodes, which has no position on the map."""

    def log_likelihood(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, " datum"]:
        """Return log p(x) in nats, in the data's units."""

    def contents(self) -> Float[Tensor, "node input"]:
        """Return the mean of x at each node, in the data's units."""

    def features(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum feature"]:
        """Return rows in the space in which distances between rows are measured."""

    def magnification(self, u: Float[Tensor, "place grid"] | None = None) -> Float[Tensor, " place"]:
        """Return sqrt(det(J'J)), J = d features / du, at positions on the map; None uses the nodes."""


def surface_of(model: Any) -> Surface:
    """Return the surface of a model with a grid prior, a fitted `GTM`, or a pipeline of a `StandardScaler` and a `GTM`.

    A `Surface` is returned unchanged.

    Raises:
        ValueError: the model has no grid, or is not fitted.
    """
    if isinstance(model, Surface):
        return model
    if isinstance(model, ConditionalVAE):
        return ConditionalSurface(model)
    if isinstance(model, LatentVariableModel):
        return ModelSurface(model)
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from priory.gtm import GTM

    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    *scalers, gtm = steps
    if not isinstance(gtm, GTM) or [type(scaler) for scaler in scalers] not in ([], [StandardScaler]):
        raise ValueError(
            "model: expected one with encode, latent_prior and decode whose prior has a grid, a fitted GTM, or a "
            f"pipeline of a StandardScaler and a GTM, got a {type(model).__name__}"
        )
    if not hasattr(gtm, "means_"):
        raise ValueError(f"model: expected a fitted GTM, got a {type(gtm).__name__} without means_; call fit(X) first")
    return GTMSurface(gtm, *scalers)


def require_columns(surface: Surface, rows: Rows, argument: str) -> None:
    """Raise an error if the columns of rows have other names, or another order, than the model was fitted to."""
    names = [getattr(each, "columns", None) for each in (surface, rows)]
    expected, actual = (None if each is None else list(map(str, each)) for each in names)
    if expected is not None and actual is not None and actual != expected:
        raise ValueError(
            f"{argument}: expected the columns that the model was fitted to, {first_few(expected)}, in their order, "
            f"got {first_few(actual)}; give frame[list(model.feature_names_in_)]"
        )
