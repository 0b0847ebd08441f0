"""The checks of the values and shapes of log_prob and sample."""

from typing import Any

import torch
from torch import Tensor

from priory.testing.candidate import Candidate
from priory.testing.proposal import Points
from priory.testing.report import Outcome, SkippedError
from priory.testing.subject import Subject

FAR = (10.0, 100.0, 1000.0)  # in standard deviations


def one_number_per_z(subject: Subject) -> Outcome:
    """A batch gives one real number per row, which depends neither on the other rows nor on the call."""
    z, latent_dim = subject.some, subject.latent_dim
    event_shape = tuple(getattr(subject.density, "event_shape", (latent_dim,)))
    batch_shape = tuple(getattr(subject.density, "batch_shape", ()))
    if (batch_shape, event_shape) != ((), (latent_dim,)):
        return Outcome(False, f"batch shape {batch_shape} and event shape {event_shape} for z of shape ({latent_dim},)")
    with torch.no_grad():
        for rows in (z, z[: min(latent_dim, len(z))]):  # as many rows as dimensions, which may conceal a wrong axis
            values = subject.density.log_prob(rows)
            if values.shape != rows.shape[:1] or not values.is_floating_point():
                return Outcome(False, f"{_form(values)} for z of shape {tuple(rows.shape)}")
        values = subject.density.log_prob(z)
        alone = torch.cat([subject.density.log_prob(row) for row in z[:5].split(1)])
        again = subject.density.log_prob(z)
    change = max(_error(alone, values[:5]), _error(again, values))
    return Outcome(change < _tolerance(values), f"{_form(values)}; alone or repeated the same within {change:.1g}")


def broadcast_shapes(subject: Subject) -> Outcome:
    """log_prob and sample accept any batch shape and return it."""
    z, latent_dim = subject.some, subject.latent_dim
    flat = subject.density.log_prob(z[:6]).detach()
    for shape in ((), (6,), (2, 3), (2, 1, 3)):
        drawn = subject.draw(shape)
        if drawn.shape != (*shape, latent_dim):
            return Outcome(False, f"sample({shape}) has shape {tuple(drawn.shape)}, not {(*shape, latent_dim)}")
        points = z[: max(1, torch.Size(shape).numel())].reshape(*shape, latent_dim)
        values = subject.density.log_prob(points).detach()
        if values.shape != shape:
            return Outcome(False, f"{_form(values)} for z of shape {tuple(points.shape)}")
        error = _error(values.reshape(-1), flat[: values.numel()])
        if not error < _tolerance(flat):
            return Outcome(False, f"values for z of shape {tuple(points.shape)} differ by {error:.2g} from its rows'")
    return Outcome(True, "log_prob and sample with batch shapes (), (6,), (2, 3), (2, 1, 3)")


def permutation_of_components(subject: Subject) -> Outcome:
    """The density is the sum over its components in any order, and reordering them in `state_dict` keeps it."""
    components = subject.components
    if components is None:
        raise SkippedError("its components are not accessible (mixture_distribution, or log_weights and components)")
    z = subject.some
    order = torch.arange(len(components.log_weights), device=z.device).roll(1)  # no component stays in its place
    with torch.no_grad():
        values = subject.density.log_prob(z)
        terms = components.log_prob(z)
        if terms.shape != (len(z), len(order)):
            raise SkippedError(f"components' log_prob of shape {tuple(terms.shape)}, not (B, K): cannot be compared")
        error = _error(torch.logsumexp(terms[:, order], -1), values)
        what = "the sum over its components"
        names = _component_tensors(subject, len(order))
        if names:
            error = max(error, _error(_reordered(subject.candidate, names, order).log_prob(z), values))
            what += f" and itself with {', '.join(names)} reordered"
    return Outcome(error < _tolerance(values), f"K = {len(order)}: differs by {error:.1g} from {what}")


def single_component(subject: Subject) -> Outcome:
    """A mixture with one component equals the component."""
    if subject.single is not None:
        subject = Subject(subject.single, encoder=subject.encoder, seed=subject.seed)
    elif subject.components is None or len(subject.components.log_weights) > 1:
        raise SkippedError("no prior with one component was given (single=)")
    for check in (one_number_per_z, broadcast_shapes):
        outcome = check(subject)
        if not outcome.passed:
            return outcome
    if not torch.isfinite(subject.draws.start).all():
        return Outcome(False, "draws that are not finite")
    components = subject.components
    if components is None:
        return Outcome(True, "shapes and draws are correct; the component is not accessible for a comparison")
    with torch.no_grad():
        values = subject.density.log_prob(subject.some)
        error = _error(components.distribution.log_prob(subject.some.unsqueeze(-2)).squeeze(-1), values)
    return Outcome(error < _tolerance(values), f"differs by {error:.1g} from its component")


