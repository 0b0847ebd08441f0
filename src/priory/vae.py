"""The variational autoencoder, composed of any encoder, decoder and prior."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, TypeAlias, cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory._support.tensors import require_tensor
from priory.model import AnyModel, covariates_of, reconstruct, sample
from priory.nn.conditional import Given
from priory.nn.encoders import Encoder
from priory.priors import GivenPrior, Prior


class VAE(nn.Module):
    """p(x, z) = p(z) p(x | z) with the amortized posterior q(z | x).

    Args:
        encoder: a module from features (..., *input) to a reparameterized distribution q(z|x) with event (L,).
        decoder: a module from z (..., L) to a distribution p(x|z) over x in the data's units. If it conditions on a
            part of x (a row's library size), it has a method `covariates(x) -> dict`, whose entries it gets as
            keywords.
        prior: a module from the encoder to p(z).
        preprocess: a module from x to the features that the encoder reads; identity by default. Pseudo-inputs are
            features too.

    Raises:
        ValueError: the latent dimensions of encoder and prior differ, in total or in a level.

    >>> from priory import BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> vae.sample(3).shape
    torch.Size([3, 6])
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module, preprocess: nn.Module | None = None
    ) -> None:
        super().__init__()
        _check_latent_dims(encoder, prior)
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
        """Return what the decoder conditions on besides z, computed from x; nothing for most decoders."""
        return covariates_of(self.decoder, x)

    def sample(self, sample_shape: int | Sequence[int] = (), *, mean: bool = False) -> Tensor:
        """Draw x from p(z) p(x|z). With `mean`, return E[x|z] instead of a draw of x, as figures in papers do."""
        return sample(self, sample_shape, mean=mean)

    def reconstruct(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        """Return E[x | z] at z = E[z | x]; if q(z | x) is a `Chain`, at its center."""
        return reconstruct(self, x)


class ConditionalVAE(nn.Module):
    """p(x, z | c) = p(z | c) p(x | z, c) with the amortized posterior q(z | x, c); `given(context)` returns a `VAE`.

    Args:
        encoder: a module from features and context to q(z | x, c), such as `ConditionalEncoder`.
        decoder: a module from z and context to p(x | z, c), such as `ConditionalDecoder`.
        prior: a conditional prior p(z | c), or any prior p(z) without pseudo-inputs.
        preprocess: a module from x to the features that the encoder reads; identity by default.

    Raises:
        ValueError: the latent dimensions of encoder and prior differ.

    Reference: Sohn, Lee & Yan 2015, *Learning Structured Output Representation using Deep Conditional Generative
    Models*, NeurIPS 28, eq. 4.

    >>> from priory import BernoulliDecoder, ConditionalDecoder, ConditionalEncoder, NormalEncoder, StandardNormal, mlp
    >>> encoder = ConditionalEncoder(NormalEncoder(mlp(6 + 3, [8], 4)))
    >>> decoder = ConditionalDecoder(BernoulliDecoder(mlp(2 + 3, [8], 6)))
    >>> vae = ConditionalVAE(encoder, decoder, StandardNormal(2))
    >>> vae.given(torch.tensor([0.0, 1.0, 0.0])).sample(5).shape
    torch.Size([5, 6])
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module, preprocess: nn.Module | None = None
    ) -> None:
        super().__init__()
        _check_latent_dims(encoder, prior)
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.preprocess = nn.Identity() if preprocess is None else preprocess

    def given(self, context: Float[Tensor, "*batch context"]) -> "GivenVAE":
        """Return the model for rows with this context, (B, C), or for any number of rows with one context, (C,)."""
        return GivenVAE(self, context)


class GivenVAE(VAE):
    """A `ConditionalVAE` at a context: q(z | x, c), p(z | c) and p(x | z, c) for rows with this context.

    Attributes:
        context: (B, C) or (C,).
    """

    context: Tensor

    def __init__(self, model: ConditionalVAE, context: Float[Tensor, "*batch context"]) -> None:
        require_tensor("context", context)
        encoder, decoder = Given(model.encoder, context), Given(model.decoder, context)
        super().__init__(encoder, decoder, GivenPrior(cast(Prior, model.prior), context), model.preprocess)
        self.register_buffer("context", context, persistent=False)


AnyVAE: TypeAlias = VAE | ConditionalVAE


def _check_latent_dims(encoder: nn.Module, prior: nn.Module) -> None:
    """Check that encoder and prior have equal dimensions and levels, as far as both are known."""
    ours, theirs = getattr(encoder, "latent_dim", None), getattr(prior, "latent_dim", None)
    if isinstance(ours, int) and isinstance(theirs, int) and ours != theirs:
        raise ValueError(f"prior: expected {ours} latent dimensions, as the encoder has, got {theirs}")
    ours, theirs = (getattr(part, "levels", None) for part in (encoder, prior))
    if ours is None or theirs is None:
        return
    known = [None not in pair and pair[0] != pair[1] for pair in zip_longest(ours, theirs, fillvalue=0)]
    if any(known):
        raise ValueError(f"prior: expected levels of {ours} dimensions, as the encoder has, got {theirs}")


def features_of(model: AnyModel, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch feature"]:
    """Return the rows in the form of pseudo-inputs: preprocessed if the model is a `VAE`, else unchanged."""
    return model.preprocess(x) if isinstance(model, VAE | ConditionalVAE) else x


def feature_encoder(model: AnyModel) -> Encoder:
    """Return the function that encodes pseudo-inputs: the encoder of a `VAE`, or `encode` of another model."""
    return model.encoder if isinstance(model, VAE | ConditionalVAE) else model.encode  # type: ignore[union-attr]
