"""Encoders of several levels of latent variables."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory.distributions.chain import Chain
from priory.nn.encoders import Encoder


class HierarchicalEncoder(nn.Module):
    """q(z_top, z_rest | x) = q(z_top | x) q(z_rest | x, z_top), over the concatenation (z_top, z_rest).

    Of more than two levels, `rest` is a `HierarchicalEncoder` itself.

    Args:
        top: an encoder of the features, q(z_top | x).
        rest: an encoder of (h(x), z_top), concatenated: q(z_rest | x, z_top).
        features: h, from features (..., D) to (..., H); it reads each row once, however many z are drawn. None is the
            identity.

    Raises:
        ValueError: an encoder does not tell its `latent_dim`.

    Source: Tomczak & Welling 2018, arXiv:1705.07120, eq. 13-14.

    >>> from priory import NormalEncoder, mlp
    >>> encoder = HierarchicalEncoder(NormalEncoder(mlp(6, [8], 4)), NormalEncoder(mlp(6 + 2, [8], 2 * 3)))
    >>> encoder(torch.zeros(5, 6)).sample((7,)).shape, encoder.levels
    (torch.Size([7, 5, 5]), (2, 3))
    """

    def __init__(self, top: nn.Module, rest: nn.Module, features: nn.Module | None = None) -> None:
        super().__init__()
        self.top, self.rest = top, rest
        self.features = nn.Identity() if features is None else features
        self.levels = levels_of(top=top, rest=rest)

    @property
    def latent_dim(self) -> int:
        """The number of dimensions of all levels."""
        return sum(self.levels)

    def forward(self, features: Float[Tensor, "*batch input"]) -> Chain:
        """Return q(z_top, z_rest | x)."""
        h = self.features(features)

        def rest(z: Float[Tensor, "*sample latent"]) -> Any:
            return self.rest(torch.cat([h.expand(*z.shape[:-1], -1), z], -1))

        return Chain(self.top(features), rest, sum(self.levels[1:]))


def levels_of(**parts: nn.Module) -> tuple[int, ...]:
    """The number of dimensions of each level of encoders, each with `levels` or `latent_dim`."""
    sizes: list[int] = []
    for argument, part in parts.items():
        levels = getattr(part, "levels", None) or (getattr(part, "latent_dim", None),)
        if not all(isinstance(size, int) for size in levels):
            raise ValueError(
                f"{argument}: expected a module with a known `latent_dim`, got a {type(part).__name__} without; give "
                "its network an `out_features`"
            )
        sizes += levels
    return tuple(sizes)


def top_of(encoder: Encoder | None) -> Encoder | None:
    """The top part of a `HierarchicalEncoder`, which pseudo-inputs of the top level are read with."""
    return getattr(encoder, "top", encoder)
