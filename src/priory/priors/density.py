"""Any density as a prior: a torch distribution, or a module that has a density."""

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, constraints

from priory.priors.base import Encoder, Prior, check_vector_density


class DensityPrior(Prior):
    """p(z) from a distribution or a module that has a density.

    Three kinds of objects are accepted. A torch `Distribution`: its tensors become buffers of this module (and its
    `nn.Parameter`s parameters), so they move, are saved and train with it. A module that returns a distribution when it
    is called. A module with its own methods `log_prob(z)` and `sample(shape)`.

    Args:
        density: the object.
        latent_dim: L; needed only for a module with `log_prob` and `sample`.

    Raises:
        TypeError: the object is none of these.
        ValueError: the density is not over vectors, latent_dim is missing, or some parameters of the distribution
            cannot be trained or saved.

    >>> prior = DensityPrior(torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    >>> prior.double()().log_prob(torch.zeros(2, dtype=torch.float64))
    tensor(-1.8379, dtype=torch.float64)
    """

    summary = "any torch distribution or density module (in Python)"
    reference = "whoever wrote it"

    def __init__(self, density: Distribution | nn.Module, *, latent_dim: int | None = None) -> None:
        super().__init__()
        if isinstance(density, Distribution):
            # Copy: a distribution caches tensors when it is used, and these would look like part of its state.
            self.template = _copied(density, {}, {})
            self._adopt_tensors()
        elif isinstance(density, nn.Module):
            self.density = density
        else:
            raise TypeError(f"density: expected a torch Distribution or a module, got {type(density).__name__}")
        self.latent_dim = latent_dim
        self.latent_dim = check_vector_density("density", self())

    def forward(self, encoder: Encoder | None = None) -> Distribution:
        """Return the density as a distribution with event shape (L,); the encoder is not used."""
        if not hasattr(self, "density"):
            own = {**dict(self.named_parameters(recurse=False)), **dict(self.named_buffers(recurse=False))}
            return _copied(self.template, {id(value): own[name] for name, value in _tensors(self.template)}, {})
        if not (hasattr(self.density, "log_prob") and hasattr(self.density, "sample")):
            return self.density()
        if self.latent_dim is None:
            raise ValueError(
                "latent_dim: expected L for a module with its own log_prob and sample, got none; give latent_dim="
            )
        return ModuleDensity(self.density, self.latent_dim)

    def constructor_arguments(self) -> dict[str, Any]:
        """Return the constructor arguments that are not attributes, for `priory.save`."""
        return {"density": self.density if hasattr(self, "density") else self()}

    def extra_repr(self) -> str:
        kind = f"{type(self.template).__name__}, " if hasattr(self, "template") else ""
        return kind + super().extra_repr()

    def _adopt_tensors(self) -> None:
        """Register every tensor of the distribution under a flat name such as `base_dist__loc`."""
        for name, value in _tensors(self.template):
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            elif value.requires_grad:
                raise ValueError(
                    f"density: its tensor {name} requires a gradient but is not an nn.Parameter, so it could not be "
                    "trained or saved with the prior; pass an nn.Parameter, or a module that makes the distribution"
                )
            else:
                # Views that share storage, and transposed tensors, cannot be saved in every format.
                self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))
        p_z = self()
        if not list(self.parameters()) and p_z.log_prob(p_z.sample()).requires_grad:
            raise ValueError(
                f"density: a {type(self.template).__name__} with parameters that cannot be found, trained or saved; "
                "pass the module that makes it"
            )


class ModuleDensity(Distribution):
    """A module's own `log_prob` and `sample` as a torch `Distribution`."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, module: nn.Module, latent_dim: int) -> None:
        self.module: Any = module
        super().__init__(torch.Size(), torch.Size((latent_dim,)), validate_args=False)

    def log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        return self.module.log_prob(value)

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*sample latent"]:
        return self.module.sample(torch.Size(sample_shape))


def _tensors(owner: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor inside a distribution, its transforms, lists and tuples once, with a name."""
    seen = set() if seen is None else seen
    items = enumerate(owner) if isinstance(owner, (list, tuple)) else vars(owner).items()
    for name, value in items:
        key = f"{path}__{str(name).lstrip('_')}" if path else str(name).lstrip("_")
        if id(value) in seen:  # a transform and its inverse refer to each other
            continue
        if isinstance(value, Tensor):
            seen.add(id(value))
            yield key, value
        elif isinstance(value, (Distribution, Transform, list, tuple)):
            seen.add(id(value))
            yield from _tensors(value, key, seen)


def _copied(owner: Any, tensors: dict[int, Tensor], copies: dict[int, Any]) -> Any:
    """Copy a distribution, replacing the tensors whose ids are in `tensors`.

    `copy.deepcopy` does not work: it cannot copy torch's inverse transforms.
    """
    if isinstance(owner, Tensor):
        return tensors.get(id(owner), owner)
    if type(owner) in (list, tuple):
        return type(owner)(_copied(value, tensors, copies) for value in owner)
    if not isinstance(owner, (Distribution, Transform)):
        return None if isinstance(owner, weakref.ref) else owner  # a transform's link to its inverse, made anew
    if id(owner) not in copies:
        copies[id(owner)] = duplicate = object.__new__(type(owner))
        vars(duplicate).update({name: _copied(value, tensors, copies) for name, value in vars(owner).items()})
    return copies[id(owner)]
