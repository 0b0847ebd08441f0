"""Preprocessing: converts data in their own units to the features that an encoder reads, and back for pictures.

Every constant is a buffer, so it follows `.to(device)` and is saved with the model. Each class has the range of its
features, because learned pseudo-inputs are features and must stay in the range of the data.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from priory._support.tensors import require_tensor


class Preprocessing(nn.Module, ABC):
    """Base class: `forward` maps data (..., D) to features (..., D), `inverse` maps features back.

    `feature_range` is (low, high), an interval that contains the features of any valid datum; None means no bound.

    >>> class Halve(Preprocessing):
    ...     feature_range = (0.0, None)
    ...     def forward(self, x):
    ...         return x / 2
    ...     def inverse(self, features):
    ...         return features * 2
    >>> Halve()(torch.tensor([4.0]))
    tensor([2.])
    """

    feature_range: tuple[float | None, float | None]

    @abstractmethod
    def forward(self, x: Num[Tensor, "*batch input"]) -> Num[Tensor, "*batch input"]:
        """Return the features of data x, same shape."""

    @abstractmethod
    def inverse(self, features: Num[Tensor, "*batch input"]) -> Num[Tensor, "*batch input"]:
        """Return the data with these features, same shape."""


class Identity(Preprocessing):
    """The features are the data; for binary data, 0 and 1.

    >>> Identity()(torch.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """

    feature_range = (0.0, 1.0)

    def forward(self, x: Num[Tensor, "*batch input"]) -> Num[Tensor, "*batch input"]:
        return x

    def inverse(self, features: Num[Tensor, "*batch input"]) -> Num[Tensor, "*batch input"]:
        return features


class Rescale(Preprocessing):
    """Map the interval of the data to the unit interval, features = (x - low) / (high - low).

    Args:
        low: smallest value that the data can have, in their own units.
        high: largest value that the data can have; 255 for pixels in 0..255, 16 for digits in 0..16.

    Raises:
        ValueError: low and high are not finite, or not low < high.

    >>> rescale = Rescale(0, 16)
    >>> rescale(torch.tensor([0.0, 4.0, 16.0]))
    tensor([0.0000, 0.2500, 1.0000])
    >>> rescale.inverse(torch.tensor([0.25]))
    tensor([4.])
    """

    feature_range = (0.0, 1.0)
    low: Tensor
    high: Tensor

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not -float("inf") < low < high < float("inf"):
            raise ValueError(
                f"low, high: expected finite numbers with low < high, got {low} and {high}; "
                "give the smallest and the largest value that the data can have"
            )
        self.register_buffer("low", torch.tensor(float(low)))
        self.register_buffer("high", torch.tensor(float(high)))

    def forward(self, x: Num[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        return (x - self.low) / (self.high - self.low)

    def inverse(self, features: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        return self.low + (self.high - self.low) * features


class Standardize(Preprocessing):
    """Center each column and divide it by its standard deviation, features = (x - loc) / scale.

    Args:
        loc: (D,), subtracted from each column, in the column's own unit.
        scale: (D,), positive, in the column's own unit.

    Raises:
        ValueError: the shapes differ; a value is not finite; a scale is not positive.

    >>> standardize = Standardize(loc=torch.tensor([1.0, 0.0]), scale=torch.tensor([2.0, 0.5]))
    >>> standardize(torch.tensor([3.0, 1.0]))
    tensor([1., 2.])
    """

    feature_range = (None, None)
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Float[Tensor, " input"], scale: Float[Tensor, " input"]) -> None:
        super().__init__()
        check_loc_and_scale(loc, scale)
        self.register_buffer("loc", loc.detach().clone())
        self.register_buffer("scale", scale.detach().clone())

    @classmethod
    def from_data(cls, x: Num[Tensor, "batch input"]) -> "Standardize":
        """Use mean and standard deviation (divisor: the number of rows) of each column; constant columns get scale 1.

        Raises:
            ValueError: x is not a table with at least one row, or a value is not finite.

        >>> standardize = Standardize.from_data(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
        >>> standardize.loc, standardize.scale
        (tensor([2., 7.]), tensor([1., 1.]))
        """
        _check_table(x)
        precise = x.double()  # a float32 mean of many rows loses digits
        constant = precise.amin(0) == precise.amax(0)
        scale = torch.where(constant, 1.0, precise.std(0, correction=0))
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return cls(precise.mean(0).to(dtype), scale.to(dtype))

    def forward(self, x: Num[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        return (x - self.loc) / self.scale

    def inverse(self, features: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        return self.loc + self.scale * features


class LogNormalize(Preprocessing):
    """Logarithms of counts, with each row scaled to the same total: features = log(1 + target * x / sum(x)).

    A row of zeros has features of zero. The inverse, exp(features) - 1, returns the counts of a row with total
    `target`, because the features do not contain the total of the original row.

    Args:
        target: the total to which each row is scaled, in counts.

    Raises:
        ValueError: target is not positive and finite.

    Source: Luecken & Theis 2019 (Molecular Systems Biology 15, e8746), normalization by counts per cell and log(x + 1).

    >>> LogNormalize(target=4.0)(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    tensor([[1.0986, 1.0986],
            [0.0000, 0.0000]])
    """

    feature_range = (0.0, None)
    target: Tensor

    def __init__(self, target: float) -> None:
        super().__init__()
        if not 0 < target < float("inf"):
            raise ValueError(
                f"target: expected a positive, finite number of counts, got {target}; "
                "give a typical row total, or build with LogNormalize.from_data(x)"
            )
        self.register_buffer("target", torch.tensor(float(target)))

    @classmethod
    def from_data(cls, x: Num[Tensor, "batch input"]) -> "LogNormalize":
        """Use as target the median total of the rows that have any counts.

        Raises:
            ValueError: x is not a table of finite values, has negative values, or has no counts at all.

        >>> LogNormalize.from_data(torch.tensor([[1.0, 1.0], [2.0, 4.0], [0.0, 9.0]])).target
        tensor(6.)
        """
        _check_table(x)
        totals = x.double().sum(-1)
        if (x < 0).any() or not (totals > 0).any():
            raise ValueError(
                f"x: expected counts (0 or more, not all 0), got values from {x.min().item():g} to "
                f"{x.max().item():g}; give raw counts, neither logarithms nor centered values"
            )
        return cls(totals[totals > 0].quantile(0.5).item())

    def forward(self, x: Num[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        total = x.sum(-1, keepdim=True)
        return torch.log1p(x * (self.target / torch.where(total > 0, total, 1)))

    def inverse(self, features: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch input"]:
        return torch.expm1(features)


def check_loc_and_scale(loc: Tensor, scale: Tensor) -> None:
    """Raise ValueError unless loc and scale are vectors of one length, finite, with positive scale."""
    require_tensor("loc", loc)
    require_tensor("scale", scale)
    if loc.ndim != 1 or loc.shape != scale.shape:
        raise ValueError(
            "loc, scale: expected two vectors with one number per column, got shapes "
            f"{tuple(loc.shape)} and {tuple(scale.shape)}; take both from the training rows by Standardize.from_data"
        )
    if not (loc.isfinite().all() and scale.isfinite().all() and (scale > 0).all()):
        raise ValueError(
            f"loc, scale: expected finite numbers and a positive scale, got a scale of {scale.min().item():g}; "
            "set the scale of constant columns to 1, as Standardize.from_data does"
        )


def _check_table(x: Tensor) -> None:
    require_tensor("x", x)
    if x.ndim != 2 or x.numel() == 0:
        raise ValueError(f"x: expected a table (rows, columns) with at least one row, got shape {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError(
            f"x: expected finite numbers, got {int((~x.isfinite()).sum())} NaN or infinite; remove or impute these"
        )
