"""Encoders of several levels of latent variables."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.distributions.chain import Chain
from priory.model import cast_like, evaluation_mode, owner
from priory.nn.encoders import Encoder, with_noise


class HierarchicalEncoder(nn.Module):
    """q(z_top, z_rest | x) = q(z_top | x) q(z_rest | x, z_top), over the concatenated vector (z_top, z_rest).

    For more than two levels, `rest` is also a `HierarchicalEncoder`; `nested` makes it.

    Args:
        top: an encoder of the features, q(z_top | x).
        rest: an encoder of the concatenation (h(x), z_top): q(z_rest | x, z_top).
        features: h, from features (..., D) to (..., H); it is computed once for each row, for any number of z. None is
            the identity.
        input_noise: standard deviation of normal noise on the features, in training mode only; `top` and `rest` read
            the same noise.

    Attributes:
        levels: the dimensions of each level, the top one first.

    Raises:
        ValueError: an encoder has no known `latent_dim`.

    Source: Tomczak & Welling 2018, arXiv:1705.07120, eq. 13-14.

    >>> from priory import NormalEncoder, mlp
    >>> encoder = HierarchicalEncoder(NormalEncoder(mlp(6, [8], 4)), NormalEncoder(mlp(6 + 2, [8], 2 * 3)))
    >>> encoder(torch.zeros(5, 6)).sample((7,)).shape, encoder.levels
    (torch.Size([7, 5, 5]), (2, 3))
    """

    def __init__(
        self, top: nn.Module, rest: nn.Module, features: nn.Module | None = None, *, input_noise: float = 0.0
    ) -> None:
        super().__init__()
        self.top, self.rest = top, rest
        self.features = nn.Identity() if features is None else features
        self.input_noise = input_noise
        self.levels = (*levels_of("top", top), *levels_of("rest", rest))

    @property
    def latent_dim(self) -> int:
        """Sum of the dimensions of all levels."""
        return sum(self.levels)

    def forward(self, features: Float[Tensor, "*batch input"]) -> Chain:
        """Return q(z_top, z_rest | x)."""
        features = with_noise(self, features)
        top, h = self.top(features), self.features(cast_like(features, self.features))
        return Chain(top, self.rest, self.levels[1:], h)

    def extra_repr(self) -> str:
        return f"levels={self.levels}" + (f", input_noise={self.input_noise:.3g}" if self.input_noise else "")


def nested(encoders: Sequence[nn.Module]) -> nn.Module:
    """Make one encoder of all levels from one encoder for each; each reads the features and the levels above it.

    >>> from priory import NormalEncoder, mlp
    >>> nested([NormalEncoder(mlp(6, [], 4)), NormalEncoder(mlp(8, [], 6)), NormalEncoder(mlp(11, [], 2))]).levels
    (2, 3, 1)
    """
    first, *others = encoders
    return HierarchicalEncoder(first, nested(others)) if others else first


def levels_of(argument: str, part: nn.Module) -> tuple[int, ...]:
    """Return the dimensions of the levels of an encoder, from its `levels` or its `latent_dim`.

    Raises:
        ValueError: it has neither.

    >>> from priory import NormalEncoder, mlp
    >>> levels_of("top", NormalEncoder(mlp(6, [8], 4)))
    (2,)
    """
    levels = getattr(part, "levels", None) or (getattr(part, "latent_dim", None),)
    if not all(isinstance(size, int) for size in levels):
        raise ValueError(
            f"{argument}: expected a module with a known `latent_dim`, got a {type(part).__name__} without it; "
            "give its network an `out_features`"
        )
    return tuple(levels)


def top_of(encoder: Encoder) -> Encoder:
    """Return the part of an encoder of several levels that encodes the top level; it reads pseudo-inputs.

    Raises:
        TypeError: the encoder does not return a `Chain` (raised when the part is called).

    >>> from priory import NormalEncoder, mlp
    >>> encoder = HierarchicalEncoder(NormalEncoder(mlp(6, [8], 4)), NormalEncoder(mlp(6 + 2, [8], 2 * 3)))
    >>> top_of(encoder) is encoder.top
    True
    """

    def top(features: Float[Tensor, "*batch input"]) -> Distribution:
        with evaluation_mode(encoder):
            q = encoder(cast_like(features, owner(encoder)))
        if not isinstance(q, Chain):
            raise TypeError(
                f"encoder: expected one that returns a Chain of several levels, such as HierarchicalEncoder, got {q}"
            )
        return q.first

    return encoder.top if isinstance(encoder, HierarchicalEncoder) else top
