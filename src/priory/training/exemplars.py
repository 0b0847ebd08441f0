"""What training does for a prior that reads the training rows, such as `ExemplarPrior`; for others, nothing."""

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
    """Whether the model's prior, or that of its top level, reads the training rows."""
    return _prior_of(model) is not None


@contextmanager
def exemplars_attached(model: Any, rows: Rows) -> Iterator[None]:
    """Let the model's prior, or that of its top level, read these rows inside the block.

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
            f"{type(prior).__name__}; take another one, such as ConditionalMixturePrior of a VampPrior"
        )
    prior.attach(rows, lambda x: features_of(model, cast_like(x, model)))
    try:
        yield
    finally:
        prior.detach()


def refresh_exemplars(model: Any) -> None:
    """Let the prior encode all of its rows by the model's encoder."""
    if (prior := _prior_of(model)) is not None:
        encoder = feature_encoder(model)
        with evaluation_mode(model):
            prior.refresh(top_of(encoder) if isinstance(model.prior, HierarchicalPrior) else encoder)


def exemplars_left_out(model: Any, numbers: Tensor) -> AbstractContextManager[None]:
    """Inside the block, the rows of these numbers are no components of their own prior."""
    prior = _prior_of(model)
    return nullcontext() if prior is None else prior.leave_out(numbers)


def require_own_exemplars(model: Any) -> None:
    """Refuse exemplars below another prior, which cannot leave a row's own one out.

    Raises:
        ValueError: there are such.
    """
    prior, known = getattr(model, "prior", None), _prior_of(model)
    below = [part for part in prior.modules() if hasattr(part, "leave_out")] if isinstance(prior, nn.Module) else []
    if below and known is None:
        raise ValueError(
            f"prior: expected no exemplars below a {type(prior).__name__}, which cannot leave out that of a row in "
            f"training, got one on top of {type(below[0]).__name__}; give it another base prior (base_prior)"
        )


def _prior_of(model: Any) -> Any:
    prior = top_prior(getattr(model, "prior", None))
    return prior if hasattr(prior, "leave_out") else None
