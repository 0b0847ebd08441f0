"""A distribution over two concatenated vectors, the second of which depends on the first; and its centers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints

from priory.distributions.mixture import Mixture

DRAWS_FOR_A_MEAN = 1000  # if the mean has no closed form


class Chain(Distribution):
    """p(a, b) = p(a) p(b | a) over the concatenation (a, b), with event shape (A + B,).

    Chains can be nested: for three levels, p(b | a) is a chain. a is the top level.

    Args:
        first: p(a), with event shape (A,).
        conditional: from a (*sample, *batch, A) to p(b | a) with the batch shape of a and event shape (B,).
        lower: the dimensions of the levels of b; (B,) if p(b | a) is not a chain.
        features: (*batch, H); if given, `conditional` reads the concatenation (features, a).

    Attributes:
        levels: the dimensions of all levels, (A, *lower).

    Raises:
        TypeError: first is not a distribution, or conditional is not callable.
        ValueError: first is not a distribution over vectors, or p(b | a) has other shapes.

    Source: Tomczak & Welling 2018, arXiv:1705.07120, eq. 11-14.

    >>> from priory import diagonal_normal
    >>> first = diagonal_normal(torch.zeros(2), torch.ones(2))
    >>> chain = Chain(first, lambda a: diagonal_normal(a, torch.ones_like(a)), (2,))
    >>> chain.sample((5,)).shape, chain.log_prob(torch.zeros(4)).exp() * (2 * torch.pi) ** 2
    (torch.Size([5, 4]), tensor(1.))
    """

    arg_constraints = {}  # noqa: RUF012, torch's convention; both parts check their own
    support = constraints.real_vector

    def __init__(
        self,
        first: Distribution,
        conditional: Callable[[Tensor], Distribution],
        lower: Sequence[int],
        features: Float[Tensor, "*batch feature"] | None = None,
        validate_args: bool | None = False,
    ) -> None:
        if not isinstance(first, Distribution) or not callable(conditional):
            raise TypeError(
                f"first, conditional: expected a distribution and a function from its values to another, got "
                f"{type(first).__name__} and {type(conditional).__name__}"
            )
        if len(first.event_shape) != 1:
            raise ValueError(f"first: expected a distribution over vectors, got event shape {tuple(first.event_shape)}")
        self.first, self.features = first, features
        self.conditional: Any = conditional
        self.levels = torch.Size((*first.event_shape, *lower))
        super().__init__(first.batch_shape, torch.Size((sum(self.levels),)), validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether samples of a have gradients; the same is required of b when samples are drawn."""
        return self.first.has_rsample

    def given(self, a: Float[Tensor, "*batch first"]) -> Distribution:
        """Return p(b | a).

        Raises:
            ValueError: it has another batch shape than a, or another event shape or other levels than expected.
        """
        known = a if self.features is None else torch.cat([self.features.expand(*a.shape[:-1], -1), a], -1)
        p_b = self.conditional(known)
        levels = getattr(p_b, "levels", p_b.event_shape)
        if p_b.batch_shape != a.shape[:-1] or levels != self.levels[1:]:
            raise ValueError(
                f"conditional: expected p(b|a) with batch shape {tuple(a.shape[:-1])} over levels of "
                f"{tuple(self.levels[1:])} dimensions, got batch shape {tuple(p_b.batch_shape)} and levels of "
                f"{tuple(levels)}"
            )
        return p_b

    def completed(self, a: Float[Tensor, "*batch first"]) -> Float[Tensor, "*batch latent"]:
        """Return (a, center of p(b | a))."""
        return torch.cat([a, center_of(self.given(a))], -1)

    def split(self, value: Float[Tensor, "*batch latent"]) -> tuple[Tensor, Tensor]:
        """Return (a, b)."""
        if value.ndim == 0 or value.shape[-1:] != self.event_shape:
            raise ValueError(f"value: expected shape (..., {self.event_shape[0]}), got {tuple(value.shape)}")
        return value[..., : self.levels[0]], value[..., self.levels[0] :]

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
            TypeError: p(a) is not a `Mixture`.
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
            NotImplementedError: a part has no pathwise gradients.
        """
        a = self.first.rsample(torch.Size(sample_shape))
        return torch.cat([a, self.given(a).rsample()], -1)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Chain":
        """The same chain with its batch dimensions broadcast to `batch_shape`."""
        first = self.first.expand(torch.Size(batch_shape))
        return Chain(first, self.conditional, self.levels[1:], self.features, self._validate_args)

    def __repr__(self) -> str:
        return f"Chain(levels: {tuple(self.levels)}, first: {self.first})"


def center_of(p: Distribution) -> Float[Tensor, "*batch latent"]:
    """Return the mean; for a chain (E[a], center of p(b | a = E[a])), because E[b] has no closed form.

    A mean without a closed form is estimated with 1000 draws.

    >>> from priory import diagonal_normal
    >>> center_of(Chain(diagonal_normal(torch.ones(1), torch.ones(1)), lambda a: diagonal_normal(a + 2, a), (1,)))
    tensor([1., 3.])
    """
    if isinstance(p, Chain):
        return p.completed(center_of(p.first))
    try:
        return p.mean
    except NotImplementedError:  # torch has no closed form
        return p.sample(torch.Size((DRAWS_FOR_A_MEAN,))).mean(0)


def scale_of(p: Distribution) -> Float[Tensor, "*batch latent"]:
    """Return the standard deviation; for a chain, that of each level given the centers of the levels above.

    >>> from priory import diagonal_normal
    >>> scale_of(Chain(diagonal_normal(torch.ones(1), torch.ones(1)), lambda a: diagonal_normal(a, 2 * a), (1,)))
    tensor([1., 2.])
    """
    if isinstance(p, Chain):
        return torch.cat([scale_of(p.first), scale_of(p.given(center_of(p.first)))], -1)
    return p.stddev


def top_level(p: Distribution) -> Distribution:
    """Return p(a) of a chain p(a, b); return any other distribution unchanged.

    >>> from priory import diagonal_normal
    >>> p_a = diagonal_normal(torch.zeros(2), torch.ones(2))
    >>> top_level(Chain(p_a, lambda a: p_a, (2,))) is p_a, top_level(p_a) is p_a
    (True, True)
    """
    return p.first if isinstance(p, Chain) else p
