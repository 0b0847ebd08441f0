"""The blocked density as one operator for `torch.compile`."""

import torch
from torch import Tensor

from priory.density import log_prob as blocked
from priory.density.blocks import Walk
from priory.density.components import Components, Needed, working_dtype


@torch.library.custom_op("priory::mixture_log_prob", mutates_args=())
def mixture_log_prob(z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log p(z_b), (b,), in the working dtype."""
    return blocked.log_prob(Walk(z, Components(log_weights, loc, scale)))[0]


@mixture_log_prob.register_fake
def _(z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return z.new_empty(z.shape[0], dtype=working_dtype(z.device))


@torch.library.custom_op("priory::mixture_log_prob_gradients", mutates_args=())
def mixture_log_prob_gradients(
    grad: Tensor, log_prob: Tensor, z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of sum_b grad_b log p(z_b)."""
    walk = Walk(z, Components(log_weights, loc, scale))
    return tuple(blocked.log_prob_gradients(grad, walk, log_prob, None, Needed()))  # type: ignore[return-value]


@mixture_log_prob_gradients.register_fake
def _(grad: Tensor, log_prob: Tensor, z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in (z, log_weights, loc, scale))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(output, *inputs)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    return mixture_log_prob_gradients(grad, *ctx.saved_tensors)


mixture_log_prob.register_autograd(_backward, setup_context=_setup_context)
