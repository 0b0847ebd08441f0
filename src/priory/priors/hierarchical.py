"""The prior of several levels: any prior at the top, and conditional normals of the levels below."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from priory.distributions.chain import Chain
from priory.grid.guide import Guide
from priory.nn.encoders import Encoder
from priory.nn.hierarchy import levels_of, top_of
from priory.priors.base import Features, Prior, log_prior_of
from priory.priors.conditional import require_unconditional


class HierarchicalPrior(Prior):
    """p(z_top, z_rest) = p(z_top) p(z_rest | z_top), over the concatenated vector (z_top, z_rest).

    Args:
        top: any prior, p(z_top); if it needs the encoder, it gets the top part of a `HierarchicalEncoder`.
        conditional: from z_top (..., L_top) to p(z_rest | z_top), for example a `NormalEncoder` of z_top. For more than
            two levels, a `HierarchicalEncoder` of z_top.

    Attributes:
        levels: the dimensions of each level, the top one first; the top one is None if the encoder decides.

    Raises:
        TypeError: `top` is a conditional prior.
        ValueError: `conditional` has no `latent_dim`.

    Reference: Tomczak & Welling 2018, arXiv:1705.07120, eq. 11-12.

    >>> from priory import NormalEncoder, StandardNormal, mlp
    >>> prior = HierarchicalPrior(StandardNormal(2), NormalEncoder(mlp(2, [8], 2 * 3)))
    >>> prior().sample((7,)).shape, prior.levels
    (torch.Size([7, 5]), (2, 3))
    """

    summary = "any prior at the top level, and a conditional normal of each level given those above it"
    reference = "Tomczak & Welling 2018, arXiv:1705.07120, eq. 11-12"

    def __init__(self, top: Prior, conditional: nn.Module) -> None:
        super().__init__()
        require_unconditional("top", top)
        self.top, self.conditional = top, conditional
        self._lower = levels_of("conditional", conditional)
        self.levels = (top.latent_dim, *self._lower)

    @property
    def needs_encoder(self) -> bool:  # type: ignore[override]
        """Whether the top prior needs the encoder."""
        return self.top.needs_encoder

    @property
    def latent_dim(self) -> int | None:  # type: ignore[override]
        """Sum of the dimensions of all levels; None if the encoder decides about the top level."""
        return None if self.top.latent_dim is None else self.top.latent_dim + sum(self._lower)

    @property
    def guide(self) -> Guide | None:
        """The top prior's guide."""
        return getattr(self.top, "guide", None)

    def forward(self, encoder: Encoder | None = None) -> Chain:
        """p(z), with batch shape () and event shape (L,).

        Raises:
            TypeError: the top prior needs the encoder, and there is none.
        """
        top = self.top(None if encoder is None else top_of(encoder))
        return Chain(top, self.conditional, self._lower)

    def log_prior(self, encoder: Encoder | None) -> Float[Tensor, ""] | None:
        """Return the log-density of the top prior's parameters, in nats per datum; None if it has none."""
        return log_prior_of(self.top, None if encoder is None else top_of(encoder))

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """Fit the top prior to the top level of these draws, if its steps have closed forms."""
        return self.top.fit_by_em(z[:, : z.shape[1] - sum(self._lower)], features, seed=seed)


def top_prior(prior: Any) -> Any:
    """Return the prior of the top level of a `HierarchicalPrior`; return any other prior unchanged.

    >>> from priory import NormalEncoder, StandardNormal, mlp
    >>> top = StandardNormal(2)
    >>> top_prior(HierarchicalPrior(top, NormalEncoder(mlp(2, [8], 2 * 3)))) is top, top_prior(top) is top
    (True, True)
    """
    return prior.top if isinstance(prior, HierarchicalPrior) else prior
