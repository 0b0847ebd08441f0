"""Errors of training steps with NaN or infinite values, and the part of the model to look at first."""

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

SHOWN_ROWS = 8
ADVICE = (
    "Lower the learning rate, lower gradient_clip (the largest norm of the gradient), bound the scales that the "
    "encoder, decoder and prior can reach"
)
REFUSALS = ("Expected parameter", "Expected value argument")  # beginnings of the errors of torch's distributions
# The functions that call a model, with the method that each one calls and the part of a VAE that the method uses.
CALLERS = {
    "posterior_of": ("encode", "encoder"),
    "latent_prior_of": ("latent_prior", "prior"),
    "likelihood_of": ("decode", "decoder"),
}


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or a parameter became NaN or infinite. The run's state does not include this epoch.

    Attributes:
        term: "reconstruction", "KL", "reconstruction and KL", "gradient" if the loss was finite, or "parameter" if
            the last step of an epoch left a parameter that is not finite.
        group: the child module to look at first, such as "encoder", "decoder" or "prior" of a VAE, or "model" for the
            model's own parameters. It is the first module with parameters that are not finite; else the one whose
            distribution torch rejected; else the first one with a gradient that is not finite; else the one with the
            largest gradient, or with the largest parameters if there is no gradient yet.
        parameter: full name of the model's first parameter that is not finite, else of the first parameter with a
            gradient that is not finite; None if there is none.
        epoch: number of the epoch, counted from 0.
        batch: number of the batch in the epoch, counted from 0; None for validation and for a parameter.
        rows: numbers of up to eight rows of the batch with terms that are not finite; of its first rows if only the
            gradient is not finite.
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


class LostProcessError(RuntimeError):
    """Another process of the same run has ended. The run's state contains the epochs before this one."""


@contextmanager
def lost_processes(when: Callable[[], str]) -> Iterator[None]:
    """Turn an error that torch raises because another process does not answer into a `LostProcessError`.

    gloo raises a plain RuntimeError if a connection is closed, reset or timed out; the message names gloo's source.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        raise LostProcessError(
            f"training stopped {when()}: another process of this run was killed or failed."
        ) from error


class GroupState(NamedTuple):
    """A child module of the model in a failed step, with the Euclidean norms of its parameters and its gradient."""

    name: str
    parameters: float
    gradient: float

    def __str__(self) -> str:
        return f"{self.name}: parameters {_norm(self.parameters)}, gradient {_norm(self.gradient)}"


def failed_step(
    model: nn.Module,
    reconstruction: Tensor | None,
    kl: Tensor | None,
    rows: Tensor,
    *,
    epoch: int,
    batch: int | None,
    refusal: str = "",
    refused: str | None = None,
) -> NonFiniteLossError:
    """Return the error for a batch with these terms per datum.

    The terms are None if torch raised an error instead of computing them: `refusal` is its message, `refused` the part
    of a VAE with the rejected distribution.
    """
    every = torch.ones(len(rows), dtype=torch.bool)
    terms = {"reconstruction": reconstruction, "KL": kl}
    bad = {name: every if each is None else ~torch.isfinite(each.detach()).cpu() for name, each in terms.items()}
    names = [name for name, mask in bad.items() if mask.any()]
    mask = bad["reconstruction"] | bad["KL"] if names else every
    term = " and ".join(names) if names else "gradient"
    group, parameter, place = _place(model, refused)
    shown = rows.cpu()[mask][:SHOWN_ROWS].tolist()
    number = int(mask.sum())
    stop = "validation" if batch is None else f"batch {batch}"
    outcome = "The epoch was not saved" if batch is None else "The step was not taken"
    subject = f"the {term} term" if names else "the gradient of a finite loss"
    kind = "NaN or infinite" if names or parameter else "too large to compute its norm"
    numbers = ", ".join(map(str, shown)) + (", ..." if number > len(shown) else "")
    reason = f" ({refusal})" if refusal else ""
    message = (
        f"training stopped at epoch {epoch}, {stop}: {subject} is {kind} for {number} of {len(rows)} rows "
        f"(rows {numbers}); {place}{reason}. {outcome}. {ADVICE}, and look at the values of these rows."
    )
    return NonFiniteLossError(
        message, term=term, group=group, parameter=parameter, epoch=epoch, batch=batch, rows=shown
    )


def check_parameters(model: nn.Module, *, epoch: int) -> None:
    """Raise an error if the last step of an epoch, which no loss has used yet, left NaN or infinity."""
    if all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        return
    group, parameter, place = _place(model)
    message = (
        f"training stopped at the end of epoch {epoch}: the last step left NaN or infinite parameters; "
        f"{place}. The epoch was not saved. {ADVICE}."
    )
    raise NonFiniteLossError(message, term="parameter", group=group, parameter=parameter, epoch=epoch, batch=None)


@contextmanager
def invalid_parameters(model: nn.Module, rows: Tensor, *, epoch: int, batch: int | None) -> Iterator[None]:
    """Turn the ValueError of torch's distributions about NaN into a `NonFiniteLossError`."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(REFUSALS):
            raise
        refusal = " ".join(str(error).split(", but found")[0].split())
        functions = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
        method, part = next((CALLERS[name] for name in functions if name in CALLERS), ("", None))
        refusal = f"{method}: {refusal}" if method else refusal
        raise failed_step(model, None, None, rows, epoch=epoch, batch=batch, refusal=refusal, refused=part) from error


def suspect(groups: Sequence[GroupState], refused: str | None = None) -> str:
    """Return the name of the group to look at first."""
    for group in groups:
        if not math.isfinite(group.parameters):
            return group.name
    for group in groups:
        if group.name == refused or (refused is None and not math.isfinite(group.gradient)):
            return group.name
    return max(groups, key=lambda group: (group.gradient, group.parameters)).name


def _place(model: nn.Module, refused: str | None = None) -> tuple[str, str | None, str]:
    """Return the group to look at first, the first parameter that is not finite, and a sentence with both."""
    groups = []
    parts = {"model": list(model.parameters(recurse=False))}
    parts |= {name: list(child.parameters()) for name, child in model.named_children()}
    for name, parameters in parts.items():
        if parameters:
            gradients = [p.grad for p in parameters if p.grad is not None]
            groups.append(GroupState(name, _total_norm(parameters), _total_norm(gradients)))
    group = suspect(groups, refused)
    kind, parameter = _first_not_finite(model)
    named = "" if parameter is None else f"; the first {kind} that is not finite: {parameter}"
    return group, parameter, f"look at the {group} first ({'; '.join(map(str, groups))}{named})"


def _first_not_finite(model: nn.Module) -> tuple[str, str | None]:
    """Return "parameter" or "gradient" and the name of the first one that is not finite, else "" and None."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return "parameter", name
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return "gradient", name
    return "", None


def _total_norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))


def _norm(value: float) -> str:
    return f"norm {value:.3g}" if math.isfinite(value) else "not finite"
