"""Shapes and precision of the arguments of `log_prob`."""

import torch
from jaxtyping import Float, Num
from torch import Tensor

Shape = torch.Size | list[int] | tuple[int, ...]


def promoted(value: Num[Tensor, "..."], parameter: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The value in the parameter's precision; torch would take float32 for integers beside scalar parameters."""
    return value.to(torch.promote_types(value.dtype, parameter.dtype))
