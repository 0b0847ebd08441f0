"""The GTM prior: a network maps the nodes of a grid to normals."""

import math
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent

from priory.distributions.normal import at_least_float32, bounded_scale, diagonal_normal
from priory.grid.guide import Guide
from priory.priors.base import Encoder, Features
from priory.priors.grid import GridPrior
from priory.priors.radial import FittedGTM, Sheet, fitted_gtm, options_of


class GTMPrior(GridPrior):
    """p(z) = sum_k pi_k N(z | loc_k, diag(scale_k^2)), with (loc_k, log scale_k^2) = g(u_k) at the nodes of a grid.

    Args:
        latent_dim: L.
        grid: the nodes u_k, (K, C); see `latent_grid`.
        network: g: R^C -> R^{2L}, first the means, then the log-variances.
        learn_weights: learned mixing weights, or uniform ones.
        guide: see `GridPrior`.

    Raises:
        ValueError: latent_dim is not positive, or the output of the network is not 2L wide (raised by `forward`).

    Reference: Tomczak 2022, *Deep Generative Modeling*, eq. 4.50-4.52; Bishop, Svensen & Williams 1998.

    >>> from priory import latent_grid, mlp
    >>> prior = GTMPrior(latent_dim=3, grid=latent_grid(4), network=mlp(2, [8], 6))
    >>> p_z = prior()
    >>> p_z.log_prob(torch.zeros(7, 3)).shape, prior.coordinates(p_z, torch.zeros(7, 3)).shape
    (torch.Size([7]), torch.Size([7, 2]))
    """

    summary = "diagonal normals that a network draws at the nodes of a fixed grid; it is also a map"
    reference = "Tomczak 2022, Deep Generative Modeling, eq. 4.50-4.52; Bishop, Svensen & Williams 1998"

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
    def from_gtm(cls, gtm: FittedGTM, *, learn_weights: bool = True) -> Self:
        """Make the prior whose density is that of a classical GTM fitted to latents: an ex-post prior, or a start.

            loc_k = y(u_k),    scale_k^2 = noise variance,    pi_k = 1/K

        g is the GTM's radial basis functions. Its weights are the GTM's for the means and a constant for the
        log-variance. Training can change all of them, and then the variances need not be equal.

        Args:
            gtm: fitted to latents, (N, L). Use draws from q(z|x) of the training rows, so that the noise has their
                spread.
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

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """EM of the classical GTM with the same grid and the same radial functions, on draws from q(z|x).

        Returns:
            True if it was fitted; False if g is another kind of network, or the nodes are not a full grid over [-1,
            1]^C.

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

    def components_at(self, u: Float[Tensor, "place grid"], encoder: Encoder | None = None) -> Independent:
        """Return the normals at these positions, batch shape (P,) and event shape (L,); the encoder is not used."""
        output = self.network(u)
        expected = (len(u), 2 * (self.latent_dim or 0))
        if output.shape != expected:
            raise ValueError(f"network: expected g(nodes) of shape {expected}, got {tuple(output.shape)}")
        loc, log_variance = at_least_float32(output).chunk(2, -1)
        return diagonal_normal(loc, bounded_scale(0.5 * log_variance))
