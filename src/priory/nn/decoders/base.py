"""Decoders: modules from z to the distribution p(x|z), over data in their own units.

A decoder holds a network that returns P numbers for each of the D data dimensions: the parameters of its distribution.
They are laid out flat as (..., D * P) and read as (..., D, P). The distribution has batch (...,) and event (D,), in
float32 or float64 for any precision of the network. Its densities are in the units of the data, so bounds of different
models are comparable.
"""

from abc import ABC, abstractmethod
from typing import Any, Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, constraints

from priory.distributions.normal import at_least_float32
from priory.model import cast_like
from priory.nn.networks import check_reads, output_width
from priory.nn.preprocessing import Preprocessing, Standardize

# Scales in levels, and total counts, stay within e^-16..e^16, about 1e-7..1e7, where the distributions are precise.
LOG_BOUND = 16.0


@runtime_checkable
class Decoder(Protocol):
    """Any function from z (..., L) to a distribution over x with batch (...,) and event (D,).

    A decoder whose distribution depends on more than z also has `covariates(x) -> dict[str, Tensor]`, and is called as
    `decoder(z, **decoder.covariates(x))` if a datum is given.

    >>> from torch.distributions import Normal
    >>> isinstance(lambda z: Independent(Normal(z, 1.0), 1), Decoder)
    True
    """

    def __call__(self, z: Float[Tensor, "*batch latent"], /) -> Distribution: ...


class LikelihoodDecoder(nn.Module, ABC):
    """Base class of the provided decoders: a network whose outputs are the parameters of a distribution.

    Class methods return which data the family supports (`support`), what an encoder should read (`preprocessing`), and
    how to make a decoder for data (`from_data`, `options_for`).

    Args:
        network: maps z (..., L) to (..., D * P).
        num_outputs: P, the result of `outputs_per_dimension` for the current options.

    Raises:
        ValueError: the width of the network's output is not a multiple of P.

    >>> from torch.distributions import Poisson
    >>> class PoissonDecoder(LikelihoodDecoder):
    ...     def __init__(self, network):
    ...         super().__init__(network, num_outputs=1)
    ...
    ...     def forward(self, z):
    ...         return Independent(Poisson(softly_bounded(self.outputs(z).squeeze(-1)).exp()), 1)
    >>> PoissonDecoder(nn.Linear(2, 5))(torch.zeros(3, 2)).event_shape
    torch.Size([5])
    """

    def __init__(self, network: nn.Module, num_outputs: int) -> None:
        super().__init__()
        width = output_width(network)
        if width is not None:
            _check_width(width, num_outputs)
        self.network = network
        self.num_outputs = num_outputs

    @classmethod
    def outputs_per_dimension(cls, *args: Any, **options: Any) -> int:
        """Return P, the number of network outputs per data dimension, for these constructor options; 1 by default."""
        return 1

    @classmethod
    def support(cls, **options: Any) -> constraints.Constraint:
        """Return the values x_d that have a density, for these constructor options; all real numbers by default."""
        return constraints.real

    @classmethod
    def preprocessing(cls, rows: Float[Tensor, "datum input"], **options: Any) -> Preprocessing:
        """Return the module that computes an encoder's input from such data; standardized columns by default.

        Args:
            rows: training rows, (N, D), in their own units.
            **options: options of the constructor.
        """
        return Standardize.from_data(rows)

    @classmethod
    def options_for(cls, highest: float) -> dict[str, Any]:
        """Return the constructor options that follow from the highest value of the data; none by default."""
        return {}

    @classmethod
    def from_data(cls, network: nn.Module, rows: Float[Tensor, "datum input"], **options: Any) -> Self:
        """Make a decoder for data like these training rows, (N, D), in their own units."""
        return cls(network, **options)

    @abstractmethod
    def forward(self, z: Float[Tensor, "*batch latent"]) -> Independent:
        """Return p(x|z) with batch (...,) and event (D,)."""

    def outputs(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch input output"]:
        """Return the network's P numbers for each column.

        Raises:
            ValueError: z or the network's output has the wrong width.
        """
        check_reads(self, self.network, "z", z)
        flat = at_least_float32(self.network(cast_like(z, self.network)))
        _check_width(flat.shape[-1], self.num_outputs)
        return flat.unflatten(-1, (flat.shape[-1] // self.num_outputs, self.num_outputs))


def softly_bounded(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """b tanh(x / b) with b = LOG_BOUND: x itself near zero, bounded by b."""
    return LOG_BOUND * torch.tanh(x / LOG_BOUND)


def _check_width(width: int, num_outputs: int) -> None:
    if width == 0 or width % num_outputs:
        raise ValueError(
            f"network: expected {num_outputs} outputs per data dimension, so a multiple of {num_outputs} per row, "
            f"got {width}; build it with out_features = columns * outputs_per_dimension(...)"
        )


def check_columns(network: nn.Module, num_outputs: int, num_columns: int, argument: str) -> None:
    """Raise an error, which names the argument, if the number of columns does not fit the network."""
    width = output_width(network)
    if width is not None and width != num_columns * num_outputs:
        raise ValueError(
            f"{argument}: expected as many columns as the network has outputs for, got {num_columns} columns with "
            f"{num_outputs} outputs each, so {num_columns * num_outputs} numbers, and a network with {width} outputs; "
            "build it with out_features = columns * outputs_per_dimension(...)"
        )
