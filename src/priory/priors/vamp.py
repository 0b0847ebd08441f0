"""VampPrior: the mixture of the encoder's posteriors at learned pseudo-inputs."""

from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory._support.tensors import require_tensor
from priory.priors.base import Encoder, MixturePrior, Prior, posteriors
from priory.priors.feature_range import FeatureRange, scale_above


class VampPrior(MixturePrior):
    """p(z) = sum_k pi_k q(z | u_k), with learned pseudo-inputs u_k.

    Args:
        pseudo_inputs: their initial values, (K, *input), in the space that the encoder's first layer reads.
        low: smallest value of that space, or None.
        high: largest value of that space, or None. Bounded spaces get a smooth map; an initial value on a bound is
            moved inside by less than 1 % of the range.
        learn_pseudo_inputs: True makes them parameters; False keeps them in a buffer.
        learn_weights: learned mixing weights, or uniform ones as in the paper.

    Raises:
        TypeError: pseudo_inputs is not a tensor.
        ValueError: pseudo_inputs has no rows or leaves the range.

    Reference: Tomczak & Welling 2018, arXiv:1705.07120, eq. 9.

    >>> from priory import NormalEncoder, mlp
    >>> prior = VampPrior.from_data(torch.rand(100, 6), num_components=5, low=0.0, high=1.0)
    >>> prior(NormalEncoder(mlp(6, [8], 4))).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    summary = "the encoder's posteriors at K learned pseudo-inputs"
    reference = "Tomczak & Welling 2018, arXiv:1705.07120, eq. 9"
    needs_encoder = True
    raw_pseudo_inputs: Tensor

    def __init__(
        self,
        pseudo_inputs: Float[Tensor, "component *input"],
        *,
        low: float | None = None,
        high: float | None = None,
        learn_pseudo_inputs: bool = True,
        learn_weights: bool = True,
    ) -> None:
        require_tensor("pseudo_inputs", pseudo_inputs)
        if pseudo_inputs.ndim < 2:
            raise ValueError(f"pseudo_inputs: expected shape (K, *input), got {tuple(pseudo_inputs.shape)}")
        if not pseudo_inputs.is_floating_point():
            raise ValueError(
                f"pseudo_inputs: expected floating point values, as the encoder's first layer reads them, got "
                f"{pseudo_inputs.dtype}; scale them as its input is scaled"
            )
        super().__init__(len(pseudo_inputs), learn_weights=learn_weights)
        self.feature_range = FeatureRange(low, high, scale_above(pseudo_inputs, low))
        raw = self.feature_range.unconstrain(pseudo_inputs.detach()).clone()
        if learn_pseudo_inputs:
            self.raw_pseudo_inputs = nn.Parameter(raw)
        else:
            self.register_buffer("raw_pseudo_inputs", raw)

    @classmethod
    def from_data(
        cls,
        x: Float[Tensor, "datum *input"],
        num_components: int,
        *,
        initialize: str = "data",
        low: float | None = None,
        high: float | None = None,
        learn_pseudo_inputs: bool = True,
        learn_weights: bool = True,
        **options: Any,
    ) -> Self:
        """Initialize the pseudo-inputs from training data.

        Args:
            x: training rows as the encoder's first layer reads them, (N, *input).
            num_components: K.
            initialize: "data": random rows, without repetition if there are enough; "mean": the mean row plus normal
                noise with each column's standard deviation, moved inside the range; "uniform": uniform over the range,
                or over each column's own range if there are no bounds.
            low: smallest value of the space, or None.
            high: largest value of the space, or None.
            learn_pseudo_inputs: True makes them parameters; False keeps them in a buffer.
            learn_weights: learned mixing weights, or uniform ones.
            **options: further arguments of a subclass's constructor.

        Raises:
            TypeError: x is not a tensor.
            ValueError: x is empty, or initialize is unknown.
        """
        require_tensor("x", x)
        if x.ndim < 2 or len(x) == 0:
            raise ValueError(f"x: expected training rows of shape (N, *input) with N > 0, got {tuple(x.shape)}")
        start = initial_pseudo_inputs(x, num_components, initialize, low, high)
        learned = {"learn_pseudo_inputs": learn_pseudo_inputs, "learn_weights": learn_weights}
        return cls(start, low=low, high=high, **learned, **options)

    @property
    def pseudo_inputs(self) -> Float[Tensor, "component *input"]:
        """u_k, in the space that the encoder's first layer reads."""
        return self.feature_range.constrain(self.raw_pseudo_inputs)

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        learned = isinstance(self.raw_pseudo_inputs, nn.Parameter)
        return {"low": self.feature_range.low, "high": self.feature_range.high, "learn_pseudo_inputs": learned}

    def extra_repr(self) -> str:
        shape = " x ".join(map(str, self.raw_pseudo_inputs.shape[1:]))
        return f"K={self.num_components}, D={shape}, {Prior.extra_repr(self)}"

    def components(self, encoder: Encoder | None = None) -> Distribution:
        """q(z | u_k) of all pseudo-inputs, in one pass of the encoder; batch shape (K,)."""
        return posteriors(self, encoder, self.pseudo_inputs)


def initial_pseudo_inputs(
    x: Float[Tensor, "datum *input"], num_components: int, initialize: str, low: float | None, high: float | None
) -> Float[Tensor, "component *input"]:
    """Return initial pseudo-inputs; see `VampPrior.from_data`."""
    x = x.detach()
    if initialize == "data":
        rounds = [torch.randperm(len(x)) for _ in range(-(-num_components // len(x)))]
        return x[torch.cat(rounds)[:num_components]]
    noise_shape = (num_components, *x.shape[1:])
    if initialize == "mean":
        start = x.mean(0) + x.std(0, correction=0) * torch.randn(noise_shape).to(x)
        return start.clamp(min=low, max=high) if low is not None or high is not None else start
    if initialize == "uniform":
        lowest = x.amin(0) if low is None else torch.full_like(x[0], low)
        highest = x.amax(0) if high is None else torch.full_like(x[0], high)
        return lowest + (highest - lowest) * torch.rand(noise_shape).to(x)
    raise ValueError(f"initialize: expected 'data', 'mean' or 'uniform', got {initialize!r}")
