"""Priors with a grid behind their components: the GTM prior and the GTM-VampPrior."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from priory.distributions import at_least_float32, bounded_scale, diagonal_normal
from priory.grids import latent_grid
from priory.guide import Guide
from priory.mixture import Mixture, sample_index
from priory.priors.base import Encoder, MixturePrior, PriorSpec, encode_pseudo_inputs
from priory.priors.feature_range import FeatureRange, scale_above
from priory.priors.radial import (
    FittedGTM,
    Sheet,
    fitted_gtm,
    grid_network,
    guide_of,
    options_of,
    set_constant,
    started_gtm,
)


class GridPrior(MixturePrior):
    """A mixture prior whose components hang on the nodes u_k of a grid in R^C, and so draws a map.

        p(u) = sum_k pi_k delta(u - u_k),    E[u | z] = sum_k p(k | z) u_k

    Args:
        grid: the nodes, (K, C); see `latent_grid`.
        learn_weights: learned mixing weights, or uniform ones.
        guide: says in data space which node a datum belongs to, while the VAE is trained; see `guided_elbo`. It does
            not change the prior.

    Raises:
        ValueError: grid is no matrix with rows, or the guide is for another number of nodes.

    Reference: Tomczak 2022, *Deep Generative Modeling*, eq. 4.50.
    """

    nodes: Tensor

    def __init__(
        self, grid: Float[Tensor, "node grid"], *, learn_weights: bool = True, guide: Guide | None = None
    ) -> None:
        if grid.ndim != 2 or grid.numel() == 0:
            raise ValueError(f"grid: expected nodes of shape (K, C), as from latent_grid, got {tuple(grid.shape)}")
        if guide is not None and len(guide.images) != len(grid):
            raise ValueError(f"guide: expected an image for each of {len(grid)} nodes, got {len(guide.images)}")
        super().__init__(len(grid), learn_weights=learn_weights)
        self.register_buffer("nodes", grid.detach().clone())
        self.guide = guide

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Nodes along each side, (n_1, ..., n_C) of a Cartesian grid in `latent_grid`'s order; else (K,)."""
        sides = [column.unique() for column in self.nodes.T]
        product = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).reshape(-1, len(sides))
        return tuple(map(len, sides)) if torch.equal(product, self.nodes) else (len(self.nodes),)

    def sample_nodes(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample grid"]:
        """u from p(u) = sum_k pi_k delta(u - u_k), eq. 4.50."""
        log_weights = torch.log_softmax(self.mixing_logits.detach(), -1)
        return self.nodes[sample_index(log_weights, sample_shape, generator)]

    def _take(self, other: Self) -> None:
        """The other's network, range and weights; the guide stays."""
        state = {name: value for name, value in other.state_dict().items() if not name.startswith("guide.")}
        kept = {name: value for name, value in self.state_dict().items() if name.startswith("guide.")}
        self.load_state_dict(kept | state)

    @abstractmethod
    def components_at(self, u: Float[Tensor, "place grid"], encoder: Encoder | None = None) -> Distribution:
        """The components at places of the grid, between the nodes too; batch shape (P,)."""

    def components(self, encoder: Encoder | None = None) -> Distribution:
        """The components at the nodes, in one pass of the networks; batch shape (K,), event shape (L,)."""
        return self.components_at(self.nodes, encoder)

    def coordinates(self, p_z: Mixture, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch grid"]:
        """The place of each z on the map, E[u | z] under the responsibilities of p_z = prior(encoder)."""
        return p_z.expected_value(z, self.nodes)


class GTMPrior(GridPrior):
    """p(z) = sum_k pi_k N(z | loc_k, diag(scale_k^2)), with (loc_k, log scale_k^2) = g(u_k) at the nodes of a grid.

    Args:
        latent_dim: L.
        grid: the nodes u_k, (K, C); see `latent_grid`.
        network: g: R^C -> R^{2L}, means first, then log-variances.
        learn_weights: learned mixing weights, or uniform ones.
        guide: see `GridPrior`.

    Raises:
        ValueError: latent_dim is not positive, or the network gives another width than 2L (when called).

    Reference: Tomczak 2022, *Deep Generative Modeling*, eq. 4.51; Bishop, Svensen & Williams 1998.

    >>> from priory import mlp
    >>> prior = GTMPrior(latent_dim=3, grid=latent_grid(4), network=mlp(2, [8], 6))
    >>> p_z = prior()
    >>> p_z.log_prob(torch.zeros(7, 3)).shape, prior.coordinates(p_z, torch.zeros(7, 3)).shape
    (torch.Size([7]), torch.Size([7, 2]))
    """

    summary = "diagonal normals that a network draws at the nodes of a fixed grid; it is also a map"
    reference = "Tomczak 2022, Deep Generative Modeling, eq. 4.51; Bishop, Svensen & Williams 1998"

    def __init__(
        self,
        latent_dim: int,
        grid: Float[Tensor, "node grid"],
        network: nn.Module,
        *,
        learn_weights: bool = True,
        guide: Guide | None = None,
    ) -> None:
        super().__init__(grid, learn_weights=learn_weights, guide=guide)
        if latent_dim < 1:
            raise ValueError(f"latent_dim: expected a positive number of latent dimensions, got {latent_dim}")
        self.latent_dim = latent_dim
        self.network = network

    @classmethod
    def from_spec(cls, spec: PriorSpec) -> Self:
        grid = latent_grid(spec.points_per_side, spec.grid_dim)
        network = grid_network(spec, 2 * spec.latent_dim)
        return cls(spec.latent_dim, grid, network, learn_weights=spec.learn_weights, guide=guide_of(spec))

    @classmethod
    def from_gtm(cls, gtm: FittedGTM, *, learn_weights: bool = True) -> Self:
        """The prior whose density is that of a classical GTM, fitted to latents: an ex-post prior, or a start.

            loc_k = y(u_k),    scale_k^2 = noise variance,    pi_k = 1/K

        g is the GTM's radial basis functions, with its weights for the means and a constant for the log-variance; the
        gradient can move all of them, and then the variances need not be equal.

        Args:
            gtm: fitted to latents, (N, L): draws from q(z|x) of the training rows, whose spread the noise then has.
            learn_weights: learned mixing weights, or the GTM's.

        Raises:
            ValueError: the GTM is not fitted.

        Reference: Bishop, Svensen & Williams 1998, Neural Computation 10(1), sec. 2.
        """
        sheet = Sheet(gtm)
        log_variance = torch.zeros_like(sheet.weights)
        log_variance[-1] = math.log(sheet.noise_variance)
        network = sheet.network(torch.cat([sheet.weights, log_variance], 1))
        prior = cls(sheet.means.shape[1], sheet.grid(), network, learn_weights=learn_weights)
        prior.mixing_logits.data.copy_(sheet.logits())
        return prior

    def fit_by_em(
        self,
        z: Float[Tensor, "draw latent"],
        features: Callable[[], Float[Tensor, "datum feature"]] | None = None,
        *,
        seed: int = 0,
    ) -> bool:
        """EM of the classical GTM with the same grid and the same radial functions, on draws from q(z|x).

        Returns:
            Whether it was done: not where g is another network, or the nodes are no full grid over [-1, 1]^C.

        Raises:
            ValueError: z has another width.
            ImportError: scikit-learn is not installed.
        """
        options = options_of(self.nodes, self.network)
        if options is None:
            return False
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"z: expected draws (N, {self.latent_dim}), got {tuple(z.shape)}")
        self._take(type(self).from_gtm(fitted_gtm(z, options, seed)))
        return True

    @classmethod
    def num_values(cls, spec: PriorSpec) -> int:
        guided = spec.num_features if spec.grid_start == "gtm" else 0
        return spec.num_nodes * sum((*spec.grid_widths, 2 * spec.latent_dim, guided))

    def components_at(self, u: Float[Tensor, "place grid"], encoder: Encoder | None = None) -> Independent:
        """The normals at these places, batch shape (P,) and event shape (L,); the encoder is not used."""
        output = self.network(u)
        expected = (len(u), 2 * (self.latent_dim or 0))
        if output.shape != expected:
            raise ValueError(f"network: expected g(nodes) of shape {expected}, got {tuple(output.shape)}")
        loc, log_variance = at_least_float32(output).chunk(2, -1)
        return diagonal_normal(loc, bounded_scale(0.5 * log_variance))


class GTMVampPrior(GridPrior):
    """p(z) = sum_k pi_k q(z | g(u_k)): the encoder at pseudo-inputs that a network draws at the nodes of a grid.

    Args:
        grid: the nodes u_k, (K, C); see `latent_grid`.
        network: g: R^C -> the space that the encoder's first layer reads, before its range is imposed.
        low: smallest value of that space, or None.
        high: largest value of that space, or None. Bounded spaces get a smooth map.
        scale: size of the values above a lone lower bound.
        learn_weights: learned mixing weights, or uniform ones.
        learn_pseudo_inputs: whether g is learned, or stays as it is.
        guide: see `GridPrior`.

    Raises:
        ValueError: grid is no matrix with rows, or low is not below high.

    Reference: Tomczak 2022, *Deep Generative Modeling*, eq. 4.52-4.53.

    >>> from priory import NormalEncoder, mlp
    >>> prior = GTMVampPrior(latent_grid(4), mlp(2, [8], 6), low=0.0, high=1.0)
    >>> prior(NormalEncoder(mlp(6, [8], 4))).log_prob(torch.zeros(7, 2)).shape
    torch.Size([7])
    """

    summary = "the encoder's posteriors at pseudo-inputs that a network draws at the nodes of a grid; it is also a map"
    reference = "Tomczak 2022, Deep Generative Modeling, eq. 4.52-4.53"

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
    def from_spec(cls, spec: PriorSpec) -> Self:
        low, high = spec.feature_range
        learned: dict[str, Any] = {"learn_weights": spec.learn_weights, "learn_pseudo_inputs": spec.learn_pseudo_inputs}
        gtm = started_gtm(spec)
        if gtm is not None and spec.grid_network == "rbf":
            return cls.from_gtm(gtm, low=low, high=high, **learned)
        scale = scale_above(spec.rows, low)
        grid, network = latent_grid(spec.points_per_side, spec.grid_dim), grid_network(spec, spec.num_features)
        prior = cls(grid, network, low=low, high=high, scale=scale, guide=guide_of(spec, gtm), **learned)
        # The sheet of pseudo-inputs unfolds from the mean datum, not from the middle of the range.
        set_constant(network, prior.feature_range.unconstrain(spec.rows.mean(0)))
        return prior

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
        """The prior whose pseudo-inputs start as the sheet that a classical GTM has laid through the data.

            g(u_k) = y(u_k), the image of node k, as the encoder's first layer reads it

        g is the GTM's radial basis functions, with its own weights where the features are an affine function of the
        data and have no bounds: the two maps are then the same between the nodes too. Elsewhere the weights are those
        nearest to the images at the nodes by least squares, off by 0.02 of the range (root mean square) on digits.
        Images outside of the range, which a GTM knows nothing of, are moved inside. Its responsibilities are the guide
        that `guided_elbo` follows.

        Args:
            gtm: fitted to the data, (N, D), in their own units; or to the features, with no `preprocess`.
            preprocess: what the encoder's first layer reads, from x, as in the VAE; None where it reads x.
            low: smallest value of that space, or None; `preprocess.feature_range` has both.
            high: largest value of that space, or None.
            scale: size of the values above a lone lower bound; None takes the images'.
            learn_weights: learned mixing weights, or the GTM's.
            learn_pseudo_inputs: whether g is learned, or stays the GTM's.

        Raises:
            ValueError: the GTM is not fitted, or to another number of columns than `preprocess` has.

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

    def fit_by_em(
        self,
        z: Float[Tensor, "draw latent"],
        features: Callable[[], Float[Tensor, "datum feature"]] | None = None,
        *,
        seed: int = 0,
    ) -> bool:
        """A start: EM of the classical GTM with the same grid and the same radial functions, on the features.

        Returns:
            Whether it was done: not without features, where g is another network, or where the nodes are no full grid
            over [-1, 1]^C.

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

    @classmethod
    def num_values(cls, spec: PriorSpec) -> int:
        guided = spec.num_features if spec.grid_start == "gtm" else 0
        return spec.num_nodes * sum((*spec.grid_widths, spec.num_features, guided))

    @property
    def pseudo_inputs(self) -> Float[Tensor, "node *input"]:
        """g(u_k), in the space that the encoder's first layer reads."""
        return self.pseudo_inputs_at(self.nodes)

    def pseudo_inputs_at(self, u: Float[Tensor, "place grid"]) -> Float[Tensor, "place *input"]:
        """g(u) at places of the grid."""
        return self.feature_range.constrain(self.network(u))

    def components_at(self, u: Float[Tensor, "place grid"], encoder: Encoder | None = None) -> Distribution:
        """q(z | g(u)) at these places, in one pass of the encoder; batch shape (P,)."""
        return encode_pseudo_inputs(self, encoder, self.pseudo_inputs_at(u))
