"""Decoders: modules from z to the distribution p(x|z), over data in their own units.

A decoder holds a network that gives, for each of the D data dimensions, the P numbers its distribution needs, laid out
flat as (..., D * P) and read as (..., D, P). The distribution has batch (...,) and event (D,), in float32 or float64,
also under autocast; its densities are those of the data as they are, so that bounds of different models compare.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from priory.distributions import at_least_float32
from priory.likelihood_distributions import (
    BinaryVector,
    CategoricalLevels,
    DiscretisedLogistic,
    NegativeBinomial,
    check_num_levels,
)
from priory.networks import output_width
from priory.preprocessing import check_loc_and_scale

# A discretised logistic starts with a tenth of the range as its scale: wide enough that no pixel begins in a far tail.
INITIAL_RELATIVE_LOG_SCALE = math.log(0.1)

# Scales in levels and total counts stay within e^-16..e^16, about 1e-7..1e7, where the distributions are precise.
LOG_BOUND = 16.0


@runtime_checkable
class Decoder(Protocol):
    """Anything that turns z (..., L) into a distribution over x with batch (...,) and event (D,).

    A decoder whose distribution depends on more than z also has `covariates(x) -> dict[str, Tensor]`, and is called as
    `decoder(z, **decoder.covariates(x))` where a datum is given.
    """

    def __call__(self, z: Float[Tensor, "*batch latent"], /) -> Distribution: ...


class LikelihoodDecoder(nn.Module, ABC):
    """Base class of the ready-made decoders: a network, and the family that its outputs are the parameters of.

    Args:
        network: maps z (..., L) to (..., D * P).
        num_outputs: P, what `outputs_per_dimension` says for the options at hand.

    Raises:
        ValueError: the width of the network's output is not a multiple of P.
    """

    def __init__(self, network: nn.Module, num_outputs: int) -> None:
        super().__init__()
        width = output_width(network)
        if width is not None:
            _check_width(width, num_outputs)
        self.network = network
        self.num_outputs = num_outputs

    @classmethod
    @abstractmethod
    def outputs_per_dimension(cls, *args: Any, **options: Any) -> int:
        """P, the number of network outputs per data dimension; takes the options of the constructor."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        """p(x|z) with batch (...,) and event (D,)."""

    def _outputs(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch input output"]:
        flat = at_least_float32(self.network(z))
        _check_width(flat.shape[-1], self.num_outputs)
        return flat.unflatten(-1, (flat.shape[-1] // self.num_outputs, self.num_outputs))


class BernoulliDecoder(LikelihoodDecoder):
    """Binary data, p(x_d = 1 | z) = sigmoid(network(z)_d).

    Args:
        network: maps z (..., L) to logits (..., D).

    >>> decoder = BernoulliDecoder(torch.nn.Linear(2, 5))
    >>> p_x = decoder(torch.zeros(3, 2))
    >>> p_x.batch_shape, p_x.event_shape
    (torch.Size([3]), torch.Size([5]))
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, self.outputs_per_dimension())

    @classmethod
    def outputs_per_dimension(cls, **options: Any) -> int:
        return 1

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        return BinaryVector(self._outputs(z).squeeze(-1))


class CategoricalDecoder(LikelihoodDecoder):
    """Levels 0..n-1, each with a probability of its own, p(x_d = k | z) = softmax_k(network(z)_d).

    Args:
        network: maps z (..., L) to logits (..., D * n).
        num_levels: n, at least two.

    Raises:
        ValueError: num_levels below two; a network whose output width is not a multiple of it.

    >>> decoder = CategoricalDecoder(torch.nn.Linear(2, 5 * 17), num_levels=17)
    >>> decoder(torch.zeros(3, 2)).mean.shape
    torch.Size([3, 5])
    """

    def __init__(self, network: nn.Module, num_levels: int) -> None:
        check_num_levels(num_levels)
        super().__init__(network, self.outputs_per_dimension(num_levels=num_levels))

    @classmethod
    def outputs_per_dimension(cls, num_levels: int, **options: Any) -> int:
        return num_levels

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        return Independent(CategoricalLevels(logits=self._outputs(z)), 1)


