"""A normalising flow as the prior."""

from collections.abc import Sequence
from typing import Self

from torch import nn
from torch.distributions import Distribution

from priory.priors.base import Encoder, Prior, PriorSpec


class FlowPrior(Prior):
    """p(z) = N(f(z) | 0, I) |det df/dz|, with an invertible network f: any zuko flow.

    Args:
        flow: a module that, called, returns a distribution over z: `zuko.flows.NSF(latent_dim)` and the like.

    Raises:
        TypeError: flow is no module, or calling it gives no distribution.

    Reference: Tomczak 2022, *Deep Generative Modeling*, ch. 4.4.1; Dinh et al. 2017, arXiv:1605.08803.

    >>> prior = FlowPrior.coupling(latent_dim=3)
    >>> prior().log_prob(torch.zeros(7, 3)).shape
    torch.Size([7])
    """

    summary = "a normalising flow: affine couplings here, any zuko flow in Python"
    reference = "Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803; Tomczak 2022, ch. 4.4.1"

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        if not isinstance(flow, nn.Module):
            raise TypeError(f"flow: expected a zuko flow or another module, got {type(flow).__name__}")
        p_z = flow()
        if not isinstance(p_z, Distribution):
            raise TypeError(f"flow: calling it should give a torch Distribution, got {type(p_z).__name__}")
        self.flow = flow
        self.latent_dim = p_z.event_shape[-1]

    @classmethod
    def coupling(cls, latent_dim: int, num_transforms: int = 3, hidden: Sequence[int] = (256, 256)) -> Self:
        """Affine couplings with alternating masks (Real NVP); element-wise affine maps where latent_dim is one."""
        flows = import_zuko().flows
        return cls(flows.RealNVP(latent_dim, transforms=num_transforms, hidden_features=tuple(hidden)))

    @classmethod
    def from_spec(cls, spec: PriorSpec) -> Self:
        return cls.coupling(spec.latent_dim, spec.flow_transforms, spec.hidden)

    def forward(self, encoder: Encoder | None = None) -> Distribution:
        """The flow's distribution, with batch shape () and event shape (L,); the encoder is not used."""
        return self.flow()


def import_zuko():  # type: ignore[no-untyped-def]  # a module
    """zuko, without the change that its import makes: it switches torch's argument validation off for the process."""
    validate = Distribution._validate_args
    try:
        import zuko
    finally:
        Distribution.set_default_validate_args(validate)
    return zuko
