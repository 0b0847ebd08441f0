"""A smooth map between free parameters and the range of the data that they imitate."""

import math

import torch
from torch import Tensor, nn

MARGIN = 1 / 128  # of the range: how near to a bound a start may lie, so that it can still move away
STEEPNESS = 4.0  # makes the sigmoid's slope one in the middle: a step of the optimiser is a step in the data


class FeatureRange(nn.Module):
    """x = low + (high - low) sigmoid(4 r) with two bounds, low + softplus(r) with a lower one, x = r with none.

    No hard clip anywhere: the gradient never vanishes exactly, and `unconstrain` starts no parameter where it has
    all but vanished: a value within 1/128 of the range of a bound is moved that far inside.

    Args:
        low: smallest value, or None.
        high: largest value, or None; needs `low`.

    Raises:
        ValueError: low is not below high, or only high is given.

    >>> unit = FeatureRange(0.0, 1.0)
    >>> unit.constrain(unit.unconstrain(torch.tensor([0.25, 0.5])))
    tensor([0.2500, 0.5000])
    """

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        super().__init__()
        if low is None and high is not None:
            raise ValueError(f"low: a range with an upper bound ({high}) needs a lower one too; give low=")
        if low is not None and high is not None and not low < high:
            raise ValueError(f"low, high: expected low < high, got {low} and {high}")
        self.low = low
        self.high = high

    def extra_repr(self) -> str:
        return f"{self.low}, {self.high}"

    def constrain(self, raw: Tensor) -> Tensor:
        """Free numbers to values in the range."""
        if self.low is None:
            return raw
        if self.high is None:
            return self.low + nn.functional.softplus(raw)
        return self.low + (self.high - self.low) * torch.sigmoid(STEEPNESS * raw)

    def unconstrain(self, value: Tensor) -> Tensor:
        """Values in the range to free numbers: the inverse of `constrain`, up to 1/128 of the range at a bound.

        Raises:
            ValueError: a value lies outside of the range.
        """
        self._check(value)
        if self.low is None:
            return value
        if self.high is None:
            above = value - self.low
            above = above.clamp_min(MARGIN * max(float(above.max()), 1.0))
            return above + torch.log(-torch.expm1(-above))
        share = ((value - self.low) / (self.high - self.low)).clamp(MARGIN, 1 - MARGIN)
        return torch.logit(share) / STEEPNESS

    def _check(self, value: Tensor) -> None:
        lowest, highest = (float(v) for v in value.aminmax())
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        slack = 1e-5 * (high - low) if math.isfinite(high - low) else 1e-5
        if not (low - slack <= lowest and highest <= high + slack):
            raise ValueError(
                f"pseudo-inputs: expected values between {low} and {high}, got {lowest:g} to {highest:g}; they live in "
                "the space that the encoder's first layer reads, so scale them as its input is scaled"
            )
