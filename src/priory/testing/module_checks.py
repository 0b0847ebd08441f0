"""The checks of modules: gradients, state, moves to another dtype or device, global settings of the process."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from priory._support.imports import first_line, located
from priory.testing.candidate import Candidate, is_factory
from priory.testing.global_state import EVERYTHING, OTHER_GENERATORS, SETTINGS, changes, preserved, snapshot
from priory.testing.report import Outcome, SkippedError
from priory.testing.subject import Subject
from priory.testing.value_checks import in_precision, other_precision

STEP_SIZES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)  # the smaller ones for networks with kinks and for rough flows
LARGEST_SLOPE_ERROR = 1e-4
STARTS = (2_654_435_769, 1_779_033_703)  # unusual seeds: setting a seed that is already set would change nothing


def gradients_exist(subject: Subject) -> Outcome:
    """log_prob gives z and every parameter a finite gradient, and none that is zero for all parameter values.

    Exception: parameters that have no effect because they are normalized over one entry. In a mixture of one
    component, log softmax(w) = 0 for any logit w.
    """
    gradients = _gradients(subject.candidate, subject.some)
    missing = [name for name, gradient in gradients.items() if gradient is None]
    if missing:
        return Outcome(False, f"no gradient: {', '.join(missing)}")
    broken = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    if broken:
        return Outcome(False, f"gradient not finite: {', '.join(broken)}")
    zero = [name for name, gradient in gradients.items() if gradient is not None and not gradient.any()]
    seen = f"finite for z and {len(gradients) - 1} parameters"
    if zero and isinstance(subject.candidate.built, nn.Module):
        elsewhere = _gradients(_disturbed(subject.candidate, subject.some), subject.some)  # a layer may start at 0
        zero = [name for name in zero if (gradient := elsewhere[name]) is None or not gradient.any()]
        rightly = [name for name in zero if _normalized_over_one(subject, name)]
        if rightly != zero:
            return Outcome(False, f"gradient zero: {', '.join(name for name in zero if name not in rightly)}")
        if rightly:
            seen += f"; zero, as it should be, for {', '.join(rightly)}: the density is constant in it (one entry)"
    return Outcome(True, seen)


def gradients_right(subject: Subject) -> Outcome:
    """Compare gradients with central differences in float64, along a random direction of z and of each parameter."""
    if isinstance(subject.candidate.built, nn.Module):
        candidate = subject.candidate.moved(torch.float64)
    else:
        candidate = subject.candidate
        in_precision(subject, torch.float64)
    z = subject.some[:16].double()
    coefficients = torch.randn(len(z)).to(z)  # so that errors at different points do not cancel
    gradients = _gradients(candidate, z, coefficients)
    if all(gradient is None for gradient in gradients.values()):
        raise SkippedError("there is no gradient to compare with")
    leaves: dict[str, Tensor] = {"z": z, **_parameters(candidate)}
    errors, refused = dict[str, float](), dict[str, str]()
    with torch.no_grad():
        for name, leaf in leaves.items():
            gradient = gradients[name]
            if gradient is None:
                continue  # gradients_exist reports it
            try:
                errors[name] = _difference_error(candidate, z, coefficients, leaf, gradient)
            except ValueError as error:  # a random direction leaves a constraint: a triangle, a simplex
                refused[name] = first_line(error)
    untold = f"undecided for {', '.join(refused)}: small changes are refused ({'; '.join(refused.values())})"
    if not errors:
        raise SkippedError(untold)
    where = max(errors, key=errors.__getitem__)
    seen = f"differs from central differences by {errors[where]:.1g} of the slope, most in {where}"
    return Outcome(errors[where] < LARGEST_SLOPE_ERROR, f"{seen}; {untold}" if refused else seen)


def state_dict_complete(subject: Subject) -> Outcome:
    """Everything that affects the density is a parameter or a buffer, and loading the state restores the density."""
    plain = list(_plain_tensors(subject.candidate.module))
    if plain:
        return Outcome(False, f"neither parameter nor buffer: {', '.join(plain)}")
    other, how = subject.candidate.copied(), "a copy with other values"
    if is_factory(located(subject.obj)):
        with preserved(subject.seed + 1):
            other, how = subject.build(), "another from the factory"
    with torch.no_grad():
        saved = {name: value.clone() for name, value in subject.candidate.module.state_dict().items()}
        _disturb(other.module.state_dict().values())
        with suppress(ValueError, RuntimeError):  # random numbers may be invalid
            other.density().log_prob(subject.some)  # a cache of this result must not survive loading
        other.module.load_state_dict(saved)
        expected = subject.candidate.density().log_prob(subject.some)
        values = other.density().log_prob(subject.some)
    difference = (values - expected).abs().max().item()
    close = torch.allclose(values, expected, rtol=1e-5, atol=1e-5)
    return Outcome(close, f"{len(saved)} tensors loaded into {how}: the density differs by {difference:.1g}")


def state_dict_clean(subject: Subject) -> Outcome:
    """The state has only the prior's own tensors: none of the encoder's, and none that use adds or changes."""
    module, encoder = subject.candidate.module, subject.candidate.encoder
    before = _state(module, encoder)
    with torch.no_grad():
        density = subject.candidate.density()
        density.log_prob(density.sample(torch.Size((3,))))
    after = _state(module, encoder)
    changed = sorted(name for name in before.keys() | after.keys() if not _same(before.get(name), after.get(name)))
    if changed:
        return Outcome(False, f"entries that appear or change by use: {', '.join(changed)}")
    if not isinstance(encoder, nn.Module):
        return Outcome(True, f"{len(before)} entries, none appears or changes by use; no encoder was given to look for")
    theirs = {id(tensor) for tensor in _tensors(encoder).values()}
    held = sorted(name for name, tensor in _tensors(module).items() if id(tensor) in theirs)
    own = f"{len(module.state_dict())} entries, none of them the encoder's"
    return Outcome(not held, f"it holds the encoder's {', '.join(held)}" if held else own)


def moves(subject: Subject) -> Outcome:
    """A copy in another precision, and on an accelerator if there is one, works and returns its dtype and device."""
    z = subject.some
    other = other_precision(z.dtype)
    targets: list[Any] = [other, *(["cuda"] if z.device.type == "cpu" and torch.cuda.is_available() else [])]
    for target in targets:
        copied = subject.candidate.moved(target)
        density = copied.density()
        with torch.no_grad():
            values, drawn = density.log_prob(z.to(target)), density.sample(torch.Size((3,)))
        expected = z.to(target)
        for what, tensor in (("log_prob", values), ("sample", drawn)):
            if (tensor.dtype, tensor.device.type) != (expected.dtype, expected.device.type):
                return Outcome(False, f"after .to({target}), {what} gives {tensor.dtype} on {tensor.device.type}")
    names = ", ".join(str(target).removeprefix("torch.") for target in targets)
    return Outcome(True, f"moved to {names}" + ("" if len(targets) > 1 else " (no accelerator here)"))


def global_state_untouched(subject: Subject) -> Outcome:
    """Settings do not change; log_prob draws no random numbers; sample uses torch's generators and sets no seed."""
    changed = list(subject.changed_by_building)
    with preserved(STARTS[0]):
        before = snapshot(EVERYTHING)
        _gradients(subject.candidate, subject.some)
        changed += [f"{what} (by log_prob)" for what in changes(before)]
    with preserved(STARTS[0]):
        before = snapshot({**SETTINGS, **OTHER_GENERATORS})
        subject.candidate.density().sample(torch.Size((3,)))
        changed += [f"{what} (by sample)" for what in changes(before)]
    changed += [f"{what} (by sample)" for what in _seeded_by_sampling(subject)]
    return Outcome(
        not changed, "; ".join(changed) if changed else f"{len(EVERYTHING)} settings and generators as before"
    )


