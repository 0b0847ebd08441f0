"""log p(x) of a two-dimensional latent space by quadrature, exact up to the grid, for the categorical decoder."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from priory import VAE
from priory.model import evaluation_mode

WINDOW_SAMPLES = 10_000  # draws of the prior that the window must contain
WINDOW_SCALES = 5.0  # posterior standard deviations around each mean that it must contain
WINDOW_MARGIN = 0.05  # fraction of its width, added on each side
CHUNK = 2048  # grid points decoded at once: 2048 x 1088 numbers stay near the caches


class Quadrature(NamedTuple):
    """-log p(x) per datum in nats, and the share of the prior's mass on the grid, which should be one."""

    nll: Tensor
    prior_mass: float


class Window(NamedTuple):
    """A rectangle of the latent space."""

    low: Tensor
    high: Tensor


@torch.no_grad()
def latent_window(vae: VAE, x: Tensor, p_z: Distribution) -> Window:
    """Return the rectangle around draws of the prior and the encoder's posteriors of x, out to five scales."""
    with evaluation_mode(vae):
        q = vae.encode(x)
    points = torch.cat(
        [
            p_z.sample(torch.Size((WINDOW_SAMPLES,))),
            q.mean - WINDOW_SCALES * q.stddev,
            q.mean + WINDOW_SCALES * q.stddev,
        ]
    ).double()
    low, high = points.amin(0), points.amax(0)
    margin = WINDOW_MARGIN * (high - low)
    return Window(low - margin, high + margin)


def midpoints(window: Window, points_per_side: int) -> tuple[Tensor, Tensor]:
    """Return midpoints of the cells, (points_per_side^2, 2), and log(area of a cell), in float64."""
    width = (window.high - window.low) / points_per_side
    steps = torch.arange(points_per_side, dtype=torch.float64) + 0.5
    sides = [low + step * steps for low, step in zip(window.low, width, strict=True)]
    return torch.cartesian_prod(*sides), width.log().sum()


@torch.no_grad()
def exact_nll(vae: VAE, x: Tensor, points_per_side: int, *, window: Window | None = None) -> Quadrature:
    """-log p(x) by the midpoint rule on a grid over a window of the plane.

        p(x) = int p(z) p(x|z) dz ~ area sum_g p(z_g) p(x|z_g)

    With one-hot data, log p(x_n|z_g) for all n and g is one matrix product of log-probabilities. The product is in
    float32 (its error is about 1e-5 nats), the sum over the grid in float64.

    Args:
        vae: a model with L = 2 and a `CategoricalDecoder`.
        x: levels 0..n-1, (N, D).
        points_per_side: the grid has points_per_side^2 points.
        window: the rectangle to integrate over; by default the result of `latent_window` for these x.
    """
    with evaluation_mode(vae):
        p_z = vae.latent_prior()
        window = latent_window(vae, x, p_z) if window is None else window
        z, log_area = midpoints(window, points_per_side)
        one_hot: Tensor | None = None
        total = torch.full((len(x),), -torch.inf, dtype=torch.float64)
        log_mass = torch.tensor(-torch.inf, dtype=torch.float64)
        for part in z.float().split(CHUNK):
            log_p_x = vae.decode(part).base_dist.logits  # (G, D, n), normalized by torch's Categorical
            if one_hot is None:
                one_hot = _one_hot(x, log_p_x.shape[-1])
            log_p_z = p_z.log_prob(part).double() + log_area
            log_joint = (log_p_x.flatten(1) @ one_hot).double() + log_p_z[:, None]
            total = torch.logaddexp(total, torch.logsumexp(log_joint, 0))
            log_mass = torch.logaddexp(log_mass, torch.logsumexp(log_p_z, 0))
    return Quadrature(-total, float(log_mass.exp()))


def _one_hot(x: Tensor, num_levels: int) -> Tensor:
    """Return x as (D * n, N), so that log-probabilities (G, D * n) times it are log-likelihoods (G, N)."""
    return torch.nn.functional.one_hot(x.long(), num_levels).flatten(1).T.float().contiguous()
