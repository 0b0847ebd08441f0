"""Encoders and decoders that read a context c besides x or z, and modules with a fixed context."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.model import covariates_of
from priory.nn.encoders import with_noise


class ConditionalEncoder(nn.Module):
    """q(z | x, c) by an encoder that reads the concatenation (h(x), c).

    Args:
        encoder: reads (h(x), c): its input is as wide as h(x) and the context together.
        features: h, such as a convolutional network for images; None is the identity.
        input_noise: standard deviation of normal noise on x, in training mode only; the context gets no noise.

    Reference: Sohn, Lee & Yan 2015, *Learning Structured Output Representation using Deep Conditional Generative
    Models*, NeurIPS 28, sec. 3.

    >>> from priory import NormalEncoder, mlp
    >>> encoder = ConditionalEncoder(NormalEncoder(mlp(6 + 3, [8], 4)))
    >>> encoder(torch.zeros(5, 6), torch.eye(3)[[0, 1, 2, 0, 1]]).batch_shape, encoder.latent_dim
    (torch.Size([5]), 2)
    """

    def __init__(self, encoder: nn.Module, features: nn.Module | None = None, *, input_noise: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.input_noise = encoder, input_noise
        self.features = nn.Identity() if features is None else features

    @property
    def latent_dim(self) -> int | None:
        """L, or None if the encoder has no `latent_dim`."""
        return getattr(self.encoder, "latent_dim", None)

    def forward(self, features: Float[Tensor, "*batch input"], context: Float[Tensor, "*batch context"]) -> Any:
        """q(z | x, c), with batch shape (*batch)."""
        return self.encoder(beside(self.features(with_noise(self, features)), context))


class ConditionalDecoder(nn.Module):
    """p(x | z, c) by a decoder that reads the concatenation (z, c).

    Args:
        decoder: reads (z, c): the width of its input is L plus the width of the context.

    >>> from priory import BernoulliDecoder, mlp
    >>> decoder = ConditionalDecoder(BernoulliDecoder(mlp(2 + 3, [8], 6)))
    >>> decoder(torch.zeros(7, 5, 2), torch.eye(3)[[0, 1, 2, 0, 1]]).batch_shape
    torch.Size([7, 5])
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    @property
    def num_outputs(self) -> int:
        """Number of outputs of the decoder for each column."""
        return getattr(self.decoder, "num_outputs", 1)

    def covariates(self, x: Tensor) -> dict[str, Any]:
        """Return what p(x | z, c) depends on besides z and c, computed from x."""
        return covariates_of(self.decoder, x)

    def forward(
        self, z: Float[Tensor, "*batch latent"], context: Float[Tensor, "*batch context"], **covariates: Any
    ) -> Distribution:
        """p(x | z, c), with the batch shape of z."""
        return self.decoder(beside(z, context), **covariates)


def beside(values: Float[Tensor, "*sample value"], context: Float[Tensor, "*batch context"]) -> Tensor:
    """Concatenate values with the context of their rows; the context is repeated for further samples.

    Raises:
        ValueError: the context has another number of rows.

    >>> beside(torch.zeros(7, 5, 2), torch.ones(5, 3)).shape
    torch.Size([7, 5, 5])
    """
    try:
        context = context.to(values).expand(*values.shape[:-1], -1)
    except RuntimeError as error:
        raise ValueError(
            f"context: expected one for each row, or one for all, got shape {tuple(context.shape)} for values of shape "
            f"{tuple(values.shape)}"
        ) from error
    return torch.cat([values, context], -1)


class Given(nn.Module):
    """A module of (x, c) at a fixed context c, as a module of x alone.

    Args:
        module: called as `module(x, context, ...)`.
        context: one for each row, (B, C), or one for all rows, (C,).

    >>> from priory import NormalEncoder, mlp
    >>> encoder = Given(ConditionalEncoder(NormalEncoder(mlp(6 + 3, [8], 4))), torch.tensor([0.0, 1.0, 0.0]))
    >>> encoder(torch.zeros(5, 6)).event_shape
    torch.Size([2])
    """

    context: Tensor

    def __init__(self, module: nn.Module, context: Float[Tensor, "*batch context"]) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("context", context, persistent=False)

    @property
    def latent_dim(self) -> int | None:
        """L, or None if the module has no `latent_dim`."""
        return getattr(self.module, "latent_dim", None)

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a decoder for each column."""
        return getattr(self.module, "num_outputs", 1)

    def covariates(self, x: Tensor) -> dict[str, Any]:
        """Return what a decoder conditions on besides z and c."""
        return covariates_of(self.module, x)

    def forward(self, values: Float[Tensor, "*batch value"], **covariates: Any) -> Distribution:
        return self.module(values, self.context, **covariates)
