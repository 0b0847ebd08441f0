"""A copy of a distribution whose parameters are constant."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from priory.distributions.chain import Chain

_PLAIN = (bool, int, float, str, torch.Size, torch.dtype, torch.device, type(None))


def detached(q: Distribution) -> Distribution:
    """Return the same distribution with parameters that have no gradient.

    Raises:
        TypeError: the distribution holds something other than tensors, distributions and plain values, such as the
            transforms of a `TransformedDistribution`, whose parameters cannot be found.

    >>> scale = torch.ones(2, requires_grad=True)
    >>> q = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), scale), 1)
    >>> detached(q).stddev.requires_grad
    False
    """
    copied = copy.copy(q)
    for name, value in vars(q).items():
        if isinstance(value, Tensor):
            copied.__dict__[name] = value.detach()
        elif isinstance(value, Distribution):
            copied.__dict__[name] = detached(value)
        elif isinstance(q, Chain) and isinstance(value, nn.Module):
            copied.__dict__[name] = _with_constants(value)
        elif not isinstance(value, _PLAIN):
            raise TypeError(
                "encode: expected q(z|x) whose parameters are tensors, such as Independent(Normal(loc, scale), 1), got "
                f"{type(q).__name__} with {name} of type {type(value).__name__}, whose parameters cannot be held "
                "constant; use the objective elbo or importance-weighted"
            )
    return copied


def _with_constants(module: nn.Module) -> Callable[[Tensor], Distribution]:
    """Return the module as a function whose parameters have no gradient; gradients of its argument remain."""
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def conditional(condition: Tensor) -> Distribution:
        p: Any = functional_call(module, constants, (condition,))
        if isinstance(p, Chain):  # its module is called later
            p.conditional = _with_constants(p.conditional)
        return p

    return conditional
