"""Regular grids of nodes: the low-dimensional space behind a GTM."""

import torch
from jaxtyping import Float
from torch import Tensor


def latent_grid(
    points_per_side: int, dim: int = 2, low: float = -1.0, high: float = 1.0, *, dtype: torch.dtype | None = None
) -> Float[Tensor, "node grid"]:
    """The nodes of a regular grid in R^dim: the full Cartesian product, the last coordinate running fastest.

    Args:
        points_per_side: nodes along each side; a single one lies in the middle.
        dim: C, dimensions of the grid.
        low: smallest coordinate.
        high: largest coordinate. The published [-10, 10] saturates tanh and leaves half of the nodes unused.
        dtype: of the result; torch's default where None.

    Returns:
        (points_per_side^dim, dim).

    Raises:
        ValueError: points_per_side or dim is not positive, or low is not below high.

    Reference: Bishop, Svensen & Williams 1998, Neural Computation 10(1), sec. 2.

    >>> latent_grid(2)
    tensor([[-1., -1.],
            [-1.,  1.],
            [ 1., -1.],
            [ 1.,  1.]])
    """
    if points_per_side < 1 or dim < 1:
        raise ValueError(f"points_per_side, dim: expected positive numbers, got {points_per_side} and {dim}")
    if not low < high:
        raise ValueError(f"low, high: expected low < high, got {low} and {high}")
    middle = torch.tensor([(low + high) / 2], dtype=dtype)
    side = torch.linspace(low, high, points_per_side, dtype=dtype) if points_per_side > 1 else middle
    return torch.stack(torch.meshgrid(*[side] * dim, indexing="ij"), -1).reshape(-1, dim)
