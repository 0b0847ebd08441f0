"""Responsibilities of grid nodes in data space, which guide a grid prior during training."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory._support.tensors import require_tensor

ROWS_OF_FULL_STRENGTH = 1000


def strength(num_rows: int) -> float:
    """Return min(1, 1000 / N), the factor that reduces the guide and the input noise for N training rows.

    The standard deviation of the noise is multiplied by this factor, the weight of the guide by its square. With few
    rows, a model without guide and noise overfits; with many rows, both cost likelihood. docs/maps.md has the numbers.
    """
    return min(1.0, ROWS_OF_FULL_STRENGTH / num_rows)


class Guide(nn.Module):
    """The responsibilities of a fixed sheet of images with noise, as in a classical GTM over the same nodes.

        r_k(x) ~ w_k exp(-|f(x) - image_k|^2 / (2 noise_variance)),    sum_k r_k(x) = 1

    A grid prior does not determine which node represents which data, so its sheet may fold during training. With a
    guide, `guided_elbo` assigns each datum to the nodes near it in data space.

    Args:
        images: images of the nodes, as the encoder's first layer reads them, (K, F).
        noise_variance: variance of each feature around the sheet.
        weights: w_k, (K,), not negative; None is uniform.
        effect: a module from the context of rows, (N, C), to the effect of the context on their features, (N, F), which
            is subtracted from f(x). So a batch does not decide about the node of a row. None: no effect.

    Raises:
        ValueError: images is not a matrix; the noise is not positive; there is not one weight for each image; a weight
            is negative, or all are zero.

    Reference: Bishop, Svensen & Williams 1998, Neural Computation 10(1), eq. 2.10.

    >>> guide = Guide(torch.tensor([[0.0], [1.0]]), noise_variance=0.1)
    >>> guide.log_responsibilities(torch.tensor([[0.5], [1.0]])).exp()
    tensor([[0.5000, 0.5000],
            [0.0067, 0.9933]])
    """

    images: Tensor
    noise_variance: Tensor
    log_weights: Tensor

    def __init__(
        self,
        images: Float[Tensor, "node feature"],
        noise_variance: float,
        weights: Tensor | None = None,
        effect: nn.Module | None = None,
    ) -> None:
        super().__init__()
        require_tensor("images", images)
        if images.ndim != 2 or images.numel() == 0:
            raise ValueError(f"images: expected shape (K, features), got {tuple(images.shape)}")
        if not (noise_variance > 0 and math.isfinite(noise_variance)):
            raise ValueError(f"noise_variance: expected a positive number, got {noise_variance}")
        if weights is not None and weights.shape != images.shape[:1]:
            raise ValueError(f"weights: expected one for each of {len(images)} images, got {tuple(weights.shape)}")
        if weights is not None and not (bool((weights >= 0).all()) and 0 < float(weights.sum()) < math.inf):
            raise ValueError("weights: expected finite numbers of at least 0, not all zero; check the GTM's weights")
        self.effect = effect
        log_weights = torch.zeros(len(images)) if weights is None else weights.log()
        self.register_buffer("images", images.detach().to(torch.get_default_dtype()).clone())
        self.register_buffer("noise_variance", torch.tensor(float(noise_variance)))
        self.register_buffer("log_weights", log_weights.detach().to(torch.get_default_dtype()).clone())

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        return {"weights": None}  # they are in `log_weights`

    def extra_repr(self) -> str:
        return f"{len(self.images)} images, {self.images.shape[1]} features"

    @torch.no_grad()
    def log_responsibilities(
        self, features: Float[Tensor, "datum feature"], context: Float[Tensor, "*datum context"] | None = None
    ) -> Float[Tensor, "datum node"]:
        """Return log r_k(x) of rows as the encoder's first layer reads them, without gradients.

        Raises:
            ValueError: the guide has an effect of the context, and the context is missing.
        """
        if self.effect is not None and context is None:
            raise ValueError("context: expected the rows' context, because the guide subtracts its effect, got none")
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.images)
            if self.effect is not None:
                features = features - self.effect(context)
            center = self.images.mean(0)  # centered, because large squares would cancel
            rows, images = features - center, self.images - center
            squares = images.square().sum(1) - 2 * rows @ images.mT  # |row|^2 is the same for all nodes
            return torch.log_softmax(self.log_weights - 0.5 * squares / self.noise_variance, -1)

    def evidence(
        self,
        features: Float[Tensor, "datum feature"],
        latent_dim: int,
        context: Float[Tensor, "*datum context"] | None = None,
    ) -> Float[Tensor, "datum node"]:
        """Return min(1, L / F) log r_k(x), for L latent dimensions and F features.

        A map adds this to log p(k | z). The F features are correlated, so the unweighted log r_k(x) would outweigh
        log p(k | z).
        """
        return min(1.0, latent_dim / self.images.shape[1]) * self.log_responsibilities(features, context)
