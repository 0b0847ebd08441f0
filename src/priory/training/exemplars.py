"""Steps of training for a prior that reads the training rows, such as `ExemplarPrior`; no effect on other priors."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from priory.model import ConditionalModel, cast_like, evaluation_mode
from priory.nn.hierarchy import top_of
from priory.priors import HierarchicalPrior
from priory.priors.hierarchical import top_prior
from priory.rows import Rows
from priory.vae import feature_encoder, features_of


def has_exemplars(model: Any) -> bool:
    """Return whether the model's prior, or the prior of its top level, reads the training rows."""
    return _prior_of(model) is not None


@contextmanager
def exemplars_attached(model: Any, rows: Rows) -> Iterator[None]:
    """Attach these rows to the model's prior, or to the prior of its top level, inside the block.

    Raises:
        TypeError: the model conditions on a context, which exemplars do not have.
    """
    prior = _prior_of(model)
    if prior is None:
        yield
        return
    if isinstance(model, ConditionalModel):
        raise TypeError(
            f"prior: expected a prior without exemplars for a model that conditions on a context, got "
            f"{type(prior).__name__}; use another prior, such as a ConditionalMixturePrior of a VampPrior"
        )
    prior.attach(rows, lambda x: features_of(model, cast_like(x, model)))
    try:
        yield
    finally:
        prior.detach()


def refresh_exemplars(model: Any) -> None:
    """Encode all rows of the prior again with the model's encoder."""
    if (prior := _prior_of(model)) is not None:
        encoder = feature_encoder(model)
        with evaluation_mode(model):
            prior.refresh(top_of(encoder) if isinstance(model.prior, HierarchicalPrior) else encoder)


def exemplars_left_out(model: Any, numbers: Tensor) -> AbstractContextManager[None]:
    """Leave each of these rows out of its own prior inside the block."""
    prior = _prior_of(model)
    return nullcontext() if prior is None else prior.leave_out(numbers)


def require_own_exemplars(model: Any) -> None:
    """Raise an error if another prior is built on top of exemplars.

    Raises:
        ValueError: the other prior cannot leave a row's own exemplar out.
    """
    prior, exemplars = getattr(model, "prior", None), _prior_of(model)
    below = [part for part in prior.modules() if hasattr(part, "leave_out")] if isinstance(prior, nn.Module) else []
    if below and exemplars is None:
        raise ValueError(
            f"prior: expected no exemplars below a {type(prior).__name__}, which cannot leave out a row's own exemplar "
            f"in training, got the base prior {type(below[0]).__name__}; choose another base prior (base_prior)"
        )


def _prior_of(model: Any) -> Any:
    prior = top_prior(getattr(model, "prior", None))
    return prior if hasattr(prior, "leave_out") else None
