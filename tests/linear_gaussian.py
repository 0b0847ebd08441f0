"""The linear-Gaussian VAE, for which all quantities have closed forms.

    z ~ N(0, I),  x | z ~ N(W z + b, noise^2 I)
    =>  x ~ N(b, W W^T + noise^2 I),  z | x ~ N(M^-1 W^T (x - b), noise^2 M^-1)

with M = W^T W + noise^2 I. If the columns of W are orthogonal, the exact posterior is diagonal, as q is.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal

from priory import VAE, StandardNormal, diagonal_normal

NOISE = 0.7


class LinearEncoder(nn.Module):
    """q(z|x) = N(A (x - b), diag(scale^2)), by default the exact posterior."""

    def __init__(self, weight: Tensor, bias: Tensor, scale_factor: float = 1.0) -> None:
        super().__init__()
        inverse = 1 / (weight.square().sum(0) + NOISE**2)
        self.map = nn.Parameter(inverse[:, None] * weight.T)
        self.bias = nn.Parameter(bias)
        self.scale = nn.Parameter(scale_factor * NOISE * inverse.sqrt())

    def forward(self, x: Tensor) -> Independent:
        loc = (x - self.bias) @ self.map.T
        return diagonal_normal(loc, self.scale.expand_as(loc))


class LinearDecoder(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, z: Tensor) -> Independent:
        loc = z @ self.weight.T + self.bias
        return Independent(Normal(loc, NOISE), 1)


def linear_gaussian_vae(
    num_inputs: int = 5, latent_dim: int = 2, scale_factor: float = 1.0
) -> tuple[VAE, MultivariateNormal]:
    """The VAE in float64, and the exact evidence p(x)."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(num_inputs, latent_dim, generator=generator, dtype=torch.float64)).Q
    weight = basis * torch.linspace(1.0, 2.0, latent_dim, dtype=torch.float64)
    bias = torch.randn(num_inputs, generator=generator, dtype=torch.float64)
    evidence = MultivariateNormal(bias, weight @ weight.T + NOISE**2 * torch.eye(num_inputs, dtype=torch.float64))
    vae = VAE(LinearEncoder(weight, bias, scale_factor), LinearDecoder(weight, bias), StandardNormal(latent_dim))
    return vae.double(), evidence
