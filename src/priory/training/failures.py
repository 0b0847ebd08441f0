"""What a failed step says."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

SHOWN_ROWS = 8


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite; the optimiser did not take the step.

    Attributes:
        term: "reconstruction", "KL", "reconstruction and KL", or "gradient" where the loss was finite.
        group: "encoder", "decoder", "prior", ...: the first whose parameters, else gradients, are not finite; else the
            one with the largest gradient.
        epoch: counted from 0.
        batch: in the epoch, counted from 0; None for validation.
        rows: rows of the batch whose terms are not finite, at most eight; all of the batch's first where only the
            gradient is not.
    """

    def __init__(
        self, message: str, *, term: str, group: str, epoch: int, batch: int | None, rows: Sequence[int] = ()
    ) -> None:
        super().__init__(message)
        self.term, self.group, self.epoch, self.batch, self.rows = term, group, epoch, batch, list(rows)


class GroupState(NamedTuple):
    """A child module of the VAE in a failed step; norms are Euclidean."""

    name: str
    parameters: float
    gradient: float

    def __str__(self) -> str:
        return f"{self.name}: parameters {_norm(self.parameters)}, gradient {_norm(self.gradient)}"


def failed_step(
    vae: nn.Module, reconstruction: Tensor | None, kl: Tensor | None, rows: Tensor, *, epoch: int, batch: int | None
) -> NonFiniteLossError:
    """The error for a batch whose terms per datum (None where they could not be computed) are given."""
    terms = {"reconstruction": reconstruction, "KL": kl}
    bad = {name: _not_finite(values, len(rows)) for name, values in terms.items() if values is not None}
    bad |= {name: torch.ones(len(rows), dtype=torch.bool) for name, values in terms.items() if values is None}
    names = [name for name, mask in bad.items() if mask.any()]
    mask = bad["reconstruction"] | bad["KL"] if names else torch.ones(len(rows), dtype=torch.bool)
    term = " and ".join(sorted(names, reverse=True)) if names else "gradient"
    groups = [_group(name, child) for name, child in vae.named_children() if any(True for _ in child.parameters())]
    group = suspect(groups)
    shown = rows.cpu()[mask][:SHOWN_ROWS].tolist()
    message = _message(term, group, groups, shown, int(mask.sum()), len(rows), epoch, batch)
    return NonFiniteLossError(message, term=term, group=group, epoch=epoch, batch=batch, rows=shown)


@contextmanager
def invalid_parameters(vae: nn.Module, rows: Tensor, *, epoch: int, batch: int | None) -> Iterator[None]:
    """Turns the ValueError by which torch's distributions refuse NaN parameters, before there is a loss, into ours."""
    try:
        yield
    except ValueError as error:
        if "Expected parameter" not in str(error):
            raise
        raise failed_step(vae, None, None, rows, epoch=epoch, batch=batch) from error


def suspect(groups: Sequence[GroupState]) -> str:
    """The group to look at first."""
    for kind in ("parameters", "gradient"):
        for group in groups:
            if not math.isfinite(getattr(group, kind)):
                return group.name
    return max(groups, key=lambda group: group.gradient).name


def _message(
    term: str,
    group: str,
    groups: Sequence[GroupState],
    rows: list[int],
    bad: int,
    size: int,
    epoch: int,
    batch: int | None,
) -> str:
    where = f"epoch {epoch}, " + ("validation" if batch is None else f"batch {batch}")
    dots = ", ..." if bad > len(rows) else ""
    what = "the gradient of a finite loss is" if term == "gradient" else f"the {term} term is"
    return (
        f"training stopped at {where}: {what} NaN or infinite for {bad} of {size} rows "
        f"(rows {', '.join(map(str, rows))}{dots}); look at the {group} first ({'; '.join(map(str, groups))}). "
        "The step was not taken. Lower the learning rate, lower the gradient's largest norm "
        "(--set training.gradient_clip=...), bound the scales that the encoder, decoder and prior can reach, "
        "and look at the values of these rows."
    )


def _not_finite(values: Tensor, size: int) -> Tensor:
    return (~torch.isfinite(values.detach())).cpu().reshape(size)


def _group(name: str, module: nn.Module) -> GroupState:
    parameters = list(module.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    return GroupState(name, _total_norm([p.detach() for p in parameters]), _total_norm(gradients))


def _total_norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def _norm(value: float) -> str:
    return f"norm {value:.3g}" if math.isfinite(value) else "not finite"
