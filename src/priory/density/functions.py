"""The blocked densities as differentiable functions for autograd, `torch.func` and `torch.compile`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from priory.density import compiled, small
from priory.density import log_prob as blocked
from priory.density.blocks import Walk
from priory.density.components import (
    Components,
    Differences,
    Exponentials,
    Gradients,
    Needed,
    Products,
    gradient_of_points,
    has_float64,
    point_features,
    working_dtype,
)
from priory.density.exported import exported_joint, is_exporting

# Recorded operations of up to this many numbers b x k x L use differences, which are always precise; larger ones use
# products.
RECORDED_DIFFERENCES = 2**20


class MixtureLogProb(torch.autograd.Function):
    """(z, log_weights, loc, scale) -> log p(z); backward reuses results of forward.

    Gradients of gradients are recorded operations of size b x k.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        z, components = inputs[0], Components(*inputs[1:])
        saved = small.log_prob(z, components) if small.is_small(z, components) else None
        ctx.walk = None  # the walk of the exponentials; None if they come from `small`, or are not kept
        if saved is None:
            walk = Walk(z, components)
            log_sum, saved = blocked.log_prob(walk)
            ctx.walk = None if saved is None else walk
        else:
            log_sum = saved.log_sum
        terms, reciprocal = (None, None) if saved is None else (saved.terms, saved.reciprocal)
        ctx.save_for_backward(*inputs, log_sum, terms, reciprocal)
        ctx.save_for_forward(*inputs)
        ctx.set_materialize_grads(False)
        return log_sum

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 4
        z, *parameters, log_sum, terms, reciprocal = ctx.saved_tensors
        components, needed = Components(*parameters), _needed(ctx)
        if torch.is_grad_enabled():
            return _cast(recorded_log_prob_gradients(grad, z, components, needed), z, components)
        saved = None if terms is None else Exponentials(log_sum, terms, reciprocal)
        if saved is not None and ctx.walk is None:
            return _cast(small.log_prob_gradients(grad, z, components, saved, needed), z, components)
        return blocked.log_prob_gradients(grad, ctx.walk or Walk(z, components), log_sum, saved, needed)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        z, *parameters = ctx.saved_tensors
        joint, tangent = _joint_tangent(z, Components(*parameters), tangents)
        return (_responsibilities(joint) * tangent).sum(-1)


def mixture_log_prob(z: Tensor, components: Components) -> Tensor:
    """log p(z_b) by the function that fits `torch.compile`, `torch.func` or eager mode."""
    if torch.compiler.is_compiling() and not is_exporting():
        return compiled.mixture_log_prob(z, *components)
    if is_transformed():  # `torch.func` does not support `MixtureLogProb`, which is twice as fast
        dtype = working_dtype(z.device)
        joint = recorded_joint(z, components) if is_exporting() else JointLogProb.apply(z, *components, dtype)
        empty = (joint == -math.inf).all(-1)  # gradients are zero there
        log_sum = torch.logsumexp(joint.masked_fill(empty.unsqueeze(-1), 0.0), -1)
        return log_sum.masked_fill(empty, -math.inf)
    return MixtureLogProb.apply(z, *components)


def is_transformed() -> bool:
    """Return whether `torch.compile` or `torch.func` is active, so that no choice may depend on values."""
    # If this private function of torch disappears, True works everywhere.
    functorch: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
    return torch.compiler.is_compiling() or functorch()


class JointLogProb(torch.autograd.Function):
    """(z, log_weights, loc, scale, dtype) -> log pi_k + log N(z | loc_k, scale_k^2), (b, k)."""

    @staticmethod
    def forward(z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        return blocked.joint_log_prob(z, Components(log_weights, loc, scale), dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.save_for_forward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, *parameters = ctx.saved_tensors
        components, needed = Components(*parameters), _needed(ctx)
        if torch.is_grad_enabled():
            return *_cast(recorded_joint_gradients(grad, z, components, needed), z, components), None
        return *blocked.joint_gradients(grad, z, components, needed), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        z, *parameters = ctx.saved_tensors
        return _joint_tangent(z, Components(*parameters), tangents[:4])[1]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], z: Tensor, *arguments: Any) -> tuple[Tensor, int]:
        *parameters, dtype = arguments
        if all(dim is None for dim in in_dims[1:4]):
            rows = z.movedim(in_dims[0] or 0, 0)
            return JointLogProb.apply(rows.flatten(0, 1), *parameters, dtype).unflatten(0, rows.shape[:2]), 0
        z, components = _batched(info.batch_size, in_dims[:4], z, *parameters)
        return recorded_joint(z, components).to(dtype), 0


