"""The blocked densities as functions that autograd, `torch.func` and `torch.compile` know."""

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
    Products,
    Wanted,
    gradient_of_points,
    has_float64,
    point_features,
)

# Numbers b x k x L up to which recorded operations take differences, which are always exact, else products.
RECORDED_DIFFERENCES = 2**20


class MixtureLogProb(torch.autograd.Function):
    """(z, log_weights, loc, scale) -> log p(z), with two tensors that backward needs where they are small.

    Gradients of gradients, and everything under `torch.func`, are made of recorded operations of size b x k.
    """

    @staticmethod
    def forward(z: Tensor, log_weights: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _forward(z, Components(log_weights, loc, scale))[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.save_for_forward(*inputs)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        return _backward(ctx, grad, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None, None]:
        z, *parameters = ctx.saved_tensors
        joint, tangent = _joint_tangent(z, Components(*parameters), tangents)
        return (_responsibilities(joint) * tangent).sum(-1), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], z: Tensor, *parameters: Tensor) -> tuple[Any, Any]:
        if all(dim is None for dim in in_dims[1:]):
            rows = z.movedim(in_dims[0] or 0, 0)
            log_sum, terms, reciprocal = MixtureLogProb.apply(rows.flatten(0, 1), *parameters)
            return (log_sum.unflatten(0, rows.shape[:2]), terms, reciprocal), (0, None, None)
        z, components = _batched(info.batch_size, in_dims, z, *parameters)
        log_sum = torch.logsumexp(recorded_joint(z, components), -1)
        return (log_sum, log_sum.new_empty(0), log_sum.new_empty(0)), (0, None, None)


class EagerMixtureLogProb(torch.autograd.Function):
    """`MixtureLogProb` in the older style, which `torch.func` does not take: its `apply` needs half of the time."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output, ctx.walk = _forward(inputs[0], Components(*inputs[1:]))
        MixtureLogProb.setup_context(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        return _backward(ctx, grad, ctx.walk)

    jvp = MixtureLogProb.jvp


def _forward(z: Tensor, components: Components) -> tuple[Exponentials, Walk | None]:
    """What was found; and the walk, prepared, where it is short."""
    found = small.log_prob(z, components) if small.is_small(z, components) else None
    if found is not None:
        return found, None
    walk = Walk(z, components)
    found = blocked.log_prob(walk)
    if small.is_small(z, components):  # and has a density that is zero or NaN: nothing that `small` can go back from
        return Exponentials(found.log_sum, *found.log_sum.new_empty(2, 0)), None
    return found, walk if len(found.reciprocal) else None


def _backward(ctx: Any, grad: Tensor | None, walk: Walk | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 4
    z, *parameters, log_sum, terms, reciprocal = ctx.saved_tensors
    components, found, wanted = Components(*parameters), Exponentials(log_sum, terms, reciprocal), _wanted(ctx)
    if torch.is_grad_enabled():
        return _cast(recorded_log_prob_gradients(grad, z, components, wanted), z, components)
    if small.is_small(z, components) and len(reciprocal):
        return _cast(small.log_prob_gradients(grad, z, components, found, wanted), z, components)
    return blocked.log_prob_gradients(grad, Walk(z, components) if walk is None else walk, found, wanted)


def mixture_log_prob(z: Tensor, components: Components) -> Tensor:
    """log p(z_b) by the function that the surroundings can take."""
    if torch.compiler.is_compiling():
        return compiled.mixture_log_prob(z, *components)
    function = MixtureLogProb if is_transformed() else EagerMixtureLogProb
    return function.apply(z, *components)[0]


def is_transformed() -> bool:
    """Whether `torch.compile` or a transform of `torch.func` is at work, so that no choice may depend on values."""
    # Where torch no longer tells, the answer that works everywhere.
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
        components, wanted = Components(*parameters), _wanted(ctx)
        if torch.is_grad_enabled():
            return *_cast(recorded_joint_gradients(grad, z, components, wanted), z, components), None
        return *blocked.joint_gradients(grad, z, components, wanted), None

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
    """Joint log-densities as operations that autograd records: any batch shape, no choice that depends on values."""
    if _takes_differences(z, components):
        return Differences(components).joint(z)
    center = components.center
    return Products(components, center).joint(point_features(z, center))


def recorded_joint_gradients(r: Tensor, z: Tensor, components: Components, wanted: Wanted) -> Gradients:
    """Gradients of sum_bk r_bk joint_bk as operations that autograd records."""
    r = r.to(torch.promote_types(r.dtype, torch.float32))
    row = r.new_ones(r.shape[:-1])
    of_z: Tensor | None = None
    of_components: Sequence[Tensor] = ()
    if _takes_differences(z, components):
        differences = Differences(components)
        if wanted.points:
            of_z = differences.gradient_of_points(z, r, row)
        if wanted.components:
            of_components = differences.gradients_of_components(z, r, row)
    else:
        products, features, r = (
            Products(components, components.center),
            point_features(z, components.center),
            r.double(),
        )
        if wanted.points:
            of_z = gradient_of_points(r @ products.slopes, features[..., z.shape[-1] : 2 * z.shape[-1]], row)
        if wanted.components:
            of_components = products.gradients_of_components(features[..., :-1].mT @ r)
    return Gradients(of_z, *of_components)


def recorded_log_prob_gradients(grad: Tensor, z: Tensor, components: Components, wanted: Wanted) -> Gradients:
    """Gradients of sum_b grad_b log p(z_b) as operations that autograd records."""
    r = _responsibilities(recorded_joint(z, components))
    return recorded_joint_gradients(r * grad.unsqueeze(-1), z, components, wanted)


def _takes_differences(z: Tensor, components: Components) -> bool:
    numbers = z.numel() * components.loc.shape[-2]
    return numbers <= RECORDED_DIFFERENCES or not has_float64(z.device)


def _responsibilities(joint: Tensor) -> Tensor:
    """softmax, and zero where all components are -inf."""
    empty = (joint == -math.inf).all(-1, keepdim=True)
    return torch.softmax(joint.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)


def _joint_tangent(z: Tensor, components: Components, tangents: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor]:
    """Joint log-densities and how they change along the tangents, by differences: (b, k) each."""
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
    """Everything with vmap's dimension in front."""
    arguments = [
        x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip((z, *parameters), in_dims, strict=True)
    ]
    return arguments[0], Components(*arguments[1:])


def _wanted(ctx: Any) -> Wanted:
    return Wanted(ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:4]))


def _cast(gradients: Gradients, z: Tensor, components: Components) -> Gradients:
    """In the dtypes of what they are the gradients of."""
    arguments = (z, *components)
    return Gradients(*(None if g is None else g.to(x.dtype) for g, x in zip(gradients, arguments, strict=True)))
