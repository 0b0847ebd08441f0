"""The error of a training step that is not finite, and where to look first."""

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
REFUSALS = ("Expected parameter", "Expected value argument")  # how torch's distributions begin
# The functions that ask a model, with the method that answers and the part of a VAE that is behind it.
ASKING = {
    "posterior_of": ("encode", "encoder"),
    "latent_prior_of": ("latent_prior", "prior"),
    "likelihood_of": ("decode", "decoder"),
}


class NonFiniteLossError(RuntimeError):
    """The loss, its gradient or a parameter became NaN or infinite. The run's state does not include this epoch.

    Attributes:
        term: "reconstruction", "KL", "reconstruction and KL", "gradient" if the loss was finite, or "parameter" if
            the last step of an epoch left one that is not finite.
        group: a child module of the model, such as "encoder", "decoder", "prior" of a VAE, or "model" for its own
            parameters: the first one whose parameters are not finite, else the one whose distribution torch refused,
            else the first one whose gradient is not finite, else the one with the largest gradient, or the largest
            parameters before a gradient.
        parameter: full name of the model's first parameter that is not finite, else of the first one whose gradient is
            not; None if there is none.
        epoch: counted from 0.
        batch: in the epoch, counted from 0; None for validation and for a parameter.
        rows: numbers of up to eight rows of the batch whose terms are not finite; of its first rows if only the
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
    """Another of several processes that train together has ended. The run's state has the epochs before this one."""


@contextmanager
def lost_processes(when: Callable[[], str]) -> Iterator[None]:
    """Turn an error that torch raises because another process does not answer into a `LostProcessError`.

    gloo has no class of its own for it: the connection is closed, reset or timed out, and the text names gloo's source.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        raise LostProcessError(
            f"training stopped {when()}: another of its processes has ended, because it was killed or failed."
        ) from error


class GroupState(NamedTuple):
    """A child module of the model in a failed step; norms are Euclidean."""

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

    The terms are None if torch refused to compute them; `refused` is the part of a VAE whose distribution it refused.
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
    kept = "The epoch was not saved" if batch is None else "The step was not taken"
    what = f"the {term} term" if names else "the gradient of a finite loss"
    kind = "NaN or infinite" if names or parameter else "too large for its norm"
    numbers = ", ".join(map(str, shown)) + (", ..." if number > len(shown) else "")
    reason = f" ({refusal})" if refusal else ""
    message = (
        f"training stopped at epoch {epoch}, {stop}: {what} is {kind} for {number} of {len(rows)} rows "
        f"(rows {numbers}); {place}{reason}. {kept}. {ADVICE}, and look at the values of these rows."
    )
    return NonFiniteLossError(
        message, term=term, group=group, parameter=parameter, epoch=epoch, batch=batch, rows=shown
    )


def check_parameters(model: nn.Module, *, epoch: int) -> None:
    """Raise an error if the last step of an epoch, from which no loss has been computed yet, left NaN or infinity."""
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
    """Turn the ValueError with which torch's distributions refuse NaN into a `NonFiniteLossError`."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(REFUSALS):
            raise
        refusal = " ".join(str(error).split(", but found")[0].split())
        functions = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
        method, part = next((ASKING[name] for name in functions if name in ASKING), ("", None))
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
    """Return the group to look at first, the first parameter that is not finite, and a sentence that says so."""
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
