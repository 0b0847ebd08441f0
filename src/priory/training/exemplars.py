"""What training does for a prior that reads the training rows, such as `ExemplarPrior`; for others, nothing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor

from priory.model import cast_like, evaluation_mode
from priory.rows import Rows
from priory.vae import feature_encoder, features_of


@contextmanager
def exemplars_attached(model: Any, rows: Rows) -> Iterator[None]:
    """Let the model's prior read these rows inside the block."""
    prior = _prior_of(model)
    if prior is None:
        yield
        return
    prior.attach(rows, lambda x: features_of(model, cast_like(x, model)))
    try:
        yield
    finally:
        prior.detach()


def refresh_exemplars(model: Any) -> None:
    """Let the prior encode all of its rows by the model's encoder."""
    if (prior := _prior_of(model)) is not None:
        with evaluation_mode(model):
            prior.refresh(feature_encoder(model))


def exemplars_left_out(model: Any, numbers: Tensor) -> AbstractContextManager[None]:
    """Inside the block, the rows of these numbers are no components of their own prior."""
    prior = _prior_of(model)
    return nullcontext() if prior is None else prior.leave_out(numbers)


def _prior_of(model: Any) -> Any:
    prior = getattr(model, "prior", None)
    return prior if hasattr(prior, "leave_out") else None
