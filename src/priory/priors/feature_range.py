"""A smooth map from free parameters to the range of the data."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

MARGIN = 1 / 128  # of a range with two bounds: smallest distance of an initial value from a bound, so it can move away
STEEPNESS = 4.0  # makes the sigmoid's slope one in the middle, so an optimizer step changes the value as much
# With only a lower bound, most values may lie on it (the zeros of counts). An initial value must stay much nearer to
# it than MARGIN, or thousands of zeros add up. The steeper map still has a slope above 1/100 there.
LOWER_MARGIN = 1 / 1024  # of the range of a column
LOWER_STEEPNESS = 16.0
CONSTANT_COLUMN = 1 / 64  # of the whole range: used as the range of a constant column
# Below exp(-88) numbers are denormal, and matrix products over saturated pseudo-inputs take three times as long
# (measured: a GTM-VampPrior on static MNIST, 295 ms a step instead of 94). exp(-16) is just as black, and not denormal.
LOGIT_BOUND = 16.0
ROUNDING = 1e-5  # of the range: how far outside of it a float32 value may lie


class FeatureRange(nn.Module):
    """x = low + (high - low) sigmoid(4 r) with two bounds, low + scale/16 softplus(16 r) with one, r with none.

    The argument of sigmoid and, below zero, of softplus is bounded smoothly, 16 tanh(./16): values stay 1e-7 of the
    range away from a bound. There is no hard clip, and `unconstrain` starts no parameter where the slope nearly
    vanishes: with two bounds an initial value stays 1/128 of the range away from them (slope at least 0.03), with a
    lower bound 1/1024 of its column's range.

    Args:
        low: smallest value, or None.
        high: largest value, or None; needs `low`.
        scale: size of the values above the lower bound, if it is the only one.

    Raises:
        ValueError: low is not below high, only high is given, or scale is not positive.

    >>> unit = FeatureRange(0.0, 1.0)
    >>> unit.constrain(unit.unconstrain(torch.tensor([0.25, 0.5])))
    tensor([0.2500, 0.5000])
    """

    scale: Tensor

    def __init__(self, low: float | None = None, high: float | None = None, scale: float = 1.0) -> None:
        super().__init__()
        if low is None and high is not None:
            raise ValueError(f"low: expected a lower bound beside the upper one ({high}), got none; give low=")
        if low is not None and high is not None and not low < high:
            raise ValueError(f"low, high: expected low < high, got {low} and {high}")
        if not scale > 0:
            raise ValueError(f"scale: expected a positive size of the values, got {scale}")
        self.low, self.high = low, high
        if low is not None and high is None:
            self.register_buffer("scale", torch.tensor(float(scale)))

    def extra_repr(self) -> str:
        return f"{self.low}, {self.high}"

    def constrain(self, raw: Tensor) -> Tensor:
        """Map free numbers to values in the range."""
        if self.low is None:
            return raw
        if self.high is None:
            argument = torch.where(raw < 0, _softly_bounded(LOWER_STEEPNESS, raw), LOWER_STEEPNESS * raw)
            return self.low + self.scale / LOWER_STEEPNESS * nn.functional.softplus(argument)
        share = torch.sigmoid(_softly_bounded(STEEPNESS, raw))
        if (self.low, self.high) == (0.0, 1.0):
            return share  # saves two passes over all pseudo-inputs, forward and backward
        return self.low + (self.high - self.low) * share

    def unconstrain(self, value: Float[Tensor, "*component input"]) -> Float[Tensor, "*component input"]:
        """Map values in the range to free numbers: the inverse of `constrain`, except for the margin at a bound."""
        lowest, highest = (float(v) for v in value.aminmax())
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        slack = ROUNDING * (high - low) if math.isfinite(high - low) else ROUNDING
        if not (low - slack <= lowest and highest <= high + slack):
            raise ValueError(
                f"pseudo-inputs: expected values between {low} and {high}, got {lowest:g} to {highest:g}; they are in "
                "the space that the encoder's first layer reads, so scale them as its input is scaled"
            )
        if self.low is None:
            return value
        if self.high is None:
            above = value - self.low
            columns = above.amax(0).maximum(CONSTANT_COLUMN * self.scale) if above.ndim > 1 else self.scale
            above = LOWER_STEEPNESS / self.scale * above.maximum(LOWER_MARGIN * columns)
            argument = above + torch.log(-torch.expm1(-above))
            return torch.where(argument < 0, _unbounded(argument), argument) / LOWER_STEEPNESS
        share = ((value - self.low) / (self.high - self.low)).clamp(MARGIN, 1 - MARGIN)
        return _unbounded(torch.logit(share)) / STEEPNESS


def _softly_bounded(steepness: float, raw: Tensor) -> Tensor:
    return LOGIT_BOUND * torch.tanh(steepness / LOGIT_BOUND * raw)


def _unbounded(argument: Tensor) -> Tensor:
    """The inverse of `_softly_bounded`, clipped at the bound; beyond it, the other branch replaces the result."""
    return LOGIT_BOUND * torch.atanh((argument / LOGIT_BOUND).clamp(-0.99, 0.99))


def scale_above(x: Tensor, low: float | None) -> float:
    """Return the largest value above a lower bound, for `FeatureRange(scale=)`; 1 if there is none."""
    largest = 0.0 if low is None else float(x.max()) - low
    return largest if largest > 0 else 1.0