def _seeded_by_sampling(subject: Subject) -> list[str]:
    """Describe signs that a sampler sets a seed: the generator's end state or the draws do not depend on its start."""
    ends: list[Tensor] = []
    for start in STARTS:
        with preserved(start):
            first, second = (subject.candidate.density().sample(torch.Size((3,))) for _ in range(2))
            ends.append(torch.get_rng_state())
    signs = ["torch's generator seeded"] if torch.equal(*ends) else []
    return [*signs, "the same draws at every call"] if torch.equal(first, second) else signs


def _parameters(candidate: Candidate) -> dict[str, Tensor]:
    if not isinstance(candidate.built, nn.Module):
        return {}
    return {name: value for name, value in candidate.built.named_parameters() if value.requires_grad}


def _gradients(candidate: Candidate, z: Tensor, coefficients: Tensor | None = None) -> dict[str, Tensor | None]:
    """Return the gradients of the (weighted) sum of log_prob in z and every parameter; `.grad` does not change."""
    with torch.enable_grad():
        leaves = {"z": z.detach().clone().requires_grad_(), **_parameters(candidate)}
        values = candidate.density().log_prob(leaves["z"])
        total = values.sum() if coefficients is None else values @ coefficients
        if not total.requires_grad:
            return dict.fromkeys(leaves)
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return dict(zip(leaves, gradients, strict=True))


