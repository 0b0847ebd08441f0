"""The interface of an objective, and the objective made from a user's function."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from priory.model import LatentVariableModel
from priory.objectives.bounds import Elbo, elbo


class Terms(NamedTuple):
    """The terms of an objective per datum, in nats.

    Attributes:
        bound: the two parts of the maximized bound, `bound.value(beta)`. During the KL warm-up beta is below 1.
        elbo: the two terms of the ELBO, with the same draws; None if a user's function returned only a bound.
    """

    bound: Elbo
    elbo: Elbo | None


class Objective(ABC):
    """The quantity that a training step maximizes. Subclasses are frozen dataclasses; their fields are the options."""

    @abstractmethod
    def __call__(
        self,
        model: LatentVariableModel,
        x: Float[Tensor, "batch *input"],
        beta: float = 1.0,
        *,
        prior: Distribution | None = None,
    ) -> Terms:
        """Return the terms of each datum.

        Args:
            model: has the methods `encode`, `latent_prior` and `decode`.
            x: data, (B, *input).
            beta: weight of the KL term in this step, from 0 to 1.
            prior: p(z), if it has been evaluated already.
        """

    def for_validation(self, draws: int) -> "Objective":
        """Return the objective whose bound at beta = 1 compares epochs.

        Args:
            draws: number of z per row, if the bound does not depend on it.
        """
        return self


@dataclass(frozen=True)
class UserObjective(Objective):
    """A function (model, x) -> `Elbo`, whose KL term is weighted in the warm-up, or a tensor (B,) of bounds in nats.

    Args:
        function: the user's function.
        elbo_draws: if it returns a tensor, the ELBO is also computed, with this many draws; 0 for no ELBO.

    Raises:
        TypeError: the function returned something else.
        ValueError: its result does not have one number for each datum.
    """

    function: Callable[[LatentVariableModel, Tensor], Elbo | Tensor]
    elbo_draws: int = 0

    def __call__(
        self,
        model: LatentVariableModel,
        x: Float[Tensor, "batch *input"],
        beta: float = 1.0,
        *,
        prior: Distribution | None = None,
    ) -> Terms:
        result = self.function(model, x)
        if not isinstance(result, Elbo | Tensor):
            raise TypeError(
                "objective: expected a function that returns a priory.Elbo or a tensor of bounds, got "
                f"{type(result).__name__}"
            )
        bound = result if isinstance(result, Elbo) else Elbo(result, torch.zeros_like(result))
        for part in bound:
            if part.shape != x.shape[:1]:
                raise ValueError(
                    f"objective: expected one number for each datum, a tensor of shape {tuple(x.shape[:1])}, got shape "
                    f"{tuple(part.shape)}; do not take the mean"
                )
        if bound is result:
            return Terms(bound, bound)
        return Terms(bound, elbo(model, x, num_samples=self.elbo_draws, prior=prior) if self.elbo_draws else None)

    def for_validation(self, draws: int) -> Objective:
        return replace(self, elbo_draws=draws)
