"""The log-density of a mixture of diagonal normals, block by block, with its gradients from further matrix products.

    log p(z_b) = log sum_k exp(joint_bk),    joint_bk = log pi_k + log N(z_b | loc_k, diag(scale_k^2))

Forward goes over blocks of components and points with an online log-sum-exp and keeps one number per point; backward
computes the responsibilities of each block again. This is the algorithm of flash attention, for mixtures. Only the
arguments, their gradients and a block are in memory. A single block's exponentials are kept for backward.

Autograd records nothing here: `functions.py` calls these functions.

References: Dao et al. 2022, arXiv:2205.14135 (blocks and recomputation); Milakov & Gimelshein 2018, arXiv:1805.02867
(online softmax).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from priory.density.blocks import ComponentSums, Pair, PointSums, Walk
from priory.density.components import Components, Exponentials, Gradients, Needed, lowest_exponent, working_dtype

REFERENCE_MAY_BE_OFF = -300.0, 600.0  # nats: below, float64 exponentials vanish in any sum; above, they overflow
SOME = 32  # components whose largest joint log-density is the first reference
KEPT_EXPONENTIALS = 2**19  # b x k numbers that forward keeps for backward


def exponentials(joint: Float[Tensor, "point component"]) -> Exponentials:
    """Compute `Exponentials`; `joint` is overwritten."""
    largest = joint.amax(-1)
    empty = largest == -math.inf
    joint.sub_(largest.masked_fill(empty, 0.0).unsqueeze(-1)).clamp_(min=lowest_exponent(joint.dtype)).exp_()
    total = joint.sum(-1)
    return Exponentials(largest + total.log(), joint, total.reciprocal().masked_fill(empty, 0.0))


def exponentials_about(
    reference: Float[Tensor, " point"], pair: Pair, out: Float[Tensor, "point component"]
) -> Exponentials | None:
    """`exponentials` of a pair with a given reference instead of each row's largest term, which need not be searched.

    In float64 a reference may be wrong by hundreds of nats. Returns None if one was wrong by more, or is infinite.
    Overwrites `out`.
    """
    terms = pair.with_shift(-reference).joint(out).clamp_(*REFERENCE_MAY_BE_OFF).exp_()
    total = terms.sum(-1)
    if not float(total.amax()) < math.exp(REFERENCE_MAY_BE_OFF[1] - 1):  # also false for NaN
        return None
    return Exponentials(reference + total.log(), terms, total.reciprocal())


def log_prob(walk: Walk) -> tuple[Float[Tensor, " point"], Exponentials | None]:
    """log p(z_b) in nats, in the working dtype; also the exponentials if there are few, else None."""
    shape = len(walk.z), len(walk.components.loc)
    dtype, device = working_dtype(walk.z.device), walk.z.device
    few = math.prod(shape) <= KEPT_EXPONENTIALS and shape[1] <= walk.sizes.components
    log_sum = torch.full(shape[:1], -math.inf, dtype=dtype, device=device)
    saved = Exponentials(log_sum, log_sum.new_empty(shape), torch.empty_like(log_sum)) if few else None
    about_references = dtype == torch.float64  # until a reference is too far off
    for part, block in walk.component_blocks():
        for rows, points in walk.point_blocks():
            pair = block.at(points)
            out = walk.workspace(pair) if saved is None else saved.terms[rows]
            of_block = None
            if about_references:
                reference = log_sum[rows] if part.start else pair.largest_of_some(SOME)
                of_block = None if reference is None else exponentials_about(reference, pair, out)
                about_references = of_block is not None
            if of_block is None:
                of_block = exponentials(pair.joint(out))
            torch.logaddexp(log_sum[rows], of_block.log_sum, out=log_sum[rows])
            if saved is not None:
                saved.reciprocal[rows] = of_block.reciprocal
    return log_sum, saved


def log_prob_gradients(
    grad: Float[Tensor, " point"],
    walk: Walk,
    log_sum: Float[Tensor, " point"],
    saved: Exponentials | None,
    needed: Needed,
) -> Gradients:
    """Gradients of sum_b grad_b log p(z_b); zero if the density is zero.

    `log_sum` and `saved` are the results of `log_prob`; its walk has the prepared points.
    """
    grad = grad.to(log_sum.dtype)
    empty = log_sum == -math.inf
    if bool(empty.any()):
        grad, log_sum = grad.masked_fill(empty, 0.0), log_sum.masked_fill(empty, 0.0)
        walk = Walk(walk.z.masked_fill(empty.unsqueeze(-1), 0.0), walk.components)  # infinity times zero is NaN
    if saved is not None:
        return gradients(walk.again(grad * saved.reciprocal), lambda rows, part, pair: saved.terms[rows], needed)
    shifted = Walk(walk.z, walk.components, -log_sum, grad)

    def responsibilities(rows: slice, part: slice, pair: Pair) -> Tensor:
        exponents = pair.joint(out=shifted.workspace(pair))
        return exponents.clamp_(min=lowest_exponent(exponents.dtype)).exp_()

    return gradients(shifted, responsibilities, needed)


def joint_log_prob(
    z: Float[Tensor, "point latent"], components: Components, dtype: torch.dtype
) -> Float[Tensor, "point component"]:
    """log pi_k + log N(z_b | loc_k, diag(scale_k^2)) in nats, for all points and components."""
    walk = Walk(z, components)
    result = torch.empty(len(z), len(components.loc), dtype=dtype, device=z.device)
    for part, block in walk.component_blocks():
        for rows, points in walk.point_blocks():
            pair = block.at(points)
            result[rows, part] = pair.joint(out=walk.workspace(pair))
    return result


def joint_gradients(
    grad: Float[Tensor, "point component"], z: Float[Tensor, "point latent"], components: Components, needed: Needed
) -> Gradients:
    """Gradients of sum_bk grad_bk joint_bk."""
    row = torch.ones(len(z), dtype=working_dtype(z.device), device=z.device)
    walk = Walk(z, components, row=row)
    return gradients(walk, lambda rows, part, pair: grad[rows, part].to(row.dtype), needed)


def gradients(walk: Walk, weights: Callable[[slice, slice, Pair], Tensor], needed: Needed) -> Gradients:
    """Gradients of sum_b row_b sum_k weights_bk joint_bk with the weights held fixed, in the arguments' dtypes.

    `weights` returns the weights of a pair of blocks, (b, k), given its rows, its components and the pair.
    """
    of_points = PointSums(walk)
    of_components = [torch.empty_like(parameter) for parameter in walk.components] if needed.components else []
    for part, block in walk.component_blocks():
        sums = ComponentSums(block)
        for rows, points in walk.point_blocks():
            pair = block.at(points)
            r = weights(rows, part, pair)
            if needed.points:
                pair.add_to_points(r, of_points, rows)
            if needed.components:
                pair.add_to_components(r, sums)
        if needed.components:
            for result, value in zip(of_components, sums.gradients(), strict=True):
                result[part] = value
    return Gradients(of_points.gradient() if needed.points else None, *of_components)
