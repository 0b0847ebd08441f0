"""Covariates c_k of the components of a conditional mixture, and the distributions p(c | k)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory.priors.base import MixturePrior
from priory.priors.grid import GridPrior

START = 0.9  # probability of the row's own category, for a component that starts at a row


class Covariates(nn.Module, ABC):
    """Covariates c_k of K components, and the distribution p(c | k) of the context in each component.

        p(c | k) = prod_categories softmax(logits_k)[c] * prod_quantities N(c | value_k, scale^2)

    The soft covariates c_k are the probabilities of the categories and the means of the quantities.

    Args:
        sizes: the width of each condition in the context, 1 for a quantity; see `Conditions.sizes`.

    Raises:
        ValueError: `sizes` is empty, or a size is not positive.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes: expected the widths of the conditions, such as (3, 1), got {tuple(sizes)}")
        self.sizes = tuple(sizes)
        self.log_scale = nn.Parameter(torch.zeros(sum(size == 1 for size in sizes)))

    @abstractmethod
    def logits(self, prior: MixturePrior) -> Float[Tensor, "component context"]:
        """Return logits of the categories and means of the quantities of each component of the prior, (K, C)."""

    def of_components(self, prior: MixturePrior) -> Float[Tensor, "component context"]:
        """Return c_k of each component of the prior, (K, C)."""
        return self.values(self.logits(prior))

    def values(self, logits: Float[Tensor, "place context"]) -> Float[Tensor, "place context"]:
        """Turn logits into soft covariates: the categories of a condition sum to one."""
        parts = logits.split(self.sizes, -1)
        return torch.cat([part if part.shape[-1] == 1 else part.softmax(-1) for part in parts], -1)

    def log_prob(
        self, context: Float[Tensor, "*batch context"], logits: Float[Tensor, "component context"]
    ) -> Float[Tensor, "*batch component"]:
        """log p(c | k), in nats; for a soft category, the expected logarithm.

        Unknown conditions are summed out: a category with zeros in all its columns, or a quantity that is NaN.

        Raises:
            ValueError: the context has another width.
        """
        if context.shape[-1] != sum(self.sizes):
            raise ValueError(f"context: expected width {sum(self.sizes)}, got shape {tuple(context.shape)}")
        total, scale = context.new_zeros(*context.shape[:-1], len(logits)), iter(self.log_scale)
        for c, part in zip(context.split(self.sizes, -1), logits.split(self.sizes, -1), strict=True):
            if part.shape[-1] > 1:
                total = total + c @ part.log_softmax(-1).to(c.dtype).mT
            else:
                log_scale = next(scale)
                standardized = (c - part.squeeze(-1)) / log_scale.exp()
                of_quantity = -0.5 * standardized.square() - log_scale - 0.5 * math.log(2 * math.pi)
                total = total + of_quantity.masked_fill(c.isnan(), 0.0)
        return total


class ComponentCovariates(Covariates):
    """Covariates of each component as free parameters.

    Args:
        sizes: see `Covariates`.
        start: initial contexts of the components, (K, C), such as those of the rows that pseudo-inputs start from.

    Raises:
        ValueError: a size is not positive, or `start` has another width.

    >>> covariates = ComponentCovariates((2, 1), torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, -0.5]]))
    >>> covariates.values(covariates.free).detach()
    tensor([[ 0.9000,  0.1000,  0.5000],
            [ 0.1000,  0.9000, -0.5000]])
    """

    def __init__(self, sizes: Sequence[int], start: Float[Tensor, "component context"]) -> None:
        super().__init__(sizes)
        if start.ndim != 2 or start.shape[1] != sum(self.sizes):
            raise ValueError(f"start: expected shape (K, {sum(self.sizes)}), got {tuple(start.shape)}")
        parts = [
            part
            if part.shape[1] == 1
            else torch.lerp(torch.full_like(part, 1 / part.shape[1]), part, _sure(part)).log()
            for part in start.split(self.sizes, 1)
        ]
        self.free = nn.Parameter(torch.cat(parts, 1))

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        return {"start": self.values(self.free.detach())}

    def logits(self, prior: MixturePrior) -> Float[Tensor, "component context"]:
        if len(self.free) != prior.num_components:
            raise ValueError(f"start: expected one for each of {prior.num_components} components, got {len(self.free)}")
        return self.free


class GridCovariates(Covariates):
    """Covariates at the nodes of a grid, from a network that reads the position u, so p(c | u) is smooth on the map.

    Args:
        sizes: see `Covariates`.
        network: R^C -> logits of the categories and means of the quantities, (..., context).

    >>> from priory import GTMPrior, latent_grid, mlp
    >>> prior = GTMPrior(3, latent_grid(4), mlp(2, [8], 6))
    >>> GridCovariates((3,), mlp(2, [8], 3)).of_components(prior).sum(1).detach().allclose(torch.ones(16))
    True
    """

    def __init__(self, sizes: Sequence[int], network: nn.Module) -> None:
        super().__init__(sizes)
        self.network = network

    def logits(self, prior: MixturePrior) -> Float[Tensor, "component context"]:
        if not isinstance(prior, GridPrior):
            raise TypeError(f"prior: expected one with a grid, got {type(prior).__name__}; give ComponentCovariates")
        return self.logits_at(prior.nodes)

    def logits_at(self, u: Float[Tensor, "place grid"]) -> Float[Tensor, "place context"]:
        """Logits of the categories and means of the quantities at positions on the grid."""
        logits = self.network(u)
        if logits.shape != (len(u), sum(self.sizes)):
            raise ValueError(
                f"network: expected {sum(self.sizes)} numbers for each place, got shape {tuple(logits.shape)}"
            )
        return logits


def _sure(indicators: Float[Tensor, "component category"]) -> float:
    """Return w such that w indicators + (1 - w) uniform gives the row's own category the probability `START`."""
    return (START * indicators.shape[1] - 1) / (indicators.shape[1] - 1)