class GaussianDecoder(LikelihoodDecoder):
    """Real columns, with a mean from the network and a learned noise.

        p(x_d | z) = N(x_d | loc_d + scale_d mean_d(z), (scale_d noise_d)^2),    noise = min_scale + softplus(free)

    The network works in standardised units; the affine map brings the density into the units of the data. One noise per
    column (the default) is enough for most tables and cannot run away: the variance is that of the residuals over all
    rows. One per datum lets the likelihood grow without limit at rows that are reproduced exactly; min_scale bounds it.

    Args:
        network: maps z (..., L) to (..., D) means, or to (..., D * 2) with `learn_scale="per-datum"`.
        loc: (D,), the columns' means, in their own units.
        scale: (D,), the columns' standard deviations, in their own units.
        min_scale: smallest noise, as a standard deviation in standardised units.
        learn_scale: "per-column", one noise for each column; "per-datum", the network gives noise for each z as well.

    Raises:
        ValueError: loc and scale are not vectors of one length, finite, scale positive; min_scale is not positive;
            learn_scale is neither of the two; the width of the network does not fit.

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
        loc: Float[Tensor, " input"],
        scale: Float[Tensor, " input"],
        min_scale: float = 1e-3,
        learn_scale: Literal["per-column", "per-datum"] = "per-column",
    ) -> None:
        super().__init__(network, self.outputs_per_dimension(learn_scale=learn_scale))
        check_loc_and_scale(loc, scale)
        if not 0 < min_scale < 1:
            raise ValueError(
                f"min_scale must lie between 0 and 1, in standard deviations of a column, but it is {min_scale}; "
                "give for example 1e-3"
            )
        _check_columns(network, self.num_outputs, len(loc), "loc and scale")
        self.register_buffer("loc", loc.detach().clone())
        self.register_buffer("scale", scale.detach().clone())
        self.min_scale = min_scale
        self._start = math.log(math.expm1(1 - min_scale))  # softplus of it + min_scale = 1, the spread of the data
        if learn_scale == "per-column":
            self.free_scale = nn.Parameter(torch.zeros_like(self.loc))

    @classmethod
    def outputs_per_dimension(cls, learn_scale: str = "per-column", **options: Any) -> int:
        if learn_scale not in ("per-column", "per-datum"):
            raise ValueError(f"learn_scale must be 'per-column' or 'per-datum', but it is {learn_scale!r}")
        return 1 if learn_scale == "per-column" else 2

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        outputs = self._outputs(z)
        free_scale = self.free_scale if self.num_outputs == 1 else outputs[..., 1]
        noise = self.min_scale + F.softplus(self._start + free_scale)
        loc = self.loc + self.scale * outputs[..., 0]
        return Independent(Normal(loc, (self.scale * noise).expand_as(loc)), 1)


class DiscretisedLogisticDecoder(LikelihoodDecoder):
    """Levels 0..n-1 with an order: a logistic density, rounded to levels, for each pixel.

        x_d | z ~ round(Logistic((n - 1) loc_d(z), (n - 1) scale_d(z))), the tails in the end levels

    The network's outputs are loc, in units of the range, so 0 is the lowest level and 1 the highest, and the logarithm
    of scale / 0.1. Loc is left unbounded: beyond the ends it says that a pixel is certainly black or white. The
    logarithm is bounded smoothly, which keeps every density finite without a dead gradient at ordinary values.

    Args:
        network: maps z (..., L) to (..., D * 2).
        num_levels: n, at least two.

    Raises:
        ValueError: num_levels below two; a network whose output width is odd.

    Source: Salimans et al. 2017 (arXiv:1701.05517), eq. 2.

    >>> decoder = DiscretisedLogisticDecoder(torch.nn.Linear(2, 5 * 2), num_levels=256)
    >>> decoder(torch.zeros(3, 2)).log_prob(torch.zeros(3, 5)).shape
    torch.Size([3])
    """

    def __init__(self, network: nn.Module, num_levels: int = 256) -> None:
        check_num_levels(num_levels)
        super().__init__(network, self.outputs_per_dimension())
        self.num_levels = num_levels

    @classmethod
    def outputs_per_dimension(cls, **options: Any) -> int:
        return 2

    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        loc, relative_log_scale = self._outputs(z).unbind(-1)
        log_scale = math.log(self.num_levels - 1) + INITIAL_RELATIVE_LOG_SCALE + relative_log_scale
        levels = DiscretisedLogistic((self.num_levels - 1) * loc, _softly_bounded(log_scale), self.num_levels)
        return Independent(levels, 1)


class NegativeBinomialDecoder(LikelihoodDecoder):
    """Counts whose row total is given: shares from the network, times the library size, with learned dispersion.

        x_d | z, l ~ NegativeBinomial(mean = l softmax_d(network(z)), total_count = r_d)

    The library size l, the total of a row, is no part of the model: `covariates(x)` takes it from the datum. Without
    one, it is drawn for each z from those of the training rows.

    Args:
        network: maps z (..., L) to logits (..., D).
        library_sizes: (N,), the totals of the training rows, in counts.
        num_columns: D; needed only where the network has no `out_features` to read it from.

    Raises:
        ValueError: library_sizes is not a vector of finite numbers, 0 or more; D is unknown or not the network's width.

    Source: Lopez et al. 2018 (Nature Methods 15) for the model; library sizes observed as in scvi-tools.

    >>> decoder = NegativeBinomialDecoder(torch.nn.Linear(2, 5), library_sizes=torch.tensor([100.0, 200.0]))
    >>> p_x = decoder(torch.zeros(3, 2), library_size=torch.tensor([10.0, 20.0, 30.0]))
    >>> p_x.mean.sum(-1).round().detach()
    tensor([10., 20., 30.])
    """

    library_sizes: Tensor

    def __init__(
        self, network: nn.Module, library_sizes: Float[Tensor, " batch"], num_columns: int | None = None
    ) -> None:
        super().__init__(network, self.outputs_per_dimension())
        _check_library_sizes(library_sizes)
        if num_columns is None:
            num_columns = output_width(network)
        if num_columns is None:
            raise ValueError(
                "num_columns must be given, because the network has no attribute out_features to read it from; "
                "give the number of data columns"
            )
        _check_columns(network, 1, num_columns, "num_columns")
        self.register_buffer("library_sizes", library_sizes.detach().clone())
        self.free_log_total_count = nn.Parameter(torch.zeros(num_columns))  # total count 1: variance m + m^2

    @classmethod
    def outputs_per_dimension(cls, **options: Any) -> int:
        return 1

    @property
    def log_total_count(self) -> Float[Tensor, " input"]:
        """log r, (D,), bounded smoothly: where the data are Poisson its optimum is infinite, and it would drift off."""
        return _softly_bounded(self.free_log_total_count)

    def covariates(self, x: Float[Tensor, "*batch input"]) -> dict[str, Tensor]:
        """The library size of each row, (...,), as the keyword argument that calling the decoder takes."""
        return {"library_size": x.sum(-1)}

    def forward(
        self, z: Float[Tensor, "*batch latent"], library_size: Float[Tensor, "..."] | None = None
    ) -> Independent:
        """p(x | z, library_size) with batch (...,) and event (D,).

        Args:
            z: (..., L).
            library_size: row totals, in counts, of a shape that broadcasts to z's batch shape, so (B,) serves samples
                (S, B, L); None draws one per z from those of the training rows.

        Raises:
            ValueError: library_size does not broadcast to the batch shape.
        """
        batch_shape = z.shape[:-1]
        if library_size is None:
            rows = torch.randint(len(self.library_sizes), batch_shape, device=self.library_sizes.device)
            library_size = self.library_sizes[rows]
        _check_broadcast(library_size, batch_shape)
        log_share = F.log_softmax(self._outputs(z).squeeze(-1), dim=-1)
        log_mean = log_share + torch.log(library_size).unsqueeze(-1)
        return Independent(NegativeBinomial(log_mean, self.log_total_count), 1)


LIKELIHOODS: dict[str, type[LikelihoodDecoder]] = {
    "bernoulli": BernoulliDecoder,
    "categorical": CategoricalDecoder,
    "gaussian": GaussianDecoder,
    "discretised-logistic": DiscretisedLogisticDecoder,
    "negative-binomial": NegativeBinomialDecoder,
}


def _softly_bounded(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """b tanh(x / b) with b = LOG_BOUND: x itself near zero, never beyond b."""
    return LOG_BOUND * torch.tanh(x / LOG_BOUND)


def _check_width(width: int, num_outputs: int) -> None:
    if width == 0 or width % num_outputs:
        raise ValueError(
            f"network must give {num_outputs} numbers per data dimension, so a multiple of {num_outputs} per row, "
            f"but it gives {width}; build it with out_features = columns * outputs_per_dimension(...)"
        )


def _check_columns(network: nn.Module, num_outputs: int, num_columns: int, argument: str) -> None:
    width = output_width(network)
    if width is not None and width != num_columns * num_outputs:
        raise ValueError(
            f"{argument} must match the network, but {num_columns} columns with {num_outputs} outputs each are "
            f"{num_columns * num_outputs} numbers and the network gives {width}; "
            "build it with out_features = columns * outputs_per_dimension(...)"
        )


def _check_library_sizes(library_sizes: Tensor) -> None:
    if library_sizes.ndim != 1 or len(library_sizes) == 0:
        raise ValueError(
            f"library_sizes must be a vector with at least one row total, but its shape is "
            f"{tuple(library_sizes.shape)}; give x_train.sum(-1)"
        )
    if not (library_sizes.isfinite().all() and (library_sizes >= 0).all()):
        raise ValueError(
            "library_sizes must be finite and 0 or more, but they range from "
            f"{library_sizes.min().item():g} to {library_sizes.max().item():g}; give the row totals of raw counts"
        )


def _check_broadcast(library_size: Tensor, batch_shape: torch.Size) -> None:
    try:
        fits = torch.broadcast_shapes(library_size.shape, batch_shape) == batch_shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"library_size must broadcast to the batch shape of z, {tuple(batch_shape)}, but its shape is "
            f"{tuple(library_size.shape)}; give one total per row"
        )
