"""What can be checked, behind one face: a module, a distribution, a pair of callables, or a factory of these."""

import copy
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory.conformance.global_state import SETTINGS, changes, preserved, snapshot
from priory.conformance.proposal import AffineMixture, Shared, fitted, one_normal
from priory.conformance.report import BrokenError, SkippedError
from priory.distributions import Mixture, diagonal_normal

NUM_DRAWS = (
    24_576  # a quarter fits the proposal, a twelfth chooses it; two thirds start Markov chains and test the mass
)
POINTS_AT_ONCE = 2048  # somebody else's mixture may make B x K x L numbers
KINDS = (
    "expected a module (that returns a distribution when called, or has log_prob and sample), an object with log_prob "
    "and sample, a pair of callables (log_prob, sample), or a function without arguments that makes one of these"
)


class PairDensity:
    """Two functions behind the interface of a distribution: log_prob(z) and sample(shape)."""

    def __init__(self, log_prob: Callable[[Tensor], Tensor], sample: Callable[[torch.Size], Tensor]) -> None:
        self.log_prob = log_prob
        self._sample = sample

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._sample(torch.Size(sample_shape))


@dataclass(frozen=True)
class Candidate:
    """One object under test, with the encoder that it is called with.

    Attributes:
        built: a module, a distribution-like object, or a pair of callables.
        encoder: what the module is called with; None for nothing.
    """

    built: Any
    encoder: Any = None

    @property
    def module(self) -> nn.Module:
        """The module, for checks of modules.

        Raises:
            SkippedError: it is none.
        """
        if not isinstance(self.built, nn.Module):
            raise SkippedError(f"a promise of modules; this is {_kind(self.built)}")
        return self.built

    def density(self) -> Any:
        """The object with `log_prob` and `sample`; a module is evaluated here."""
        if isinstance(self.built, tuple):
            return PairDensity(*self.built)
        if _has_density(self.built):
            return self.built
        result = self.built(self.encoder) if self._takes_encoder() else self.built()
        if not _has_density(result):
            raise TypeError(
                f"calling {type(self.built).__name__}: expected an object with log_prob and sample, got "
                f"{type(result).__name__}; return a torch.distributions.Distribution"
            )
        return result

    def copied(self) -> "Candidate":
        """A copy that shares nothing with this one.

        Raises:
            SkippedError: the module cannot be copied.
        """
        try:
            built, encoder = copy.deepcopy((self.module, self.encoder))
        except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            raise SkippedError(f"copy.deepcopy fails: {one_line(error)}") from error
        return Candidate(built, encoder)

    def converted(self, dtype: torch.dtype) -> "Candidate":
        """A copy of the module and its encoder in another precision."""
        duplicate = self.copied()
        duplicate.module.to(dtype)
        if isinstance(duplicate.encoder, nn.Module):
            duplicate.encoder.to(dtype)
        return duplicate

    def _takes_encoder(self) -> bool:
        if self.encoder is None:
            return False
        kinds = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD", "VAR_POSITIONAL")
        return any(p.kind.name in kinds for p in inspect.signature(self.built.forward).parameters.values())


