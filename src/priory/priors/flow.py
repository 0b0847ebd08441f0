"""A normalizing flow as the prior."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory._support.optional import require
from priory.distributions.normal import at_least_float32
from priory.priors.base import Encoder, Prior, check_vector_density


class FlowPrior(Prior):
    """p(z) = N(f(z) | 0, I) |det df/dz|, with an invertible network f: any zuko flow.

    Args:
        flow: a module that returns a distribution over z when it is called, such as `zuko.flows.NSF(latent_dim)`.

    Raises:
        TypeError: flow is not a module, or calling it does not return a distribution.
        ValueError: the distribution is not over vectors.

    Reference: Tomczak 2022, *Deep Generative Modeling*, ch. 4.4.1; Dinh et al. 2017, arXiv:1605.08803.

    >>> prior = FlowPrior.coupling(latent_dim=3)
    >>> prior().log_prob(torch.zeros(7, 3)).shape
    torch.Size([7])
    """

    summary = "a normalizing flow: affine couplings here, any zuko flow in Python"
    reference = "Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803; Tomczak 2022, ch. 4.4.1"

    def __init__(self, flow: nn.Module) -> None:
        super().__init__()
        if not isinstance(flow, nn.Module):
            raise TypeError(f"flow: expected a zuko flow or another module, got {type(flow).__name__}")
        p_z = flow()
        if not isinstance(p_z, Distribution):
            raise TypeError(f"flow: expected calls to return a torch Distribution, got {type(p_z).__name__}")
        self.flow = flow
        self.made_by: tuple[str, dict[str, Any]] | None = None  # classmethod and arguments, for `priory.save`
        self.latent_dim = check_vector_density("flow", p_z)

    @classmethod
    def coupling(cls, latent_dim: int, num_transforms: int = 3, hidden: Sequence[int] = (256, 256)) -> Self:
        """Affine couplings with alternating masks (Real NVP); element-wise affine maps if latent_dim is 1.

        Args:
            latent_dim: L.
            num_transforms: number of couplings.
            hidden: widths of the hidden layers of each coupling's network.

        Raises:
            ImportError: zuko is not installed.

        Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803.

        >>> FlowPrior.coupling(2, num_transforms=2, hidden=[16])().sample((5,)).shape
        torch.Size([5, 2])
        """
        flows = import_zuko().flows
        prior = cls(flows.RealNVP(latent_dim, transforms=num_transforms, hidden_features=tuple(hidden)))
        sizes = {"latent_dim": latent_dim, "num_transforms": num_transforms, "hidden": tuple(hidden)}
        prior.made_by = ("coupling", sizes)
        return prior

    @classmethod
    def spline(
        cls, latent_dim: int, num_transforms: int = 3, hidden: Sequence[int] = (256, 256), *, num_bins: int = 8
    ) -> Self:
        """Couplings of monotonic rational-quadratic splines with alternating masks; element-wise if latent_dim is 1.

        The splines cover [-5, 5] in each dimension; outside, the maps are the identity. They fit sharp and multimodal
        densities with fewer couplings than affine maps.

        Args:
            latent_dim: L.
            num_transforms: number of couplings.
            hidden: widths of the hidden layers of each coupling's network.
            num_bins: pieces of each spline.

        Raises:
            ImportError: zuko is not installed.

        Reference: Durkan, Bekasov, Murray & Papamakarios 2019, arXiv:1906.04032, RQ-NSF (C).

        >>> FlowPrior.spline(2, num_transforms=2, hidden=[16])().sample((5,)).shape
        torch.Size([5, 2])
        """
        options: dict[str, Any] = {"transforms": num_transforms, "hidden_features": tuple(hidden), "bins": num_bins}
        prior = cls(import_zuko().flows.NSF(latent_dim, passes=2, **options))  # with two passes it is a coupling
        sizes = {"latent_dim": latent_dim, "num_transforms": num_transforms, "hidden": tuple(hidden)}
        prior.made_by = ("spline", sizes | {"num_bins": num_bins})
        return prior

    def forward(self, encoder: Encoder | None = None) -> "FullPrecision":
        """Return the flow's distribution, with batch shape () and event shape (L,); the encoder is not used."""
        if not torch.compiler.is_dynamo_compiling() or not hasattr(torch._dynamo, "patch_dynamo_config"):  # torch 2.8
            return FullPrecision(self.flow())
        # zuko asserts that a tuple of transforms is not empty, and Dynamo replaces `assert` with a check of tensors.
        with torch._dynamo.patch_dynamo_config(rewrite_assert_with_torch_assert=False):
            return FullPrecision(self.flow())


class FullPrecision(Distribution):
    """A distribution whose networks run outside of autocast.

    In half precision the density of an invertible network does not match its map: the error is 0.15 nats for a coupling
    flow near its start at L = 8, and grows without bound later.
    """

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, base: Any) -> None:
        self.base = base
        self.has_rsample = base.has_rsample
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base.support

    def log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        if self.batch_shape:  # zuko broadcasts samples, but not batch dimensions
            value = value.expand(*torch.broadcast_shapes(value.shape[:-1], self.batch_shape), -1)
        with torch.autocast(value.device.type, enabled=False):
            return self.base.log_prob(at_least_float32(value))

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*sample latent"]:
        with torch.no_grad():
            return self.rsample(sample_shape) if self.has_rsample else self.base.sample(torch.Size(sample_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*sample latent"]:
        device = "cuda" if torch.is_autocast_enabled("cuda") else "cpu"
        with torch.autocast(device, enabled=False):
            return self.base.rsample(torch.Size(sample_shape))


def import_zuko() -> Any:
    """Import zuko and switch torch's argument validation back on, which the import switches off."""
    validate = Distribution._validate_args
    try:
        return require("zuko", "flows", "FlowPrior")
    finally:
        Distribution.set_default_validate_args(validate)
