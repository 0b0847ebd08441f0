"""Somebody else's density as a prior: any torch distribution, or any module that has a density."""

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, constraints

from priory.priors.base import Encoder, Prior, PriorSpec


class DensityPrior(Prior):
    """p(z) from an object that has one.

    Three kinds are taken. A torch `Distribution`: its tensors become this module's buffers (`nn.Parameter`s become
    its parameters), so that they move, are saved and train with it. A module that, called, returns a distribution.
    A module with `log_prob(z)` and `sample(shape)` of its own.

    Args:
        density: the object.
        latent_dim: L; needed only for a module with `log_prob` and `sample`.

    Raises:
        TypeError: the object is none of the three.
        ValueError: the density is not over vectors, or latent_dim is missing.

    >>> prior = DensityPrior(torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)))
    >>> prior.double()().log_prob(torch.zeros(2, dtype=torch.float64))
    tensor(-1.8379, dtype=torch.float64)
    """

    summary = "any torch distribution or density module (in Python)"
    reference = "whoever wrote it"

    def __init__(self, density: Distribution | nn.Module, *, latent_dim: int | None = None) -> None:
        super().__init__()
        if isinstance(density, Distribution):
            self.template = density
            _register_tensors(self, density)
        elif isinstance(density, nn.Module):
            self.density = density
        else:
            raise TypeError(f"density: expected a torch Distribution or a module, got {type(density).__name__}")
        self.latent_dim = latent_dim
        event_shape = self().event_shape
        if len(event_shape) != 1:
            raise ValueError(
                f"density: expected one over vectors (event shape (L,)), got event shape {tuple(event_shape)}; wrap "
                "independent dimensions in torch.distributions.Independent(density, 1)"
            )
        self.latent_dim = event_shape[0]

    @classmethod
    def from_spec(cls, spec: PriorSpec) -> Self:
        raise TypeError("DensityPrior is made from an object, in Python; the command line has no name for it")

    def forward(self, encoder: Encoder | None = None) -> Distribution:
        """The density as a distribution with event shape (L,); the encoder is not used."""
        if not hasattr(self, "density"):
            return _with_tensors(self.template, dict(_own_tensors(self)))
        if not (hasattr(self.density, "log_prob") and hasattr(self.density, "sample")):
            return self.density()
        if self.latent_dim is None:
            raise ValueError("latent_dim: needed for a module with log_prob and sample of its own; give latent_dim=")
        return ModuleDensity(self.density, self.latent_dim)


class ModuleDensity(Distribution):
    """A module's own `log_prob` and `sample` behind torch's interface."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(self, module: nn.Module, latent_dim: int) -> None:
        self.module: Any = module
        super().__init__(torch.Size(), torch.Size((latent_dim,)), validate_args=False)

    def log_prob(self, value: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        return self.module.log_prob(value)

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*sample latent"]:
        return self.module.sample(torch.Size(sample_shape))


def _is_nested(value: object) -> bool:
    return isinstance(value, (Distribution, Transform, list, tuple))


def _items(owner: Any) -> list[tuple[str, Any]]:
    if isinstance(owner, (list, tuple)):
        return [(str(i), value) for i, value in enumerate(owner)]
    return [(name.lstrip("_"), value) for name, value in vars(owner).items()]


def _register_tensors(prior: DensityPrior, owner: Any, path: str = "") -> None:
    """Every tensor inside the distribution, under a flat name such as `base_dist__loc`."""
    for name, value in _items(owner):
        key = f"{path}__{name}" if path else name
        if isinstance(value, nn.Parameter):
            prior.register_parameter(key, value)
        elif isinstance(value, Tensor):
            _check_leaf(key, value)
            prior.register_buffer(key, value.clone())  # views of one storage could not be saved
        elif _is_nested(value):
            _register_tensors(prior, value, key)


def _check_leaf(name: str, value: Tensor) -> None:
    if value.requires_grad:
        raise ValueError(
            f"density: its tensor {name} requires a gradient but is no nn.Parameter, so it could not be trained or "
            "saved with the prior; pass an nn.Parameter, or a module that makes the distribution"
        )


def _own_tensors(prior: DensityPrior) -> list[tuple[str, Tensor]]:
    return [*prior.named_parameters(recurse=False), *prior.named_buffers(recurse=False)]


def _with_tensors(owner: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """A copy of the distribution that holds these tensors."""
    replaced = {}
    for name, value in _items(owner):
        key = f"{path}__{name}" if path else name
        replaced[name] = tensors[key] if isinstance(value, Tensor) else value
        if _is_nested(value):
            replaced[name] = _with_tensors(value, tensors, key)
    if isinstance(owner, (list, tuple)):
        return type(owner)(replaced.values()) if type(owner) in (list, tuple) else owner
    duplicate = copy.copy(owner)
    for attribute in vars(owner):
        vars(duplicate)[attribute] = replaced[attribute.lstrip("_")]
    return duplicate