def recorded_joint(z: Tensor, components: Components) -> Tensor:
    """Joint log-densities by operations that autograd records: any batch shape, no choice that depends on values."""
    if is_exporting() and has_float64(z.device):
        return exported_joint(z, components)
    if _takes_differences(z, components):
        return Differences(components).joint(z)
    center = components.center
    return Products(components, center).joint(point_features(z, center))


def recorded_joint_gradients(r: Tensor, z: Tensor, components: Components, needed: Needed) -> Gradients:
    """Gradients of sum_bk r_bk joint_bk by operations that autograd records."""
    r = r.to(torch.promote_types(r.dtype, torch.float32))
    row = r.new_ones(r.shape[:-1])
    of_z: Tensor | None = None
    of_components: Sequence[Tensor] = ()
    if _takes_differences(z, components):
        differences = Differences(components)
        if needed.points:
            of_z = differences.gradient_of_points(z, r, row)
        if needed.components:
            of_components = differences.gradients_of_components(z, r, row)
    else:
        products, features = Products(components, components.center), point_features(z, components.center)
        r = r.double()
        if needed.points:
            of_z = gradient_of_points(r @ products.slopes, features[..., z.shape[-1] : 2 * z.shape[-1]], row)
        if needed.components:
            of_components = products.gradients_of_components(features[..., :-1].mT @ r)
    return Gradients(of_z, *of_components)


def recorded_log_prob_gradients(grad: Tensor, z: Tensor, components: Components, needed: Needed) -> Gradients:
    """Gradients of sum_b grad_b log p(z_b) by operations that autograd records."""
    r = _responsibilities(recorded_joint(z, components))
    return recorded_joint_gradients(r * grad.unsqueeze(-1), z, components, needed)


def _takes_differences(z: Tensor, components: Components) -> bool:
    numbers = z.numel() * components.loc.shape[-2]
    return numbers <= RECORDED_DIFFERENCES or not has_float64(z.device)


def _responsibilities(joint: Tensor) -> Tensor:
    """softmax, and zero if all components are -inf."""
    empty = (joint == -math.inf).all(-1, keepdim=True)
    return torch.softmax(joint.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)


def _joint_tangent(z: Tensor, components: Components, tangents: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor]:
    """Return joint log-densities and their derivatives along the tangents, by differences: (b, k) each."""
    along_z, along_weights, along_loc, along_scale = tangents
    standardized = (z.unsqueeze(-2) - components.loc) / components.scale
    change = torch.zeros_like(standardized)
    if along_z is not None:
        change = change + along_z.unsqueeze(-2)
    if along_loc is not None:
        change = change - along_loc
    if along_scale is not None:
        change = change - standardized * along_scale
    tangent = -(standardized * change / components.scale).sum(-1)
    if along_scale is not None:
        tangent = tangent - (along_scale / components.scale).sum(-1)
    if along_weights is not None:
        tangent = tangent + along_weights
    return recorded_joint(z, components), tangent


def _batched(size: int, in_dims: tuple[int | None, ...], z: Tensor, *parameters: Tensor) -> tuple[Tensor, Components]:
    """Return all arguments with vmap's dimension in front."""
    arguments = [
        x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip((z, *parameters), in_dims, strict=True)
    ]
    return arguments[0], Components(*arguments[1:])


def _needed(ctx: Any) -> Needed:
    return Needed(ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:4]))


def _cast(gradients: Gradients, z: Tensor, components: Components) -> Gradients:
    """Convert gradients to the dtypes of their arguments."""
    arguments = (z, *components)
    return Gradients(*(None if g is None else g.to(x.dtype) for g, x in zip(gradients, arguments, strict=True)))
