"""The mixture that all mixture priors return."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints

from priory.density import (
    Components,
    expected_value,
    is_transformed,
    joint_log_prob,
    mixture_log_prob,
    top_responsibilities,
    working_dtype,
)
from priory.distributions.normal import at_least_float32, is_diagonal_normal
from priory.distributions.pathwise import reparameterized
from priory.distributions.support import SomeComponent, inside, unchecked


class Mixture(Distribution):
    """A mixture of K components, with one *joint* density over the whole event.

        p(z) = sum_k pi_k p_k(z),    pi = softmax(mixing_logits)

    Use it in place of `torch.distributions.MixtureSameFamily`. It adds the density of each component and the
    responsibilities, and draws only the components that it samples. If the components are diagonal normals
    (`Independent(Normal, 1)`), samples have gradients; without batch dimensions, it also uses the kernel of
    `priory.density`, which builds no array of size B x K x L, and in `log_prob` none of size B x K.

    Args:
        mixing_logits: unnormalized log-weights, (..., K); -inf switches a component off.
        components: a distribution with batch shape (..., K).
        validate_args: whether `log_prob` checks that values are in the support of some component; off by default,
            because such a check breaks a compiled graph. Shapes are always checked.

    Raises:
        TypeError: components are not a distribution.
        ValueError: the last batch dimension of the components differs from the number of logits.

    >>> from priory import diagonal_normal
    >>> loc = torch.tensor([[-5.0, -5.0], [5.0, 5.0]])
    >>> p_z = Mixture(torch.zeros(2), diagonal_normal(loc, torch.ones(2, 2)))
    >>> p_z.log_prob(torch.tensor([[-5.0, -5.0], [-5.0, 5.0]]))  # a mode, and an empty corner
    tensor([ -2.5310, -51.8379])
    >>> p_z.responsibilities(torch.zeros(2))
    tensor([0.5000, 0.5000])
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own attribute; nothing of value is checked, see validate_args)

    def __init__(
        self, mixing_logits: Float[Tensor, "*batch component"], components: Distribution, validate_args: bool = False
    ) -> None:
        if not isinstance(components, Distribution):
            kind = type(components).__name__
            raise TypeError(f"components: expected a torch Distribution with batch shape (..., K), got {kind}")
        if mixing_logits.ndim == 0 or not components.batch_shape:
            raise ValueError(
                f"expected mixing_logits of shape (..., K) and components of batch shape (..., K), got "
                f"{tuple(mixing_logits.shape)} and {tuple(components.batch_shape)}; wrap one component as a batch of "
                "one"
            )
        count = components.batch_shape[-1]
        if mixing_logits.shape[-1] != count:
            raise ValueError(f"mixing_logits: expected one per component ({count}), got {mixing_logits.shape[-1]}")
        self.components = components
        self.log_weights = torch.log_softmax(at_least_float32(mixing_logits), -1)
        batch_shape = torch.broadcast_shapes(mixing_logits.shape, components.batch_shape)[:-1]
        super().__init__(batch_shape, components.event_shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether samples have gradients: they do if the components are diagonal normals."""
        return is_diagonal_normal(self.components)

    @property
    def num_components(self) -> int:
        """K, the number of components."""
        return self.log_weights.shape[-1]

    @property
    def mixture_distribution(self) -> Categorical:
        """p(k), as in `torch.distributions.MixtureSameFamily`."""
        return Categorical(logits=self.log_weights, validate_args=self._validate_args)

    @property
    def component_distribution(self) -> Distribution:
        """The components, as in `torch.distributions.MixtureSameFamily`."""
        return self.components

    @property
    def mixing_weights(self) -> Float[Tensor, "*batch component"]:
        """pi, the weights of the components; they sum to one."""
        return self.log_weights.exp()

    @property
    def support(self) -> constraints.Constraint:
        """The union of the components' supports."""
        return SomeComponent(self.components)

    @property
    def mean(self) -> Tensor:
        """E[z] = sum_k pi_k E_k[z]."""
        return self._average(self.components.mean)

    @property
    def variance(self) -> Tensor:
        """Var[z] = sum_k pi_k (Var_k[z] + (E_k[z] - E[z])^2), per coordinate."""
        spread = self.components.mean - self.mean.unsqueeze(self._component_axis)
        return self._average(self.components.variance + spread.square())

    def component_log_prob(self, z: Tensor) -> Tensor:
        """log pi_k + log p_k(z), in nats; the last axis of the result is the component."""
        self._check_value(z)
        if is_diagonal_normal(self.components):
            return joint_log_prob(z, *self._diagonal_components())
        return self.log_weights + self._log_prob_of_components(z.unsqueeze(self._component_axis))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, one number for each z."""
        self._check_value(value)
        if is_diagonal_normal(self.components):
            return mixture_log_prob(value, *self._diagonal_components())
        return torch.logsumexp(self.component_log_prob(value), -1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z) = pi_k p_k(z) / p(z); the last axis of the result is the component and sums to one."""
        return torch.softmax(self.component_log_prob(z), -1)

    def expected_value(self, z: Tensor, values: Float[Tensor, "component value"]) -> Tensor:
        """E[values_k | z] = sum_k p(k | z) values_k, of shape (*z's batch, value).

        Without gradients, for a mixture of diagonal normals without batch dimensions, the matrix of all
        responsibilities is never in memory, so there may be millions of points and any number of components.

        Args:
            z: points.
            values: one row for each component, such as its node on a grid.
        """
        if self._streams(z, values):
            result = expected_value(z.reshape(-1, z.shape[-1]), self._diagonal_components(), values)
            return result.to(self.log_weights.dtype).reshape(*z.shape[:-1], -1)
        responsibilities = self.responsibilities(z)
        with torch.autocast(z.device.type, enabled=False):
            return responsibilities @ values.to(responsibilities.dtype)

    def top_responsibilities(self, z: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
        """The `count` largest p(k | z) of each z, largest first, and their components: (*z's batch, count) each.

        Args:
            z: points.
            count: number of components.

        Raises:
            ValueError: count is not between 1 and the number of components.
        """
        if not 1 <= count <= self.num_components:
            raise ValueError(
                f"count: expected a number from 1 to {self.num_components}, the number of components, got {count}"
            )
        if self._streams(z):
            shares, index = top_responsibilities(z.reshape(-1, z.shape[-1]), self._diagonal_components(), count)
            shape = (*z.shape[:-1], count)
            return shares.to(self.log_weights.dtype).reshape(shape), index.reshape(shape)
        shares, index = self.responsibilities(z).topk(count, -1)
        return shares, index

    def sample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw the component first, then a value from it; no gradients.

        Args:
            sample_shape: shape of the draws.
            generator: a source of randomness; by default torch's global one. Only diagonal normals accept another.

        Raises:
            ValueError: a generator is given and the components are not diagonal normals.
        """
        with torch.no_grad():
            if is_diagonal_normal(self.components):
                base = self.components.base_dist  # type: ignore[attr-defined]
                return self._draw(base.loc, base.scale, sample_shape, generator)
            if generator is not None:
                raise ValueError(
                    "generator: torch's distributions draw from the global generator only, and these components are "
                    f"{type(self.components).__name__}; leave it out, or seed with torch.manual_seed"
                )
            index = self._draw_index(sample_shape)
            return self._select_drawn(self.components.sample(torch.Size(sample_shape)), index)

    def rsample(self, sample_shape: Sequence[int] = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw values with pathwise gradients in all parameters, also the mixing weights; see `distributions.pathwise`.

        Args:
            sample_shape: shape of the draws.
            generator: a source of randomness; by default torch's global one.

        Raises:
            NotImplementedError: the components are not diagonal normals.
        """
        if not self.has_rsample:
            raise NotImplementedError(
                "rsample: expected components Independent(Normal, 1), for which the gradient of a sample is known, got "
                f"{self.components}; use sample()"
            )
        base = self.components.base_dist  # type: ignore[attr-defined]
        dtype = working_dtype(base.loc.device)
        loc, scale = base.loc.to(dtype), base.scale.to(dtype)
        with torch.no_grad():
            z = self._draw(loc, scale, sample_shape, generator)
        return reparameterized(z, self.log_weights.to(dtype), loc, scale).to(base.loc.dtype)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "Mixture":
        """The same mixture with its batch dimensions broadcast to `batch_shape`."""
        shape = (*batch_shape, self.num_components)
        return Mixture(self.log_weights.expand(shape), self.components.expand(torch.Size(shape)), self._validate_args)

    def __repr__(self) -> str:
        return f"Mixture(num_components: {self.num_components}, components: {self.components})"

    def _log_prob_of_components(self, z: Tensor) -> Tensor:
        """log p_k(z_k) of z with a component axis; -inf outside of the component's support.

        The components' own check would raise an error for z; without it, some densities, such as a binomial's, are
        finite there.
        """
        try:
            within = inside(self.components, z)
        except NotImplementedError:  # a distribution may have no support attribute
            return self.components.log_prob(z)
        if within.shape[-1] == 1:
            return self.components.log_prob(z)
        return unchecked(self.components).log_prob(z).masked_fill(~within, -torch.inf)

    def _diagonal_components(self) -> Components:
        base = self.components.base_dist  # type: ignore[attr-defined]
        return Components(self.log_weights, base.loc, base.scale)

    def _streams(self, *inputs: Tensor) -> bool:
        """Return whether the blocked functions, which autograd does not record, may be used."""
        if not is_diagonal_normal(self.components) or self.batch_shape or is_transformed():
            return False
        tensors = (*inputs, *self._diagonal_components())
        return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))

    @property
    def _component_axis(self) -> int:
        return -1 - len(self.event_shape)

    def _average(self, values: Tensor) -> Tensor:
        weights = self.mixing_weights.reshape(*self.mixing_weights.shape, *[1] * len(self.event_shape))
        return (weights * values).sum(self._component_axis)

    def _check_value(self, z: Tensor) -> None:
        event = self.event_shape
        if z.ndim < len(event) or z.shape[z.ndim - len(event) :] != event:
            raise ValueError(f"z: expected shape (..., {', '.join(map(str, event))}), got {tuple(z.shape)}")
        if self._validate_args:
            self._validate_sample(z)

    def _draw_index(self, sample_shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        return sample_index(self.log_weights.expand(*self.batch_shape, -1), sample_shape, generator)

    def _draw(
        self, loc: Tensor, scale: Tensor, sample_shape: Sequence[int], generator: torch.Generator | None
    ) -> Tensor:
        """Draw from diagonal normals: the component, then one normal."""
        index = self._draw_index(sample_shape, generator)
        shape = (*index.shape, loc.shape[-1])
        noise = torch.randn(shape, dtype=loc.dtype, device=loc.device, generator=generator)
        return noise.mul_(self._select(scale, index)).add_(self._select(loc, index))

    def _select(self, parameter: Tensor, index: Tensor) -> Tensor:
        """Return the rows of a (*batch, K, L) parameter at the (*sample, *batch) index."""
        if not self.batch_shape:
            return parameter[index]
        parameter = parameter.expand(*self.batch_shape, self.num_components, -1)
        flat = index.reshape(-1, *self.batch_shape).movedim(0, -1)
        rows = parameter.gather(-2, flat.unsqueeze(-1).expand(*flat.shape, parameter.shape[-1]))
        return rows.movedim(-2, 0).reshape(*index.shape, parameter.shape[-1])

    def _select_drawn(self, drawn: Tensor, index: Tensor) -> Tensor:
        """Given a draw from every component, (*sample, *batch, K, *event), return the one at the index."""
        event = self.event_shape
        drawn = drawn.expand(*index.shape, self.num_components, *event)
        chosen = index.reshape(*index.shape, 1, *[1] * len(event)).expand(*index.shape, 1, *event)
        return drawn.gather(self._component_axis, chosen).squeeze(self._component_axis)


def sample_index(
    log_weights: Float[Tensor, "*batch component"],
    sample_shape: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> Int[Tensor, "*shape"]:
    """Draw components by inverting the cumulative weights: for any K, while `torch.multinomial` is limited to 2^24.

    The log-weights (*batch, K) are normalized; a component with -inf is never drawn. The indices have the shape
    (*sample_shape, *batch).

    >>> sample_index(torch.tensor([0.0, -torch.inf]), (3,))
    tensor([0, 0, 0])
    """
    batch_shape, sample_shape = log_weights.shape[:-1], torch.Size(sample_shape)
    cumulated = log_weights.to(working_dtype(log_weights.device)).exp().cumsum(-1)
    shape = (*batch_shape, sample_shape.numel())
    uniform = torch.rand(shape, dtype=cumulated.dtype, device=cumulated.device, generator=generator)
    # Scaled by the last sum, which may differ from one by rounding. `right=True` skips components of weight zero; a
    # draw that rounds up to the end belongs to the last component with a weight.
    total = cumulated[..., -1:].contiguous()
    index = torch.searchsorted(cumulated, uniform * total, right=True)
    last = torch.searchsorted(cumulated, total).clamp(max=cumulated.shape[-1] - 1)  # NaN weights are sorted last
    return torch.minimum(index, last).movedim(-1, 0).reshape(sample_shape + batch_shape)
