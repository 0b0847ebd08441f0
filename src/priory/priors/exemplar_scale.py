"""The scale of exemplars by maximum likelihood, leaving out each row's own component."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priory.distributions.leave_one_out import LeaveOneOut
from priory.distributions.mixture import Mixture
from priory.distributions.normal import diagonal_normal

STEPS, TOLERANCE = 30, 1e-3  # the tolerance is a change of log scale
ROWS_AT_ONCE = 512  # rows that are left out together: their own components form one matrix
PAIRS = 2**28  # most pairs of a draw and a component in one step: a second or two


def most_likely_log_scale(
    z: Float[Tensor, "draw row latent"],
    codes: Float[Tensor, "component latent"],
    own: Int[Tensor, " row"],
    start: float,
) -> Float[Tensor, ""]:
    """Maximize the mean of log p_-n(z_n) = log 1/(N-1) sum_{m != n} N(z_n | c_m, scale^2 I) over log scale.

    A step of EM, scale^2 <- 1/(M L) sum_n sum_m p_-n(m | z_n) |z_n - c_m|^2, is slow if exemplars overlap, so the
    secant method finds its fixed point. If there are very many rows, only the first ones are used.

    >>> codes = torch.tensor([[0.0], [1.0]])
    >>> most_likely_log_scale(codes.unsqueeze(0), codes, torch.tensor([0, 1]), start=1.0)  # each is 1 from the other
    tensor(0.)
    """
    rows = max(1, PAIRS // (len(z) * len(codes)))
    parts = list(zip(z[:, :rows].split(ROWS_AT_ONCE, 1), own[:rows].split(ROWS_AT_ONCE), strict=True))
    place = start
    step = _em_step(parts, codes, place)
    move = step
    for _ in range(STEPS):
        before, last, place = place, step, place + move
        if abs(move) < TOLERANCE:
            break
        step = _em_step(parts, codes, place)
        slope = (step - last) / (place - before)
        move = min(1.0, max(-1.0, -step / slope)) if slope < 0 else step
    return torch.tensor(place)


def _em_step(parts: list[tuple[Tensor, Tensor]], codes: Tensor, place: float) -> float:
    """Return the change of log scale: d log p / d log scale = sum_m p(m | z) |z - c_m|^2 / scale^2 - L."""
    log_scale = torch.tensor(place, dtype=torch.float64, device=codes.device, requires_grad=True)
    for z, own in parts:  # each part frees its graph
        with torch.enable_grad():
            p_z = Mixture(codes.new_zeros(len(codes)), diagonal_normal(codes, log_scale.exp().expand_as(codes)))
            LeaveOneOut(p_z, own).log_prob(z).double().sum().backward()
    assert log_scale.grad is not None
    return 0.5 * math.log1p(log_scale.grad.item() / sum(z.numel() for z, _ in parts))