def _difference_error(candidate: Candidate, z: Tensor, coefficients: Tensor, leaf: Tensor, gradient: Tensor) -> float:
    """Return |slope - central difference| over the larger of the two, beyond rounding.

    The best step size and direction count: a difference may cross a kink of a network, but a wrong gradient is wrong
    along every direction. `leaf` is z or a parameter; it is changed in place and restored.
    """
    start = leaf.clone()
    errors: list[float] = []

    def moved(displacement: Tensor | float) -> float:
        leaf.copy_(start + displacement)
        return (candidate.density().log_prob(z) @ coefficients).item()

    try:
        magnitude = abs(moved(0.0))
        for step in STEP_SIZES * 2:
            direction = torch.randn_like(leaf)
            slope = (gradient * direction).sum().item()
            difference = (moved(step * direction) - moved(-step * direction)) / (2 * step)
            rounding, size = 1e-14 * (1 + magnitude) / step, max(abs(difference), abs(slope), 1e-6)
            if errors and rounding > LARGEST_SLOPE_ERROR * size:
                continue  # rounding dominates for this step
            errors.append(max(0.0, abs(difference - slope) - rounding) / size)
            if errors[-1] < LARGEST_SLOPE_ERROR / 10:
                break
    finally:
        leaf.copy_(start)
    return min(errors)


def _normalized_over_one(subject: Subject, name: str) -> bool:
    """Return whether a parameter has an axis with one entry, and the density does not depend on its values.

    Both conditions are necessary: a parameter that is detached from the graph affects the density, and an unused
    parameter is not the weight of a single component unless it has that shape.
    """
    parameters = _parameters(subject.candidate)
    if name not in parameters or (parameters[name].ndim > 0 and 1 not in parameters[name].shape):
        return False
    other = subject.candidate.copied()
    leaf, tried = _parameters(other)[name], 0
    with torch.no_grad():
        expected, start = subject.candidate.density().log_prob(subject.some), leaf.clone()
        for step in (0.3, 3.0, -0.3, -3.0):  # both signs, because some parameters must be positive
            leaf.copy_(start + step * (1 + torch.rand_like(start)))
            try:
                values = other.density().log_prob(subject.some)
            except ValueError:  # the object refuses such numbers
                continue
            tried += 1
            if not torch.allclose(values, expected, rtol=1e-6, atol=1e-6):
                return False
    return tried > 0


def _disturbed(candidate: Candidate, z: Tensor) -> Candidate:
    """Return a copy with other parameters, except those that raise a ValueError for other numbers."""
    other = candidate.copied()
    for parameter in other.module.parameters():
        original = parameter.detach().clone()
        _disturb([parameter])
        with torch.no_grad():
            try:
                other.density().log_prob(z)
            except ValueError:
                parameter.copy_(original)
    return other


def _disturb(tensors: Any) -> None:
    """Add random numbers in place; integers and flags do not change."""
    with torch.no_grad():
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn_like(tensor))


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _state(module: nn.Module, encoder: Any) -> dict[str, Tensor]:
    """Return copies of everything that a module and its encoder save."""
    state = {name: value.clone() for name, value in module.state_dict().items()}
    if isinstance(encoder, nn.Module):
        state |= {f"the encoder's {name}": value.clone() for name, value in encoder.state_dict().items()}
    return state


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    return first is not None and second is not None and torch.equal(first, second)


def _plain_tensors(module: nn.Module) -> Iterator[str]:
    """Yield tensors among the attributes of a module and its children, also in lists, tuples and dictionaries."""
    for path, owner in module.named_modules():
        for name, value in vars(owner).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                yield from (f"{path}.{inner}" if path else inner for inner in _tensor_names(name, value))


def _tensor_names(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Tensor):
        yield name
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _tensor_names(f"{name}[{i}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensor_names(f"{name}[{key!r}]", item)
