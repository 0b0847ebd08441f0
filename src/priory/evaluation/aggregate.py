"""The aggregate posterior q(z) = 1/N sum_n q(z|x_n), a mixture of the posteriors of all rows, and its metrics.

ELBO surgery: the mean of KL(q(z|x) || p(z)) is the information of z about x, plus KL(q(z) || p(z)). In one and two
latent dimensions the integrals are Gauss-Hermite quadratures over every posterior; in more, one draw of each posterior
is used.
"""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory._support.tensors import Columns
from priory.density import joint_log_prob
from priory.distributions.mixture import Mixture
from priory.distributions.normal import diagonal_normal
from priory.evaluation.estimates import Bootstrap, Estimate, mean
from priory.evaluation.quadrature import gauss_hermite

ACTIVE_UNIT_VARIANCE = 0.01  # the threshold of Burda, Grosse & Salakhutdinov 2016, sec. 5.2
ROWS_AT_MOST = 20_000  # rows of the aggregate posterior: the cost grows with their square
PAIRS_AT_ONCE = 2**20  # numbers of the point x row matrix
PAIRS_FOR_QUADRATURE = 2**26  # with more, one draw of each posterior replaces the nodes
NODES_PER_SIDE = (48, 32, 24, 16, 12, 8, 6, 4)  # the first number that gives few enough pairs is used


class AggregatePosterior:
    """q(z) of some rows, with diagonal-normal posteriors.

    Args:
        loc: (N, L), posterior means.
        scale: (N, L), posterior standard deviations.
    """

    def __init__(self, loc: Float[Tensor, "datum latent"], scale: Float[Tensor, "datum latent"]) -> None:
        if len(loc) > ROWS_AT_MOST:
            chosen = torch.linspace(0, len(loc) - 1, ROWS_AT_MOST, device=loc.device).long()
            loc, scale = loc[chosen], scale[chosen]
        self.loc, self.scale = loc, scale

    def __len__(self) -> int:
        return len(self.loc)

    @functools.cached_property
    def density(self) -> Mixture:
        """The distribution q(z)."""
        return Mixture(self.loc.new_zeros(len(self)), diagonal_normal(self.loc, self.scale))

    @functools.cached_property
    def points(self) -> tuple[Float[Tensor, "node datum latent"], Float[Tensor, " node"]]:
        """Points z of each posterior, and weights: E_q(z|x_n) f(z) is the weighted sum of f over the points."""
        latent_dim = self.loc.shape[-1]
        for nodes_per_side in NODES_PER_SIDE if latent_dim <= 2 else ():
            if nodes_per_side**latent_dim * len(self) ** 2 <= PAIRS_FOR_QUADRATURE:
                return gauss_hermite(self.loc, self.scale, nodes_per_side)
        return diagonal_normal(self.loc, self.scale).sample(torch.Size((1,))), self.loc.new_ones(1)

    def surgery(self, p_z: Distribution) -> dict[str, Estimate]:
        """Return the parts of KL(q(z|x) || p(z)) in nats.

        `index_code_mutual_information` uses these N rows and is at most log N. `mutual_information_upper_bound` leaves
        the row's own posterior out of q(z). On average the first is a lower bound and the second an upper bound of the
        information about infinitely many rows. `marginal_kl` is KL(q(z) || p(z)) of these N rows.

        Reference: Hoffman & Johnson 2016, "ELBO surgery", NIPS workshop; Poole et al. 2019, arXiv:1905.06922, sec. 2.3,
        for the two bounds.
        """
        z, weights = self.points
        nodes = z.flatten(0, 1)
        log_q, with_own, without = (values.reshape(z.shape[:-1]) for values in self._log_densities(nodes))
        log_p = p_z.log_prob(z)
        weights = weights.double()
        return {
            "index_code_mutual_information": mean(weights @ (log_q - with_own)),
            "mutual_information_upper_bound": mean(weights @ (log_q - without)),
            "marginal_kl": mean(weights @ (with_own - log_p)),
        }

    def _log_densities(self, z: Float[Tensor, "point latent"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return log q(z|x_n), log q(z), and log q(z) without the row's own posterior, in float64.

        The points belong to rows 0, 1, .., N - 1, 0, 1, .. in this order.
        """
        size = len(self)
        loc, scale, log_weights = self.loc.double(), self.scale.double(), self.loc.new_zeros(size, dtype=torch.float64)
        rows = torch.arange(len(z), device=z.device).remainder(size).unsqueeze(-1)
        columns = Columns(len(z))
        at_once = max(1, PAIRS_AT_ONCE // size)
        for points, row in zip(z.split(at_once), rows.split(at_once), strict=True):
            joint = joint_log_prob(points.double(), log_weights, loc, scale)
            own = joint.gather(-1, row).squeeze(-1)
            columns.add([own, torch.logsumexp(joint.scatter_(-1, row, -math.inf), -1)])
        log_q, log_others = columns.all
        return log_q, torch.logaddexp(log_q, log_others) - math.log(size), log_others - math.log(max(1, size - 1))


def active_units(loc: Float[Tensor, "datum latent"]) -> Estimate:
    """Count the latent dimensions with Var_x(E[z|x]) above 0.01; the standard error is by the bootstrap.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, sec. 5.2.
    """
    loc = loc.cpu().double()
    loc = loc - loc.mean(0)
    averages = Bootstrap(len(loc)).averages(0, torch.cat([loc, loc.square()], -1))

    def count(moments: Tensor) -> Tensor:
        first, second = moments.chunk(2, -1)
        unbiased = len(loc) / (len(loc) - 1)
        return ((second - first.square()) * unbiased > ACTIVE_UNIT_VARIANCE).double().sum(-1)

    return Bootstrap.estimate(averages, count)
