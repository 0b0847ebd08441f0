"""A mixture that leaves one component out for each row of a batch."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution

from priory.density import joint_log_prob, mixture_log_prob
from priory.distributions.mixture import Mixture


class LeaveOneOut(Distribution):
    """The density of row n of a batch under all components except its own, k_n.

        log p_-n(z_n) = log sum_{k != k_n} pi_k p_k(z_n) - log(1 - pi_{k_n})

    No component is subtracted from p(z), because the row's own component may be nearly all of it. The own components of
    all rows form one small matrix; `priory.density` computes all others in blocks.

    Args:
        mixture: K diagonal normals, without batch dimensions.
        own: k_n, the component of each row, (B,); -1 if it has none.

    >>> from priory import diagonal_normal
    >>> p_z = Mixture(torch.zeros(2), diagonal_normal(torch.tensor([[-5.0], [5.0]]), torch.ones(2, 1)))
    >>> LeaveOneOut(p_z, torch.tensor([0, 1, -1])).log_prob(torch.full((3, 1), 5.0))
    tensor([ -0.9189, -50.9189,  -1.6121])
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own attribute)

    def __init__(self, mixture: Mixture, own: Int[Tensor, " row"]) -> None:
        self.mixture, self.own = mixture, own
        super().__init__(event_shape=mixture.event_shape, validate_args=False)

    def log_prob(self, value: Float[Tensor, "*draw row latent"]) -> Float[Tensor, "*draw row"]:
        """log p_-n(z_n) in nats; the second last axis of z is the row.

        Raises:
            ValueError: z has another shape.
        """
        rows = len(self.own)
        if value.ndim < 2 or value.shape[-2:] != (rows, *self.event_shape):
            raise ValueError(
                f"z: expected shape (..., {rows}, {self.event_shape[0]}), one z for each row that is left out, got "
                f"{tuple(value.shape)}"
            )
        base: Any = self.mixture.components.base_dist  # type: ignore[attr-defined]
        log_weights, loc, scale = self.mixture.log_weights, base.loc, base.scale
        owned = self.own[self.own >= 0].unique()
        others = mixture_log_prob(value, log_weights.index_fill(0, owned, -torch.inf), loc, scale)
        joint = joint_log_prob(value, log_weights[owned], loc[owned], scale[owned])
        joint = joint.masked_fill(self.own.unsqueeze(-1) == owned, -torch.inf)
        weight = torch.where(self.own >= 0, log_weights[self.own].exp(), 0.0)
        return torch.cat([others.unsqueeze(-1), joint], -1).logsumexp(-1) - torch.log1p(-weight)

    def __repr__(self) -> str:
        return f"LeaveOneOut({self.mixture}, rows: {len(self.own)})"
