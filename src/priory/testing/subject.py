"""One object under test, with its draws, density, components and fitted proposal; each is computed once."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from priory._support.imports import RAISED, described, located
from priory.distributions.mixture import Mixture
from priory.distributions.normal import diagonal_normal
from priory.testing.candidate import Candidate, made, resolved_encoder, resolved_reference
from priory.testing.global_state import SETTINGS, changes, preserved, snapshot
from priory.testing.proposal import AffineMixture, Shared, fitted, one_normal
from priory.testing.report import BrokenError, SkippedError

NUM_DRAWS = 24_576  # a quarter fits the proposal, a twelfth selects it; the rest start Markov chains and test the mass
POINTS_AT_ONCE = 2048  # a mixture of another package may need B x K x L numbers


class Draws(NamedTuple):
    """Independent draws, in parts for separate purposes, in float64 on the CPU."""

    fit: Float[Tensor, "draw latent"]  # for fitting a mixture
    choose: Float[Tensor, "draw latent"]  # for choosing among fits
    start: Float[Tensor, "draw latent"]  # starts of Markov chains
    other: Float[Tensor, "draw latent"]  # partners of these starts, and test points for mass that the proposal misses


class Components(NamedTuple):
    """The components of a mixture."""

    log_weights: Float[Tensor, " component"]
    distribution: Any  # with batch shape (K,) and event shape (L,)

    def log_prob(self, z: Float[Tensor, "point latent"]) -> Float[Tensor, "point component"]:
        """log pi_k + log p_k(z)."""
        return self.log_weights + self.distribution.log_prob(z.unsqueeze(-2))

    def as_normals(self) -> AffineMixture | None:
        """Return normals with the components' means and scales, with at least half of a uniform weight each."""
        try:
            loc, scale = self.distribution.mean, self.distribution.stddev
        except (AttributeError, NotImplementedError):
            return None
        loc, scale, weights = (x.detach().double().cpu() for x in (loc, scale, self.log_weights.exp()))
        if not (torch.isfinite(loc).all() and torch.isfinite(scale).all() and (scale > 0).all()):
            return None
        logits = (weights / weights.sum() + 1 / len(weights)).log()
        latent_dim = loc.shape[-1]
        zero, eye = torch.zeros(latent_dim).double(), torch.eye(latent_dim).double()
        return AffineMixture(Mixture(logits, diagonal_normal(loc, scale)), zero, eye)


