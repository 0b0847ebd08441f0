"""The diagonal normal, with numbers that stay finite."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent

from priory.distributions.values import Shape

LOG_SCALE_BOUND = 20.0  # exp(20)^2 and exp(-20)^2 are finite and above zero in float32


def at_least_float32(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Convert half precision to float32; return float32 and float64 unchanged.

    Under autocast, the last layer of a network gives bfloat16 or float16, too coarse for logarithms of probabilities.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Normal(torch.distributions.Normal):
    """A normal distribution whose draws may differ between the members of a `torch.func.vmap`.

    torch's own distribution fills a tensor in place, which `randomness="different"` does not allow. The draws for a
    seed are the same.

    >>> draw = torch.func.vmap(lambda loc: Normal(loc, 1.0).rsample(), randomness="different")
    >>> draw(torch.zeros(3)).unique().shape
    torch.Size([3])
    """

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.loc + torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device) * self.scale


NORMALS = (Normal, torch.distributions.Normal)


def diagonal_normal(loc: Float[Tensor, "*batch latent"], scale: Float[Tensor, "*batch latent"]) -> Independent:
    """N(z | loc, diag(scale^2)): the last axis is the event.

    The values are not checked, because a check reads the tensor, which breaks a compiled graph; in this package,
    `scale` is always an exponential or a constant. Parameters in half precision, as autocast gives them, are converted
    to float32.

    >>> diagonal_normal(torch.zeros(3, 2), torch.ones(3, 2))
    Independent(Normal(loc: torch.Size([3, 2]), scale: torch.Size([3, 2])), 1)
    """
    normal = Normal(at_least_float32(loc), at_least_float32(scale), validate_args=False)
    return Independent(normal, 1, validate_args=False)


def bounded_scale(log_scale: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """exp(log_scale), limited to exp(-20) .. exp(20), because squares of larger or smaller scales over- or underflow.

    >>> bounded_scale(torch.tensor([0.0, -1000.0]))
    tensor([1.0000e+00, 2.0612e-09])
    """
    return log_scale.clamp(-LOG_SCALE_BOUND, LOG_SCALE_BOUND).exp()


def is_diagonal_normal(distribution: Distribution) -> bool:
    """Return whether this is `Independent(Normal, 1)`, torch's or ours: then closed forms and the fast kernel apply."""
    return (
        isinstance(distribution, Independent)
        and distribution.reinterpreted_batch_ndims == 1
        and type(distribution.base_dist) in NORMALS
    )
