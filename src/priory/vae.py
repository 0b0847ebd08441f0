"""The variational autoencoder, composed of any encoder, decoder and prior."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.model import LatentVariableModel, covariates_of, reconstruct, sample
from priory.nn.encoders import Encoder


class VAE(nn.Module):
    """p(x, z) = p(z) p(x | z) with the amortized posterior q(z | x).

    Args:
        encoder: a module from features (..., *input) to a reparameterized distribution q(z|x) with event (L,).
        decoder: a module from z (..., L) to a distribution p(x|z) over x in the data's units. If it conditions on a
            part of x (a row's library size), it has a method `covariates(x) -> dict`, whose entries are passed to it as
            keywords.
        prior: a module from the encoder to p(z).
        preprocess: a module from x to the features that the encoder reads; identity by default. Pseudo-inputs are
            features.

    Raises:
        ValueError: the latent dimensions of encoder and prior differ, or those of a level.

    >>> from priory import BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> vae.sample(3).shape
    torch.Size([3, 6])
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module, preprocess: nn.Module | None = None
    ) -> None:
        super().__init__()
        ours, theirs = getattr(encoder, "latent_dim", None), getattr(prior, "latent_dim", None)
        if isinstance(ours, int) and isinstance(theirs, int) and ours != theirs:
            raise ValueError(f"prior: expected {ours} latent dimensions, those of the encoder, got {theirs}")
        _check_levels(encoder, prior)
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.preprocess = nn.Identity() if preprocess is None else preprocess

    def latent_prior(self) -> Distribution:
        """Evaluate p(z) once; use the result for any number of z.

        The priors of this package encode pseudo-inputs in evaluation mode, so q(z|u_k) depends on u_k alone, and
        pseudo-inputs do not move batch-norm statistics. Gradients flow.
        """
        return self.prior(self.encoder)

    def encode(self, x: Float[Tensor, "*batch input"]) -> Distribution:
        """q(z | x)."""
        return self.encoder(self.preprocess(x))

    def decode(self, z: Float[Tensor, "*batch latent"], **covariates: Any) -> Distribution:
        """p(x | z), with the decoder's covariates as keywords; `covariates(x)` computes them."""
        return self.decoder(z, **covariates)

    def covariates(self, x: Float[Tensor, "*batch input"]) -> dict[str, Any]:
        """What the decoder conditions on beside z, computed from x; nothing for most decoders."""
        return covariates_of(self.decoder, x)

    def sample(self, sample_shape: int | Sequence[int] = (), *, mean: bool = False) -> Tensor:
        """Draw x from p(z) p(x|z); with `mean`, return E[x|z] instead of a draw, as figures of papers do."""
        return sample(self, sample_shape, mean=mean)

    def reconstruct(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        """E[x | z] at z = E[z | x], or at the center of a `Chain`."""
        return reconstruct(self, x)


def _check_levels(encoder: nn.Module, prior: nn.Module) -> None:
    """Refuse levels of other sizes, unless one part does not know its own."""
    ours, theirs = (getattr(part, "levels", None) for part in (encoder, prior))
    if ours is None or theirs is None:
        return
    known = [None not in pair and pair[0] != pair[1] for pair in zip_longest(ours, theirs, fillvalue=0)]
    if any(known):
        raise ValueError(f"prior: expected levels of {ours} dimensions, those of the encoder, got {theirs}")


def features_of(model: LatentVariableModel, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
    """Return rows as the encoder of pseudo-inputs reads them: preprocessed by a `VAE`, as they are by other models."""
    return model.preprocess(x) if isinstance(model, VAE) else x


def feature_encoder(model: LatentVariableModel) -> Encoder:
    """Return what a prior reads pseudo-inputs with: the encoder of a `VAE`, `encode` of other models."""
    return model.encoder if isinstance(model, VAE) else model.encode