class Subject:
    """An object under test and everything that checks need from it; each property is computed once.

    The arguments are those of `check_prior`. `reference` may also be a factory or the import path of a distribution. If
    `obj` is a factory, the check of `state_dict` is stricter.

    Raises:
        TypeError: obj has none of these forms.
        ValueError: an import path does not exist, or a factory fails.
    """

    def __init__(
        self,
        obj: Any,
        *,
        encoder: Any = None,
        reference: Any = None,
        single: Any = None,
        component_tensors: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.obj, self.encoder, self.reference, self.single = obj, encoder, reference, single
        self.component_tensors, self.seed = component_tensors, seed

    @cached_property
    def _made(self) -> tuple[Candidate, list[str]]:
        """The candidate, and the global settings that changed while it was built; they are restored."""
        _, imported = self._watched(lambda: located(self.obj), "when its module was imported")
        _, encoders = self._watched(lambda: located(self.encoder), "when its encoder's module was imported")
        candidate, built = self._watched(self.build, "when it was built")
        return candidate, imported + encoders + built

    def _watched(self, step: Callable[[], Any], when: str) -> tuple[Any, list[str]]:
        """Return a step's result and the settings that it changed; they are restored before the next step."""
        with preserved(self.seed):
            before = snapshot(SETTINGS)
            result = step()
            return result, [f"{what} ({when})" for what in changes(before)]

    @property
    def candidate(self) -> Candidate:
        """The object under test."""
        return self._made[0]

    @property
    def changed_by_building(self) -> list[str]:
        """Global settings that changed while the object was imported and built."""
        return self._made[1]

    def build(self) -> Candidate:
        """Return a new object from the factory, or the given object."""
        return Candidate(made(self.obj), self._encoder)

    @cached_property
    def _encoder(self) -> Any:
        return resolved_encoder(self.encoder)

    @cached_property
    def named_density(self) -> Any:
        """The density that the object must equal, or None."""
        with preserved(self.seed):
            return resolved_reference(self.reference)

    @cached_property
    def density(self) -> Any:
        """The object with `log_prob` and `sample`; a module is called once."""
        try:
            with torch.no_grad():
                return self.candidate.density()
        except RAISED as error:
            hint = "" if self.encoder is not None else "; if it needs an encoder, give encoder="
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"calling the prior raised {described(error)}{hint}") from error

    @cached_property
    def latent_dim(self) -> int:
        """L, the last axis of `event_shape` or of a draw."""
        shape = tuple(getattr(self.density, "event_shape", ())) or self._drawn_shape()
        if not shape:
            raise ValueError(
                "sample(()): expected a vector z of shape (L,), got a single number; wrap a distribution of one number "
                "in torch.distributions.Independent, or unsqueeze"
            )
        return shape[-1]

    def _drawn_shape(self) -> tuple[int, ...]:
        for shape in ((), (1,)):  # a sampler may fail for one of them; broadcast_shapes reports it
            try:
                return tuple(self.draw(shape).shape)
            except RAISED as error:
                reason = described(error)
        raise ValueError(f"sample(shape): expected draws z of shape (*shape, L), but it raised {reason}")

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Return draws in the object's own form; reproducible, and without a change of the caller's generators."""
        with torch.no_grad():
            return self.density.sample(torch.Size(shape))

    @cached_property
    def some(self) -> Float[Tensor, "point latent"]:
        """64 draws in the object's own precision: the points at which the density is evaluated."""
        with preserved(self.seed):
            return self.draw((64,))

    @cached_property
    def draws(self) -> Draws:
        """Many draws for the statistics, in parts for separate purposes."""
        with preserved(self.seed + 1):
            draws = self.draw((NUM_DRAWS,))
        if draws.shape != (NUM_DRAWS, self.latent_dim):
            raise SkippedError(f"needs draws of shape ({NUM_DRAWS}, {self.latent_dim}), got {tuple(draws.shape)}")
        if not torch.isfinite(draws).all():
            raise BrokenError("its sampler draws numbers that are not finite")
        return Draws(*draws.detach().double().cpu().split([NUM_DRAWS // 4, NUM_DRAWS // 12] + [NUM_DRAWS // 3] * 2))

    @cached_property
    @torch.no_grad()
    def components(self) -> Components | None:
        """The components of a mixture that exposes them, as torch's MixtureSameFamily and `priory.Mixture` do.

        None for a mixture with batch dimensions.
        """
        density = self.density
        if hasattr(density, "mixture_distribution"):
            mixture = Components(density.mixture_distribution.logits, density.component_distribution)
        elif isinstance(getattr(density, "log_weights", None), Tensor) and hasattr(density, "components"):
            mixture = Components(density.log_weights, density.components)
        else:
            return None
        batch_shape = getattr(mixture.distribution, "batch_shape", None)
        return mixture if mixture.log_weights.ndim == 1 and batch_shape == mixture.log_weights.shape else None

    @cached_property
    def proposal(self) -> Shared:
        """A normalized density that covers the sampler's draws, and the components if they are known."""
        with preserved(self.seed + 2):
            fit = fitted(self.draws.fit, self.draws.choose)
            around = [one_normal(self.draws.fit, factor) for factor in (1.0, 2.0, 4.0)]
            parts = [fit.widened(1.1), *around]
            places = None if self.components is None else self.components.as_normals()
            if places is None:
                return Shared((0.75, 0.15, 0.05, 0.05), parts)
            return Shared((0.3, 0.1, 0.05, 0.05, 0.5), [*parts, places])

    def log_prob(self, z: Float[Tensor, "point latent"]) -> Float[Tensor, " point"]:
        """Return log p(z) for the statistics: without gradients, in blocks; input and output are float64 on the CPU."""
        blocks = z.to(self.some).split(POINTS_AT_ONCE)
        with torch.no_grad():
            parts = [self.density.log_prob(block).double().cpu() for block in blocks]
        values = torch.cat(parts)
        if values.shape != z.shape[:1]:
            raise SkippedError(f"needs one number per z, got shape {tuple(parts[0].shape)} for {tuple(z.shape)}")
        if values.isnan().any() or (values == torch.inf).any():
            raise BrokenError(f"log_prob is nan or inf at {int((~(values < torch.inf)).sum())} of {len(z)} points")
        return values

    def log_prob_where_finite(self, z: Float[Tensor, "point latent"]) -> Float[Tensor, " point"]:
        """Return log p(z) at points that may be too large: -inf if a number overflows or the object raises an error."""
        z = z.to(self.some)
        values = torch.full((len(z),), -torch.inf, dtype=torch.float64)
        inside = z.isfinite().all(-1).cpu()
        with torch.no_grad():
            try:
                computed = self.density.log_prob(z[inside.to(z.device)]).double().cpu()
            except RAISED:
                return values
        values[inside] = torch.where(computed.isfinite(), computed, -torch.inf)
        return values

    def rounded(self, z: Float[Tensor, "point latent"]) -> Float[Tensor, "point latent"]:
        """Round float64 points to the object's own precision, in which it gets them."""
        return z.to(self.some).double().cpu()

    def __str__(self) -> str:
        built = self.candidate.built
        what = "log_prob and sample" if isinstance(built, tuple) else type(built).__name__
        return f"{what}, L = {self.latent_dim}"