class Subject:
    """An object and what is known about it: all that a check may ask for, each thing made once.

    Args:
        obj: a module, a distribution or anything with `log_prob(z)` and `sample(shape)`, a pair of callables
            (log_prob, sample), a function without arguments (or a class) that makes one of these, or the place of
            such a thing as "package.module:name". A factory makes the check of `state_dict` stricter.
        encoder: what a module is called with, where its components are an encoder's posteriors.
        reference: a distribution, or a function z -> log p(z), that the density must equal; or a factory or place
            of a distribution.
        single: the same prior with one component, as `obj` can be given.
        component_tensors: names of the entries of `state_dict` whose first axis is the component; found by
            themselves where that is unambiguous.
        seed: of the draws.

    Raises:
        TypeError: obj is none of these kinds.
        ValueError: a place that is not there, or a factory that fails.
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
        self.component_tensors = component_tensors
        self.seed = seed

    @cached_property
    def _made(self) -> tuple[Candidate, list[str]]:
        """The candidate, and what making it changed in the process; whatever that is, it is put back."""
        with preserved(self.seed):
            before = snapshot(SETTINGS)
            candidate = self.build()
            changed = [f"{what} (when it was built)" for what in changes(before)]
        return candidate, changed

    @property
    def candidate(self) -> Candidate:
        """The object under test."""
        return self._made[0]

    @property
    def changed_by_building(self) -> list[str]:
        """Global settings that importing and building the object changed."""
        return self._made[1]

    @property
    def has_factory(self) -> bool:
        """Whether the object can be made again."""
        return _is_factory(located(self.obj))

    def build(self) -> Candidate:
        """A new one from the factory, or the object that was given."""
        return Candidate(made(self.obj), self._encoder)

    @cached_property
    def _encoder(self) -> Any:
        return resolved_encoder(self.encoder)

    @cached_property
    def density(self) -> Any:
        """What has `log_prob` and `sample`: of a module, what it returned, evaluated once."""
        try:
            with torch.no_grad():
                return self.candidate.density()
        except TypeError as error:
            hint = "" if self.encoder is not None else "; where it needs an encoder, give encoder="
            raise TypeError(f"{one_line(error)}{hint}") from error

    @cached_property
    def latent_dim(self) -> int:
        """L, the last axis of `event_shape` or of a draw."""
        shape = tuple(getattr(self.density, "event_shape", ())) or tuple(self.draw(()).shape)
        if not shape:
            raise ValueError(
                "sample(()): expected a vector z of shape (L,), got a single number; wrap a distribution of one number "
                "in torch.distributions.Independent, or unsqueeze"
            )
        return shape[-1]

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Draws as the object gives them; reproducible, and without a trace in the caller's generators."""
        with torch.no_grad():
            return self.density.sample(torch.Size(shape))

    @cached_property
    def some(self) -> Float[Tensor, "point latent"]:
        """64 draws in the object's own precision: points that the density is evaluated at."""
        with preserved(self.seed):
            return self.draw((64,))

    @cached_property
    def draws(self) -> "Draws":
        """Many draws for the statistics, in parts that are used for different things."""
        with preserved(self.seed + 1):
            draws = self.draw((NUM_DRAWS,))
        if draws.shape != (NUM_DRAWS, self.latent_dim):
            raise SkippedError(f"needs draws of shape ({NUM_DRAWS}, {self.latent_dim}), got {tuple(draws.shape)}")
        if not torch.isfinite(draws).all():
            raise BrokenError("its sampler draws numbers that are not finite")
        return Draws(*draws.detach().double().cpu().split([NUM_DRAWS // 4, NUM_DRAWS // 12] + [NUM_DRAWS // 3] * 2))

    @cached_property
    def components(self) -> "Components | None":
        """The components of a mixture that shows them, as torch's MixtureSameFamily and `priory.Mixture` do."""
        with torch.no_grad():
            return found_components(self.density)

    @cached_property
    def proposal(self) -> Shared:
        """A normalised density that covers the sampler's draws, and the components' places where they can be seen."""
        with preserved(self.seed + 2):
            fit = fitted(self.draws.fit, self.draws.choose)
            around = [one_normal(self.draws.fit, factor) for factor in (1.0, 2.0, 4.0)]
            parts = [fit.widened(1.1), *around]
            places = None if self.components is None else self.components.as_normals()
            if places is None:
                return Shared((0.75, 0.15, 0.05, 0.05), parts)
            return Shared((0.3, 0.1, 0.05, 0.05, 0.5), [*parts, places])

    def log_prob(self, z: Float[Tensor, "point latent"]) -> Float[Tensor, " point"]:
        """log p(z) for the statistics: no gradients, in blocks; float64 on the CPU in and out."""
        like = self.some
        with torch.no_grad():
            blocks = [self.density.log_prob(block.to(like)).double().cpu() for block in z.split(POINTS_AT_ONCE)]
        values = torch.cat(blocks)
        if values.shape != z.shape[:1]:
            raise SkippedError(f"needs one number per z, got shape {tuple(blocks[0].shape)} for {tuple(z.shape)}")
        if values.isnan().any() or (values == torch.inf).any():
            raise BrokenError(f"log_prob is nan or inf at {int((~(values < torch.inf)).sum())} of {len(z)} points")
        return values

    def rounded(self, z: Float[Tensor, "point latent"]) -> Float[Tensor, "point latent"]:
        """The points that the object sees when it is given these: float64 rounded to its own precision."""
        return z.to(self.some).double().cpu()

    def __str__(self) -> str:
        built = self.candidate.built
        what = "log_prob and sample" if isinstance(built, tuple) else type(built).__name__
        return f"{what}, L = {self.latent_dim}"


class Draws(NamedTuple):
    """Independent draws, each part for one purpose, in float64 on the CPU.

    Attributes:
        fit: for fitting a mixture.
        choose: for choosing among fits.
        start: where Markov chains start.
        other: their partners, and a test of where the proposal lacks mass.
    """

    fit: Float[Tensor, "draw latent"]
    choose: Float[Tensor, "draw latent"]
    start: Float[Tensor, "draw latent"]
    other: Float[Tensor, "draw latent"]


class Components(NamedTuple):
    """What a mixture says that it is made of.

    Attributes:
        log_weights: (K,).
        distribution: with batch shape (K,) and event shape (L,).
    """

    log_weights: Float[Tensor, " component"]
    distribution: Any

    def log_prob(self, z: Float[Tensor, "point latent"]) -> Float[Tensor, "point component"]:
        """log pi_k + log p_k(z)."""
        return self.log_weights + self.distribution.log_prob(z.unsqueeze(-2))

    def as_normals(self) -> AffineMixture | None:
        """Normals with the components' means and scales, none with less than half of its uniform share of weight."""
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


def found_components(density: Any) -> Components | None:
    """The components of a mixture without batch dimensions, or None."""
    if hasattr(density, "mixture_distribution"):
        found = Components(density.mixture_distribution.logits, density.component_distribution)
    elif isinstance(getattr(density, "log_weights", None), Tensor) and hasattr(density, "components"):
        found = Components(density.log_weights, density.components)
    else:
        return None
    batch_shape = getattr(found.distribution, "batch_shape", None)
    return found if found.log_weights.ndim == 1 and batch_shape == found.log_weights.shape else None


def located(obj: Any) -> Any:
    """The object, or what "package.module:name" names.

    Raises:
        ValueError: the place is not there.
    """
    if not isinstance(obj, str):
        return obj
    module_name, _, name = obj.partition(":")
    if not module_name or not name:
        raise ValueError(f"{obj}: expected package.module:factory, such as mypackage.priors:make_prior")
    try:
        place: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"{obj}: expected a module {module_name} that can be imported: {one_line(error)}; check its name, the "
            "working directory and PYTHONPATH"
        ) from error
    for part in name.split("."):
        if not hasattr(place, part):
            raise ValueError(f"{obj}: expected {part} in {module_name}, which has no such name; check its spelling")
        place = getattr(place, part)
    return place


def made(obj: Any) -> Any:
    """A module, a density or a pair, from one of these, from a factory, or from the place of either.

    Raises:
        TypeError: it is none of these, or the factory's result is not.
        ValueError: the factory raised an exception.
    """
    place = located(obj)
    if not _is_factory(place):
        return _checkable(place, obj if isinstance(obj, str) else "obj")
    name = obj if isinstance(obj, str) else getattr(place, "__qualname__", repr(place))
    try:
        result = place()
    except Exception as error:
        raise ValueError(
            f"{name}: expected a factory that works without arguments, but calling it raised "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    return _checkable(result, f"{name}()")


def resolved_encoder(encoder: Any) -> Any:
    """An encoder, or what "package.module:name" names; a function without arguments there makes it."""
    if not isinstance(encoder, str):
        return encoder
    place = located(encoder)
    if isinstance(place, nn.Module) or (callable(place) and needs_arguments(place)):
        return place
    return place()


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _checkable(obj: Any, name: str) -> Any:
    if isinstance(obj, (tuple, list)) and len(obj) == 2 and all(map(callable, obj)):
        return tuple(obj)
    if isinstance(obj, nn.Module) or _has_density(obj):
        return obj
    raise TypeError(f"{name}: {KINDS}; got {_kind(obj)}")


def _has_density(obj: Any) -> bool:
    return callable(getattr(obj, "log_prob", None)) and callable(getattr(obj, "sample", None))


def _is_factory(obj: Any) -> bool:
    if isinstance(obj, type):
        return True
    return callable(obj) and not isinstance(obj, nn.Module) and not _has_density(obj)


def needs_arguments(function: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def _kind(obj: Any) -> str:
    return "a pair of callables" if isinstance(obj, tuple) else f"a {type(obj).__name__}"
