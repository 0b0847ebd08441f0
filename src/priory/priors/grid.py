"""The base class of priors with a grid behind their components; the grid gives a map."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory._support.tensors import require_tensor
from priory.distributions.mixture import Mixture, sample_index
from priory.grid.guide import Guide
from priory.priors.base import Encoder, MixturePrior


class GridPrior(MixturePrior):
    """A mixture prior with one component at each node u_k of a grid in R^C, so the components form a map.

        p(u) = sum_k pi_k delta(u - u_k),    E[u | z] = sum_k p(k | z) u_k

    Args:
        grid: the nodes, (K, C); see `latent_grid`.
        learn_weights: learned mixing weights, or uniform ones.
        guide: assigns each datum to nodes in data space during training; see `guided_elbo`. It does not change the
            prior.

    Raises:
        ValueError: grid is not a matrix with rows, or the guide has another number of nodes.

    Reference: Tomczak 2022, *Deep Generative Modeling*, eq. 4.50.

    >>> from priory import diagonal_normal, latent_grid
    >>> class Sheet(GridPrior):
    ...     def components_at(self, u, encoder=None):
    ...         return diagonal_normal(u, torch.full_like(u, 0.1))
    >>> prior = Sheet(latent_grid(5))
    >>> prior.coordinates(prior(), torch.tensor([0.5, -0.5])).detach()
    tensor([ 0.5000, -0.5000])
    """

    nodes: Tensor
    components_are_clusters = False

    def __init__(
        self, grid: Float[Tensor, "node grid"], *, learn_weights: bool = True, guide: Guide | None = None
    ) -> None:
        require_tensor("grid", grid)
        if grid.ndim != 2 or grid.numel() == 0:
            raise ValueError(f"grid: expected nodes of shape (K, C), as from latent_grid, got {tuple(grid.shape)}")
        if guide is not None and len(guide.images) != len(grid):
            raise ValueError(f"guide: expected one image for each of {len(grid)} nodes, got {len(guide.images)}")
        super().__init__(len(grid), learn_weights=learn_weights)
        self.register_buffer("nodes", grid.detach().clone())
        self.guide = guide

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """Nodes along each side, (n_1, ..., n_C), of a Cartesian grid in the order of `latent_grid`; else (K,)."""
        sides = [column.unique() for column in self.nodes.T]
        product = torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).reshape(-1, len(sides))
        return tuple(map(len, sides)) if torch.equal(product, self.nodes) else (len(self.nodes),)

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        return {"grid": self.nodes}

    def extra_repr(self) -> str:
        return f"grid {' x '.join(map(str, self.grid_shape))}, {super().extra_repr()}"

    def sample_nodes(
        self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None
    ) -> Float[Tensor, "*sample grid"]:
        """Draw u from p(u) = sum_k pi_k delta(u - u_k), eq. 4.50."""
        log_weights = torch.log_softmax(self.mixing_logits.detach(), -1)
        return self.nodes[sample_index(log_weights, sample_shape, generator)]

    def _take(self, other: Self) -> None:
        """Copy network, range and weights from another prior; the guide does not change."""
        state = {name: value for name, value in other.state_dict().items() if not name.startswith("guide.")}
        guide_state = {name: value for name, value in self.state_dict().items() if name.startswith("guide.")}
        self.load_state_dict(guide_state | state)

    @abstractmethod
    def components_at(self, u: Float[Tensor, "place grid"], encoder: Encoder | None = None) -> Distribution:
        """Return the components at positions on the grid, also between the nodes; batch shape (P,)."""

    def components(self, encoder: Encoder | None = None) -> Distribution:
        """Return the components at the nodes, in one pass of the networks; batch shape (K,), event shape (L,)."""
        return self.components_at(self.nodes, encoder)

    def coordinates(self, p_z: Mixture, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch grid"]:
        """Return the position of each z on the map, E[u | z] under the responsibilities of p_z = prior(encoder)."""
        return p_z.expected_value(z, self.nodes)
