"""What a failed step says."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

SHOWN_ROWS = 8
ADVICE = (
    "Lower the learning rate, lower gradient_clip (the largest norm of the gradient), bound the scales that the "
    "encoder, decoder and prior can reach"
)
REFUSALS = ("Expected parameter", "Expected value argument")  # how torch's distributions begin


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or a parameter became NaN or infinite; the epoch is no part of the run's state.

    Attributes:
        term: "reconstruction", "KL", "reconstruction and KL", "gradient" where the loss was finite, or "parameter"
            where an epoch's last step left one.
        group: "encoder", "decoder", "prior", ...: the first whose parameters, else gradients, are not finite; else the
            one with the largest gradient, before the first one the largest parameters.
        parameter: the first of the VAE's parameters that is not finite, else whose gradient is not, by its full name;
            None where there is none.
        epoch: counted from 0.
        batch: in the epoch, counted from 0; None for validation and for a parameter.
        rows: rows of the batch whose terms are not finite, at most eight; all of the batch's first where only the
            gradient is not.
    """

    def __init__(
        self,
        message: str,
        *,
        term: str,
        group: str,
        parameter: str | None,
        epoch: int,
        batch: int | None,
        rows: Sequence[int] = (),
    ) -> None:
        super().__init__(message)
        self.term, self.group, self.parameter = term, group, parameter
        self.epoch, self.batch, self.rows = epoch, batch, list(rows)


class GroupState(NamedTuple):
    """A child module of the VAE in a failed step; norms are Euclidean."""

    name: str
    parameters: float
    gradient: float

    def __str__(self) -> str:
        return f"{self.name}: parameters {_norm(self.parameters)}, gradient {_norm(self.gradient)}"


def failed_step(
    vae: nn.Module,
    reconstruction: Tensor | None,
    kl: Tensor | None,
    rows: Tensor,
    *,
    epoch: int,
    batch: int | None,
    refusal: str = "",
) -> NonFiniteLossError:
    """The error for a batch whose terms per datum (None where a refusal kept them from being computed) are given."""
    terms = {"reconstruction": reconstruction, "KL": kl}
    bad = {name: _not_finite(values, len(rows)) for name, values in terms.items() if values is not None}
    bad |= {name: torch.ones(len(rows), dtype=torch.bool) for name, values in terms.items() if values is None}
    names = [name for name, mask in bad.items() if mask.any()]
    mask = bad["reconstruction"] | bad["KL"] if names else torch.ones(len(rows), dtype=torch.bool)
    term = " and ".join(sorted(names, reverse=True)) if names else "gradient"
    groups = _groups(vae)
    group = suspect(groups)
    shown = rows.cpu()[mask][:SHOWN_ROWS].tolist()
    parameter = _first_not_finite(vae)[1]
    kind = "too large for its norm" if term == "gradient" and parameter is None else "NaN or infinite"
    place = _place(vae, group, groups) + (f" ({refusal})" if refusal else "")
    message = _message(term, kind, place, shown, int(mask.sum()), len(rows), epoch, batch)
    return NonFiniteLossError(
        message, term=term, group=group, parameter=parameter, epoch=epoch, batch=batch, rows=shown
    )


def check_parameters(vae: nn.Module, *, epoch: int) -> None:
    """Looks at what an epoch's last step has left, which no loss has seen yet.

    Raises:
        NonFiniteLossError: a parameter is NaN or infinite.
    """
    if all(bool(torch.isfinite(p).all()) for p in vae.parameters()):
        return
    groups = _groups(vae)
    group, (_, parameter) = suspect(groups), _first_not_finite(vae)
    message = (
        f"training stopped at the end of epoch {epoch}: the last step left NaN or infinite parameters; "
        f"{_place(vae, group, groups)}. The epoch was not saved. {ADVICE}."
    )
    raise NonFiniteLossError(message, term="parameter", group=group, parameter=parameter, epoch=epoch, batch=None)


@contextmanager
def invalid_parameters(vae: nn.Module, rows: Tensor, *, epoch: int, batch: int | None) -> Iterator[None]:
    """Turns the ValueError by which torch's distributions refuse NaN, before there is a loss, into ours."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(REFUSALS):
            raise
        refusal = " ".join(str(error).split(", but found")[0].split())
        raise failed_step(vae, None, None, rows, epoch=epoch, batch=batch, refusal=refusal) from error


def suspect(groups: Sequence[GroupState]) -> str:
    """The group to look at first."""
    for kind in ("parameters", "gradient"):
        for group in groups:
            if not math.isfinite(getattr(group, kind)):
                return group.name
    return max(groups, key=lambda group: (group.gradient, group.parameters)).name


def _message(
    term: str, kind: str, place: str, rows: list[int], bad: int, size: int, epoch: int, batch: int | None
) -> str:
    where = f"epoch {epoch}, " + ("validation" if batch is None else f"batch {batch}")
    dots = ", ..." if bad > len(rows) else ""
    what = "the gradient of a finite loss" if term == "gradient" else f"the {term} term"
    kept = "The epoch was not saved" if batch is None else "The step was not taken"
    return (
        f"training stopped at {where}: {what} is {kind} for {bad} of {size} rows "
        f"(rows {', '.join(map(str, rows))}{dots}); {place}. {kept}. {ADVICE}, and look at the values of these rows."
    )


def _place(vae: nn.Module, group: str, groups: Sequence[GroupState]) -> str:
    what, parameter = _first_not_finite(vae)
    named = "" if parameter is None else f"; the first {what} that is not finite: {parameter}"
    return f"look at the {group} first ({'; '.join(map(str, groups))}{named})"


def _first_not_finite(vae: nn.Module) -> tuple[str, str | None]:
    """What is not finite, "parameter" or "gradient", and the name of the first; None where all are finite."""
    for name, parameter in vae.named_parameters():
        if not torch.isfinite(parameter).all():
            return "parameter", name
    for name, parameter in vae.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return "gradient", name
    return "", None


def _not_finite(values: Tensor, size: int) -> Tensor:
    return (~torch.isfinite(values.detach())).cpu().reshape(size)


def _groups(vae: nn.Module) -> list[GroupState]:
    return [_group(name, child) for name, child in vae.named_children() if any(True for _ in child.parameters())]


def _group(name: str, module: nn.Module) -> GroupState:
    parameters = list(module.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    return GroupState(name, _total_norm([p.detach() for p in parameters]), _total_norm(gradients))


def _total_norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def _norm(value: float) -> str:
    return f"norm {value:.3g}" if math.isfinite(value) else "not finite"
