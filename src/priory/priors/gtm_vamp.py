"""The GTM-VampPrior: the encoder's posteriors at pseudo-inputs; a network maps the nodes of a grid to them."""

from typing import Any, Self

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.grid.guide import Guide
from priory.priors.base import Encoder, Features, posteriors
from priory.priors.feature_range import FeatureRange, scale_above
from priory.priors.grid import GridPrior
from priory.priors.radial import FittedGTM, Sheet, fitted_gtm, options_of


class GTMVampPrior(GridPrior):
    """p(z) = sum_k pi_k q(z | g(u_k)): a network g maps the nodes of a grid to pseudo-inputs, which are encoded.

    Args:
        grid: the nodes u_k, (K, C); see `latent_grid`.
        network: g: R^C -> the space that the encoder's first layer reads, before the map to its range.
        low: smallest value of that space, or None.
        high: largest value of that space, or None. Bounded spaces get a smooth map.
        scale: size of the values above the lower bound, if it is the only one.
        learn_weights: learned mixing weights, or uniform ones.
        learn_pseudo_inputs: whether g is learned or fixed.
        guide: see `GridPrior`.

    Raises:
        ValueError: grid is not a matrix with rows, or low is not below high.

    Reference: Tomczak 2022, *Deep Generative Modeling*, eq. 4.53.

    >>> from priory import NormalEncoder, latent_grid, mlp
    >>> prior = GTMVampPrior(latent_grid(4), mlp(2, [8], 6), low=0.0, high=1.0)
    >>> prior(NormalEncoder(mlp(6, [8], 4))).log_prob(torch.zeros(7, 2)).shape
    torch.Size([7])
    """

    summary = "the encoder's posteriors at pseudo-inputs that a network draws at the nodes of a grid; it is also a map"
    reference = "Tomczak 2022, Deep Generative Modeling, eq. 4.53"
    needs_encoder = True

    def __init__(
        self,
        grid: Float[Tensor, "node grid"],
        network: nn.Module,
        *,
        low: float | None = None,
        high: float | None = None,
        scale: float = 1.0,
        learn_weights: bool = True,
        learn_pseudo_inputs: bool = True,
        guide: Guide | None = None,
    ) -> None:
        super().__init__(grid, learn_weights=learn_weights, guide=guide)
        self.network = network.requires_grad_(learn_pseudo_inputs)
        self.feature_range = FeatureRange(low, high, scale)

    @classmethod
    def from_gtm(
        cls,
        gtm: FittedGTM,
        *,
        preprocess: nn.Module | None = None,
        low: float | None = None,
        high: float | None = None,
        scale: float | None = None,
        learn_weights: bool = True,
        learn_pseudo_inputs: bool = True,
    ) -> Self:
        """Make a prior whose pseudo-inputs start on the sheet of a classical GTM that was fitted to the data.

            g(u_k) = y(u_k), the image of node k, as the encoder's first layer reads it

        g is the GTM's radial basis functions. If the features are an affine function of the data and have no bounds, g
        has the GTM's weights, so the two maps are equal between the nodes too. Otherwise the weights are the
        least-squares fit to the images at the nodes; on digits the error is 0.02 of the range (root mean square). A GTM
        has no bounds, so images outside of the range are moved inside. The GTM's responsibilities become the guide that
        `guided_elbo` uses.

        Args:
            gtm: fitted to the data, (N, D), in their own units; or to the features, without `preprocess`.
            preprocess: the VAE's module from x to the input of the encoder's first layer; None if the encoder reads x.
            low: smallest value of that space, or None; `preprocess.feature_range` has both.
            high: largest value of that space, or None.
            scale: size of the values above the lower bound, if it is the only one; None takes that of the images.
            learn_weights: learned mixing weights, or the GTM's.
            learn_pseudo_inputs: whether g is learned, or stays as the GTM has it.

        Raises:
            ValueError: the GTM is not fitted, or has another number of columns than `preprocess`.

        Reference: Bishop, Svensen & Williams 1998, Neural Computation 10(1), sec. 2.
        """
        sheet = Sheet(gtm)
        features = sheet.features(preprocess, low, high)
        scale = scale_above(features, low) if scale is None else scale
        weights = sheet.feature_weights(features, preprocess, FeatureRange(low, high, scale))
        grid, network = sheet.grid(), sheet.network(weights)
        options = {"learn_weights": learn_weights, "learn_pseudo_inputs": learn_pseudo_inputs}
        guide = sheet.guide(preprocess, low, high)
        prior = cls(grid, network, low=low, high=high, scale=scale, guide=guide, **options)
        prior.mixing_logits.data.copy_(sheet.logits())
        return prior

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """Initialize g: EM of the classical GTM with the same grid and the same radial functions, on the features.

        Returns:
            True if it was fitted; False without features, if g is another kind of network, or if the nodes are not a
            full grid over [-1, 1]^C.

        Raises:
            ImportError: scikit-learn is not installed.
        """
        options = options_of(self.nodes, self.network)
        if options is None or features is None:
            return False
        low, high = self.feature_range.low, self.feature_range.high
        scale = float(self.feature_range.scale) if low is not None and high is None else None
        self._take(type(self).from_gtm(fitted_gtm(features(), options, seed), low=low, high=high, scale=scale))
        return True

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        feature_range = self.feature_range
        return super().constructor_arguments() | {
            "low": feature_range.low,
            "high": feature_range.high,
            "scale": float(getattr(feature_range, "scale", 1.0)),
            "learn_pseudo_inputs": any(p.requires_grad for p in self.network.parameters()),
        }

    @property
    def pseudo_inputs(self) -> Float[Tensor, "node *input"]:
        """g(u_k), in the space that the encoder's first layer reads."""
        return self.pseudo_inputs_at(self.nodes)

    def pseudo_inputs_at(self, u: Float[Tensor, "place grid"]) -> Float[Tensor, "place *input"]:
        """Return g(u) at positions on the grid."""
        return self.feature_range.constrain(self.network(u))

    def components_at(self, u: Float[Tensor, "place grid"], encoder: Encoder | None = None) -> Distribution:
        """Return q(z | g(u)) at these positions, in one pass of the encoder; batch shape (P,)."""
        return posteriors(self, encoder, self.pseudo_inputs_at(u))