def equals_reference(subject: Subject) -> Outcome:
    """The density equals the reference, for example the documented start of a prior."""
    if subject.reference is None:
        raise SkippedError("no density to compare with was given (reference=)")
    reference = subject.named_density
    z = subject.some
    if hasattr(reference, "sample"):
        z = torch.cat([z, reference.sample((64,)).to(z)])
    log_prob = getattr(reference, "log_prob", reference)
    with torch.no_grad():
        expected = log_prob(z.double() if _takes_double(log_prob, z) else z)
        error = _error(subject.density.log_prob(z).to(expected), expected)
    return Outcome(error < _tolerance(z), f"differs by {error:.2g} from the reference (relative, at most 1 nat is 1)")


def float64_agreement(subject: Subject) -> Outcome:
    """log_prob returns the same numbers in the other precision."""
    z = torch.cat([subject.some, subject.some.mean(0) + 3 * (subject.some - subject.some.mean(0))])
    other = other_precision(z.dtype)
    with torch.no_grad():
        values = subject.density.log_prob(z)
        error = _error(in_precision(subject, other).log_prob(z.to(other)), values)
    return Outcome(error < 1e-3, f"relative difference {error:.1g} between {_name(z.dtype)} and {_name(other)}")


def far_tails_finite(subject: Subject) -> Outcome:
    """At a thousand standard deviations, the log-density and its gradient are finite."""
    draws = subject.draws.fit
    directions = torch.nn.functional.normalize(torch.randn(16, subject.latent_dim).double(), dim=-1)
    for distance in FAR:
        far = draws.mean(0) + distance * directions * draws.std(0)
        with torch.enable_grad():
            z = far.to(subject.some).requires_grad_()
            values = subject.candidate.density().log_prob(z)
            gradient = torch.autograd.grad(values.sum(), z)[0] if values.requires_grad else torch.zeros(())
        for what, numbers in (("log_prob", values), ("its gradient", gradient)):
            if not torch.isfinite(numbers).all():
                worst = numbers[~torch.isfinite(numbers)][0].item()
                return Outcome(False, f"{what} is {worst} at {distance:.0f} standard deviations")
    return Outcome(True, f"finite with finite gradients up to {FAR[-1]:.0f} standard deviations")


def other_precision(dtype: torch.dtype) -> torch.dtype:
    """Return float32 for float64, else float64."""
    return torch.float32 if dtype == torch.float64 else torch.float64


def in_precision(subject: Subject, dtype: torch.dtype) -> Any:
    """Return the density in another precision: of a copy of a module, or of a distribution that computes in float64."""
    if isinstance(subject.candidate.built, torch.nn.Module):
        return subject.candidate.moved(dtype).density()
    if not _takes_double(subject.density.log_prob, subject.some) or dtype != torch.float64:
        raise SkippedError(f"not a module, and its log_prob takes only {_name(subject.some.dtype)}")
    return subject.density


def _takes_double(log_prob: Any, z: Points) -> bool:
    """Return whether log_prob computes in float64 for float64 points."""
    try:
        return log_prob(z.double()).dtype == torch.float64
    except (RuntimeError, TypeError, ValueError):
        return False


def _component_tensors(subject: Subject, num_components: int) -> list[str]:
    """Return the entries of `state_dict` with one row per component, if they are unambiguous or given by the caller."""
    if subject.component_tensors is not None:
        return list(subject.component_tensors)
    if not isinstance(subject.candidate.built, torch.nn.Module) or num_components in (1, subject.latent_dim):
        return []
    state = subject.candidate.module.state_dict()
    names = [name for name, value in state.items() if num_components in value.shape]
    certain = all(state[name].shape[0] == num_components for name in names)
    return names if certain and len({name.rpartition(".")[0] for name in names}) == 1 else []


def _reordered(candidate: Candidate, names: list[str], order: Tensor) -> Any:
    duplicate = candidate.copied()
    state = duplicate.module.state_dict()
    missing = [name for name in names if name not in state]
    if missing:
        raise SkippedError(f"component_tensors: no {', '.join(missing)} in state_dict")
    duplicate.module.load_state_dict({**state, **{name: state[name][order].clone() for name in names}})
    return duplicate.density()


def _error(values: Tensor, expected: Tensor) -> float:
    """Return the largest |difference| / max(1, |expected|); infinity if only one is finite or either is NaN."""
    values, expected = values.detach().double(), expected.detach().double()
    if not (torch.isfinite(values).all() and torch.isfinite(expected).all()):
        return float("inf")
    return ((values - expected).abs() / expected.abs().clamp_min(1)).max().item() if len(values) else 0.0


def _tolerance(values: Tensor) -> float:
    """Return the tolerance for sums in another order: a thousand roundings."""
    return max(1e-4, 1000 * torch.finfo(values.dtype).eps)


def _form(values: Tensor) -> str:
    return f"log_prob of shape {tuple(values.shape)}, {_name(values.dtype)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
