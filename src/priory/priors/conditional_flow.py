"""A normalizing flow whose networks read a context."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from priory.priors.conditional import ConditionalPrior, require_context
from priory.priors.flow import FullPrecision, import_zuko


class ConditionalFlowPrior(ConditionalPrior):
    """p(z | c) = N(f(z, c) | 0, I) |det df/dz|, with affine couplings f (Real NVP) whose networks read z and c.

    Args:
        latent_dim: L.
        context_dim: C.
        num_transforms: number of couplings.
        hidden: widths of the hidden layers of each coupling's network.

    Raises:
        ImportError: zuko is not installed.

    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803; Winkler et al. 2019, arXiv:1912.00042, eq. 4.

    >>> import torch
    >>> prior = ConditionalFlowPrior(2, context_dim=3, num_transforms=2, hidden=[16])
    >>> prior(context=torch.eye(3)).sample((5,)).shape
    torch.Size([5, 3, 2])
    """

    summary = "a normalizing flow whose networks read a context"
    reference = "Winkler et al. 2019, arXiv:1912.00042, eq. 4"

    def __init__(
        self, latent_dim: int, context_dim: int, num_transforms: int = 3, hidden: Sequence[int] = (256, 256)
    ) -> None:
        super().__init__()
        self.latent_dim, self.context_dim = latent_dim, context_dim
        self.num_transforms, self.hidden = num_transforms, tuple(hidden)
        options = {"transforms": num_transforms, "hidden_features": self.hidden}
        self.flow = import_zuko().flows.RealNVP(latent_dim, context_dim, **options)

    def forward(  # type: ignore[override]
        self, encoder: nn.Module | None = None, context: Float[Tensor, "*batch context"] | None = None
    ) -> FullPrecision:
        """p(z | c), with the context's batch shape; the encoder is not used.

        Raises:
            TypeError: there is no context.
        """
        return FullPrecision(self.flow(require_context(self, context)))
