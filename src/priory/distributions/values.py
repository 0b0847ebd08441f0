"""Shapes and precision of the arguments of `log_prob`; functions that ONNX lacks or computes imprecisely."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from priory.density.exported import is_exporting

Shape = torch.Size | list[int] | tuple[int, ...]


def promoted(value: Num[Tensor, "..."], parameter: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Convert the value to the parameter's precision; with scalar parameters, torch would use float32 for integers."""
    return value.to(torch.promote_types(value.dtype, parameter.dtype))


def log_sigmoid(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log S(x) = -log(1 + exp(-x)). ONNX Runtime returns S(-18) for all smaller arguments, so graphs use softplus.

    >>> log_sigmoid(torch.tensor([0.0, -100.0]))
    tensor([  -0.6931, -100.0000])
    """
    return -F.softplus(-x) if is_exporting() else F.logsigmoid(x)


def sigmoid(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """S(x) = 1 / (1 + exp(-x)); see `log_sigmoid`.

    >>> sigmoid(torch.tensor(0.0))
    tensor(0.5000)
    """
    return torch.exp(log_sigmoid(x)) if is_exporting() else torch.sigmoid(x)


def log_one_minus_exp(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log(1 - exp(-x)) for x > 0. ONNX lacks expm1, so graphs use tanh: 1 - exp(-x) = 2 t / (1 + t), t = tanh(x / 2).

    >>> log_one_minus_exp(torch.tensor([1e-6, 100.0]))
    tensor([-13.8155,   0.0000])
    """
    if not is_exporting():
        return torch.log(-torch.expm1(-x))
    t = torch.tanh(0.5 * x)
    return torch.log(2 * t / (1 + t))
