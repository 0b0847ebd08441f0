"""The map of a conditional model: one grid for all contexts, and the density of each context on it."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.evaluation import log_likelihood
from priory.maps.model_surface import ModelSurface
from priory.model import LatentVariableModel, cast_like, evaluation_mode, given
from priory.nn.conditional import Given
from priory.priors import ConditionalMixturePrior, GridCovariates
from priory.vae import ConditionalVAE


class ConditionalSurface(ModelSurface):
    """The surface of a `ConditionalVAE` whose prior has a grid, which all contexts share.

    The position of a row uses p(k | z) of the mixture over all contexts, at z = E[z | x, c]: rows with equal codes have
    the same position in every context. The content of a node is decoded with the node's own covariates.

    Args:
        model: its prior is a `ConditionalMixturePrior` of a `GridPrior`.
        num_samples: importance samples per row for `log_likelihood`.

    Raises:
        ValueError: the prior has no grid.
    """

    def __init__(self, model: ConditionalVAE, *, num_samples: int = 64) -> None:
        self._conditional = model
        super().__init__(model, num_samples=num_samples)  # type: ignore[arg-type]

    def given(self, context: Float[Tensor, "datum context"]) -> "ConditionalSurface":
        """Return the surface for rows with this context."""
        surface = copy.copy(self)
        surface.model = given(self._conditional, context)
        return surface

    @torch.no_grad()
    def log_likelihood(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, " datum"]:
        """log p(x | c)."""
        return log_likelihood(self.model, x, num_samples=self.num_samples).double().cpu()

    @property
    def depends_on_context(self) -> bool:
        """Return whether contexts differ in their density on the map."""
        return self._prior.weights

    @torch.no_grad()
    def density(self, context: Float[Tensor, "*batch context"]) -> Float[Tensor, "*batch node"]:
        """Return p(k | c), each context's density on the map; conditions may be unknown, see `Conditions.single`."""
        with evaluation_mode(self._conditional):
            return self._prior.log_weights(cast_like(context, self._conditional)).exp().double().cpu()

    @property
    def _prior(self) -> ConditionalMixturePrior:
        return self._conditional.prior  # type: ignore[return-value]

    def _latent_prior(self) -> Distribution:
        return self._prior.joint(self._conditional.encoder)

    def _components_at(self, u: Float[Tensor, "place grid"]) -> Distribution:
        return self.prior.components_at(u, Given(self._conditional.encoder, self._covariates_at(u)))

    def _decoding_at(self, u: Float[Tensor, "place grid"]) -> LatentVariableModel:
        return given(self._conditional, self._covariates_at(u))

    def _covariates_at(self, u: Float[Tensor, "place grid"]) -> Tensor:
        covariates: Any = self._prior.covariates
        assert isinstance(covariates, GridCovariates)
        return covariates.values(covariates.logits_at(u))
