"""The support of a mixture whose components have different supports: Uniform, Binomial, Pareto, shifted ones."""

from copy import copy

from jaxtyping import Bool
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily, TransformedDistribution, constraints


class SomeComponent(constraints.Constraint):
    """Values in the support of at least one component; torch's `MixtureSameFamilyConstraint` requires all.

    Args:
        components: a distribution with batch shape (..., K).

    >>> from torch.distributions import Uniform
    >>> SomeComponent(Uniform(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 6.0]))).check(torch.tensor([0.5, 3.0, 5.5]))
    tensor([ True, False,  True])
    """

    def __init__(self, components: Distribution) -> None:
        super().__init__()
        self.components = components
        self.event_dim = len(components.event_shape)

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.components.support.is_discrete  # type: ignore[union-attr]

    def check(self, value: Tensor) -> Tensor:
        return inside(self.components, value.unsqueeze(-1 - self.event_dim)).any(-1)

    def __repr__(self) -> str:
        return f"SomeComponent({self.components.support})"


def inside(distribution: Distribution, value: Tensor) -> Bool[Tensor, "*batch"]:
    """Return whether values are in the support; batch dimensions that do not affect the support have size one.

    For a transformed distribution and its mixture, torch's supports are not those of the densities: they are the range
    of the transform, and the intersection of the components' supports.

    Raises:
        NotImplementedError: the distribution has no support attribute.
    """
    if isinstance(distribution, Independent):
        return inside(distribution.base_dist, value).flatten(-distribution.reinterpreted_batch_ndims).all(-1)
    if isinstance(distribution, MixtureSameFamily):
        return SomeComponent(distribution.component_distribution).check(value)
    if type(distribution) is TransformedDistribution:
        for transform in reversed(distribution.transforms):
            value = transform.inv(value)
        return inside(distribution.base_dist, value)
    return distribution.support.check(value)  # type: ignore[union-attr]


def unchecked(distribution: Distribution) -> Distribution:
    """Return the same distribution with a `log_prob` that accepts values outside of the support.

    >>> from torch.distributions import Uniform
    >>> unchecked(Uniform(0.0, 1.0)).log_prob(torch.tensor(2.0))
    tensor(-inf)
    """
    other = copy(distribution)
    other._validate_args = False
    for name, value in vars(distribution).items():
        if isinstance(value, Distribution):
            setattr(other, name, unchecked(value))
    return other
