"""A distribution over the concatenation of two vectors, of which the second depends on the first."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints

from priory.distributions.mixture import Mixture


class Chain(Distribution):
    """p(a, b) = p(a) p(b | a) over the concatenation (a, b), with event shape (A + B,).

    Chains can be nested: of three levels, p(b | a) is a chain.

    Args:
        first: p(a), with event shape (A,).
        conditional: from a (*sample, *batch, A) to p(b | a) with the batch shape of a and event shape (B,).
        conditional_dim: B.

    Raises:
        TypeError: first is no distribution, or conditional cannot be called.
        ValueError: first is no distribution over vectors, or p(b | a) has other shapes.

    Source: Tomczak & Welling 2018, arXiv:1705.07120, eq. 11-14.

    >>> from priory import diagonal_normal
    >>> chain = Chain(diagonal_normal(torch.zeros(2), torch.ones(2)), lambda a: diagonal_normal(a, torch.ones_like(a)), 2)
    >>> chain.sample((5,)).shape, chain.log_prob(torch.zeros(4)).exp() * (2 * torch.pi) ** 2
    (torch.Size([5, 4]), tensor(1.))
    """

    arg_constraints = {}  # noqa: RUF012, torch's convention; both parts check their own
    support = constraints.real_vector

    def __init__(
        self,
        first: Distribution,
        conditional: Callable[[Tensor], Distribution],
        conditional_dim: int,
        validate_args: bool | None = False,
    ) -> None:
        if not isinstance(first, Distribution) or not callable(conditional):
            raise TypeError(
                f"first, conditional: expected a distribution and a function from its values to another, got "
                f"{type(first).__name__} and {type(conditional).__name__}"
            )
        if len(first.event_shape) != 1:
            raise ValueError(f"first: expected a distribution over vectors, got event shape {tuple(first.event_shape)}")
        self.first, self.conditional = first, conditional
        self.first_dim, self.conditional_dim = first.event_shape[0], conditional_dim
        event = torch.Size((self.first_dim + conditional_dim,))
        super().__init__(first.batch_shape, event, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether samples of a have gradients; those of b are asked when they are drawn."""
        return self.first.has_rsample

    @property
    def center(self) -> Float[Tensor, "*batch latent"]:
        """(E[a], E[b | a = E[a]]): a point in the middle, where E[b] has no closed form."""
        a = center_of(self.first)
        return torch.cat([a, center_of(self.given(a))], -1)

    def given(self, a: Float[Tensor, "*batch first"]) -> Distribution:
        """p(b | a).

        Raises:
            ValueError: it has another batch shape than a, or another event shape than (B,).
        """
        p_b = self.conditional(a)
        if p_b.batch_shape != a.shape[:-1] or p_b.event_shape != (self.conditional_dim,):
            raise ValueError(
                f"conditional: expected p(b|a) with batch shape {tuple(a.shape[:-1])} and event shape "
                f"({self.conditional_dim},), got {tuple(p_b.batch_shape)} and {tuple(p_b.event_shape)}"
            )
        return p_b

    def split(self, value: Float[Tensor, "*batch latent"]) -> tuple[Tensor, Tensor]:
        """Return (a, b)."""
        if value.ndim == 0 or value.shape[-1:] != self.event_shape:
            raise ValueError(f"value: expected shape (..., {self.event_shape[0]}), got {tuple(value.shape)}")
        return value[..., : self.first_dim], value[..., self.first_dim :]

    def log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """log p(a) + log p(b | a), in nats."""
        return self.log_prob_by_level(value).sum(-1)

    def log_prob_by_level(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch level"]:
        """log p(a) and log p(b | a) of each level of b, in nats; the last axis is the level."""
        a, b = self.split(value)
        a = a.expand(*torch.broadcast_shapes(a.shape[:-1], self.batch_shape), -1)
        b = b.expand(*a.shape[:-1], -1)
        p_b = self.given(a)
        rest = p_b.log_prob_by_level(b) if isinstance(p_b, Chain) else p_b.log_prob(b).unsqueeze(-1)
        return torch.cat([self.first.log_prob(a).unsqueeze(-1), rest], -1)

    def component_log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch component"]:
        """log pi_k + log p_k(a) + log p(b | a), in nats, if p(a) is a `Mixture`; the last axis is the component.

        Raises:
            TypeError: p(a) is no `Mixture`.
        """
        if not isinstance(self.first, Mixture):
            raise TypeError(f"first: expected a Mixture, which has components, got {type(self.first).__name__}")
        a, b = self.split(value)
        return self.first.component_log_prob(a) + self.given(a).log_prob(b).unsqueeze(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw a, then b; no gradients."""
        with torch.no_grad():
            a = self.first.sample(torch.Size(sample_shape))
            return torch.cat([a, self.given(a).sample()], -1)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw a, then b, with pathwise gradients.

        Raises:
            NotImplementedError: a part has none.
        """
        a = self.first.rsample(torch.Size(sample_shape))
        return torch.cat([a, self.given(a).rsample()], -1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Chain":
        """The same chain with its batch dimensions broadcast to `batch_shape`."""
        first = self.first.expand(torch.Size(batch_shape))
        return Chain(first, self.conditional, self.conditional_dim, self._validate_args)

    def __repr__(self) -> str:
        return f"Chain(first: {self.first}, conditional_dim: {self.conditional_dim})"


def center_of(distribution: Distribution) -> Tensor:
    """The mean; of a chain, its `center`."""
    return distribution.center if isinstance(distribution, Chain) else distribution.mean
