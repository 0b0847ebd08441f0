"""A mixture of Gaussians with free means, scales and weights."""

import math
import warnings
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent

from priory._support.optional import require
from priory._support.tensors import require_tensor
from priory.distributions.normal import bounded_scale, diagonal_normal
from priory.priors.base import Encoder, Features, MixturePrior

EM_ITERATIONS = 200  # at most; on digits at L = 8, 64 components converge in 45


class MixtureOfGaussians(MixturePrior):
    """p(z) = sum_k pi_k N(z | loc_k, diag(scale_k^2)), all three learned.

    The means start in random directions at radius sqrt(L/2) with scales sqrt(1/2). So a mixture of many components
    starts with about the mean and the variance of a standard normal; a single component starts as a standard normal.

    Args:
        latent_dim: L.
        num_components: K.
        learn_weights: learned mixing weights, or uniform ones.

    Raises:
        ValueError: latent_dim or num_components is not positive.

    Reference: Tomczak 2022, *Deep Generative Modeling*, ch. 4.4.1.

    >>> p_z = MixtureOfGaussians(latent_dim=3, num_components=5)()
    >>> p_z.sample((7,)).shape, p_z.log_prob(torch.zeros(7, 3)).shape
    (torch.Size([7, 3]), torch.Size([7]))
    """

    summary = "K diagonal normals with free means, scales and weights"
    reference = "Tomczak 2022, Deep Generative Modeling, ch. 4.4.1"

    def __init__(self, latent_dim: int, num_components: int, *, learn_weights: bool = True) -> None:
        super().__init__(num_components, learn_weights=learn_weights)
        if latent_dim < 1:
            raise ValueError(f"latent_dim: expected a positive number of latent dimensions, got {latent_dim}")
        self.latent_dim = latent_dim
        directions = nn.functional.normalize(torch.randn(num_components, latent_dim), dim=-1)
        share = 0.5 if num_components > 1 else 0.0  # share of the variance that lies between the components
        self.loc = nn.Parameter(directions * math.sqrt(latent_dim * share))
        self.log_scale = nn.Parameter(torch.full((num_components, latent_dim), 0.5 * math.log1p(-share)))

    @classmethod
    def from_latents(
        cls, z: Float[Tensor, "datum latent"], num_components: int, *, learn_weights: bool = True, seed: int = 0
    ) -> Self:
        """Initialize from codes: k-means clusters give the means, scales and weights.

        Args:
            z: encoded data, (N, L) with N >= num_components.
            num_components: K.
            learn_weights: learned mixing weights (starting at the clusters' shares), or uniform ones.
            seed: seed of k-means, which has its own generator.

        Raises:
            ValueError: z is not a matrix, or has fewer distinct rows than components.
            ImportError: scikit-learn is not installed.
        """
        require_tensor("z", z)
        if z.ndim != 2 or len(z.detach().unique(dim=0)) < num_components:
            raise ValueError(f"z: expected (N, L) with at least {num_components} distinct rows, got {tuple(z.shape)}")
        cluster = require("sklearn.cluster", "tables", "MixtureOfGaussians.from_latents")
        prior = cls(z.shape[1], num_components, learn_weights=learn_weights).to(z)
        k_means = cluster.KMeans(num_components, n_init=4, random_state=seed)
        clusters = torch.from_numpy(k_means.fit_predict(z.detach().double().cpu().numpy())).long().to(z.device)
        counts = torch.bincount(clusters, minlength=num_components)
        overall = z.detach().std(0, correction=0).clamp_min(1e-3)
        for k in range(num_components):
            rows = z.detach()[clusters == k]
            prior.loc.data[k] = rows.mean(0)
            # A cluster of one row, or of equal rows, has no spread: use at least 1 % of the spread of all rows.
            prior.log_scale.data[k] = rows.std(0, correction=0).maximum(0.01 * overall).log()
        if learn_weights and num_components > 1:
            prior.mixing_logits.data.copy_((counts / counts.sum()).log())
        return prior

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """EM from k-means clusters: scikit-learn's `GaussianMixture` on draws from q(z|x).

        Returns:
            True if it was fitted; False for uniform weights, because scikit-learn would learn the weights.

        Raises:
            ValueError: z has another width, or fewer rows than components.
            ImportError: scikit-learn is not installed.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim or len(z) < self.num_components:
            raise ValueError(
                f"z: expected (N, {self.latent_dim}) with at least {self.num_components} rows, one for each component, "
                f"got {tuple(z.shape)}; give more rows, or take fewer components (num_components)"
            )
        if not isinstance(self.mixing_logits, nn.Parameter) and self.num_components > 1:
            return False
        sklearn_mixture = require("sklearn.mixture", "tables", "MixtureOfGaussians.fit_by_em")
        from sklearn.exceptions import ConvergenceWarning

        options = {"covariance_type": "diag", "max_iter": EM_ITERATIONS, "random_state": seed}
        with warnings.catch_warnings():  # gradient steps may finish an EM that did not converge
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture = sklearn_mixture.GaussianMixture(self.num_components, **options).fit(
                z.detach().double().cpu().numpy()
            )
        self.loc.data.copy_(torch.from_numpy(mixture.means_))
        self.log_scale.data.copy_(0.5 * torch.from_numpy(mixture.covariances_).log())
        if self.num_components > 1:
            self.mixing_logits.data.copy_(torch.from_numpy(mixture.weights_).log())
        return True

    def components(self, encoder: Encoder | None = None) -> Independent:
        """Return the K normals, batch shape (K,) and event shape (L,); the encoder is not used."""
        return diagonal_normal(self.loc, bounded_scale(self.log_scale))
