"""The decoder of real columns."""

import math
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from priory._support.tensors import require_tensor
from priory.distributions.normal import at_least_float32
from priory.nn.decoders.base import LikelihoodDecoder, check_columns
from priory.nn.networks import output_width
from priory.nn.preprocessing import Standardize, check_loc_and_scale


class GaussianDecoder(LikelihoodDecoder):
    """Real columns, with a mean from the network and learned noise.

        p(x_d | z) = N(x_d | loc_d + scale_d mean_d(z), (scale_d noise_d)^2),    noise = min_scale + softplus(free)

    The network works in standardized units; an affine map converts the density to the units of the data. One noise per
    column (the default) is enough for most tables and cannot collapse: its variance is the variance of the residuals
    over all rows. One noise per datum lets the likelihood grow without limit at rows that are reproduced exactly;
    min_scale bounds it.

    Args:
        network: maps z (..., L) to (..., D) means, or to (..., D * 2) with `learn_scale="per-datum"`.
        loc: (D,), the columns' means, in their own units; one number serves all columns.
        scale: (D,), the columns' standard deviations, in their own units; one number serves all columns.
        min_scale: smallest noise, as a standard deviation in standardized units.
        learn_scale: "per-column", one noise for each column; "per-datum", the network also returns noise for each z.

    Raises:
        ValueError: loc and scale are not finite vectors of one length; scale or min_scale is not positive; learn_scale
            is neither of the two; the width of the network does not fit, or is needed and unknown.

    Source: Rybkin, Daniilidis & Levine 2021 (arXiv:2006.13202) for the shared learned variance.

    >>> decoder = GaussianDecoder(torch.nn.Linear(2, 3), loc=torch.zeros(3), scale=torch.tensor([1.0, 10.0, 100.0]))
    >>> decoder(torch.zeros(2)).stddev.detach().round()
    tensor([  1.,  10., 100.])
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        loc: Float[Tensor, " input"] | float = 0.0,
        scale: Float[Tensor, " input"] | float = 1.0,
        min_scale: float = 1e-3,
        learn_scale: Literal["per-column", "per-datum"] = "per-column",
    ) -> None:
        super().__init__(network, self.outputs_per_dimension(learn_scale=learn_scale))
        loc, scale = self._vectors(loc=loc, scale=scale)
        check_loc_and_scale(loc, scale)
        if not 0 < min_scale < 1:
            raise ValueError(
                f"min_scale: expected a number between 0 and 1, in standard deviations of a column, got {min_scale}; "
                "give for example 1e-3"
            )
        check_columns(network, self.num_outputs, len(loc), "loc and scale")
        self.register_buffer("loc", loc.detach().clone())
        self.register_buffer("scale", scale.detach().clone())
        self.min_scale, self.learn_scale = min_scale, learn_scale
        self._start = math.log(math.expm1(1 - min_scale))  # softplus(start) + min_scale = 1, the spread of the data
        if learn_scale == "per-column":
            self.free_scale = nn.Parameter(torch.zeros_like(self.loc))

    def _vectors(self, **values: Tensor | float) -> list[Tensor]:
        """Return vectors with one number per column; a single number is repeated."""
        vectors = {name: value for name, value in values.items() if not isinstance(value, int | float)}
        for name, vector in vectors.items():
            require_tensor(name, vector)
        width = output_width(self.network)
        if width is None and not vectors:
            raise ValueError(
                "loc, scale: the number of columns is unknown, because the network has no attribute out_features; "
                "give vectors with one number per column, or use GaussianDecoder.from_data(network, rows)"
            )
        count = max([vector.numel() for vector in vectors.values()] or [(width or 0) // self.num_outputs])
        return [vectors[name] if name in vectors else torch.full((count,), float(values[name])) for name in values]

    @classmethod
    def outputs_per_dimension(cls, learn_scale: str = "per-column", **options: Any) -> int:
        if learn_scale not in ("per-column", "per-datum"):
            raise ValueError(f"learn_scale: expected 'per-column' or 'per-datum', got {learn_scale!r}")
        return 1 if learn_scale == "per-column" else 2

    @classmethod
    def from_data(cls, network: nn.Module, rows: Float[Tensor, "datum input"], **options: Any) -> Self:
        """Make a decoder with the means and standard deviations of these rows, (N, D); constant columns get scale 1.

        >>> rows = 5 + 2 * torch.randn(100, 3)
        >>> GaussianDecoder.from_data(torch.nn.Linear(2, 3), rows)(torch.zeros(7, 2)).event_shape
        torch.Size([3])
        """
        require_tensor("rows", rows)
        columns = Standardize.from_data(rows)
        return cls(network, columns.loc, columns.scale, **options)

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        outputs = self.outputs(z)
        free_scale = at_least_float32(self.free_scale) if self.num_outputs == 1 else outputs[..., 1]
        noise = self.min_scale + F.softplus(self._start + free_scale)
        loc = self.loc + self.scale * outputs[..., 0]
        return Independent(Normal(loc, (self.scale * noise).expand_as(loc)), 1)
