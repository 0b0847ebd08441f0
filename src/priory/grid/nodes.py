"""Regular grids of nodes, the low-dimensional space of a GTM, and smooth functions on it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def latent_grid(
    points_per_side: int, dim: int = 2, low: float = -1.0, high: float = 1.0, *, dtype: torch.dtype | None = None
) -> Float[Tensor, "node grid"]:
    """The nodes of a regular grid in R^dim: the full Cartesian product; the last coordinate changes fastest.

    Args:
        points_per_side: nodes along each side; a single node lies in the middle.
        dim: C, dimensions of the grid.
        low: smallest coordinate.
        high: largest coordinate. The published [-10, 10] saturates tanh and leaves half of the nodes unused.
        dtype: type of the result; None uses torch's default.

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


class RadialBasis(nn.Module):
    """phi_m(u) = exp(-|u - c_m|^2 / (2 width^2)) for m = 1..M, and phi_{M+1}(u) = 1, the bias.

    Args:
        centers: c_m, (M, C).
        width: width of all functions, a standard deviation.

    Raises:
        ValueError: centers is not a matrix with rows, or the width is not positive.

    Reference: Bishop, Svensen & Williams 1998, Neural Computation 10(1), eq. 2.13.

    >>> RadialBasis(latent_grid(2), width=2.0)(torch.zeros(3, 2)).shape
    torch.Size([3, 5])
    """

    centers: Tensor

    def __init__(self, centers: Float[Tensor, "basis grid"], width: float) -> None:
        super().__init__()
        if centers.ndim != 2 or centers.numel() == 0:
            raise ValueError(f"centers: expected a matrix (M, C), as from latent_grid, got {tuple(centers.shape)}")
        if not width > 0:
            raise ValueError(f"width: expected a positive number, got {width}")
        self.register_buffer("centers", centers.detach().clone())
        self.width = width

    @classmethod
    def on_grid(
        cls, centers_per_side: int, dim: int = 2, width: float = 1.0, *, dtype: torch.dtype | None = None
    ) -> "RadialBasis":
        """Make centers on a grid over [-1, 1]^C; the width is in units of their spacing (2 for a single center)."""
        spacing = 2 / max(1, centers_per_side - 1)
        return cls(latent_grid(centers_per_side, dim, dtype=dtype), width * spacing)

    def extra_repr(self) -> str:
        return f"{len(self.centers)} centers, width {self.width:.3g}"

    def forward(self, u: Float[Tensor, "*batch grid"]) -> Float[Tensor, "*batch feature"]:
        bumps = self._bumps(u)
        return torch.cat([bumps, torch.ones_like(bumps[..., :1])], -1)

    def slopes(self, u: Float[Tensor, "*batch grid"]) -> Float[Tensor, "*batch grid feature"]:
        """Return d phi_m / d u_c; the zeros of the bias are last."""
        towards = (self.centers.mT - u.unsqueeze(-1)) / self.width**2
        return nn.functional.pad(towards * self._bumps(u).unsqueeze(-2), (0, 1))

    def _bumps(self, u: Float[Tensor, "*batch grid"]) -> Float[Tensor, "*batch basis"]:
        differences = (u.unsqueeze(-2) - self.centers) / self.width
        return torch.exp(-0.5 * differences.square().sum(-1))
