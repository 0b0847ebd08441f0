"""Facts about training data that a model is built from."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from priory.nn.preprocessing import Preprocessing
from priory.workbench.data import DatasetRows

MOST_START_ROWS = 20_000  # rows from which constants and pseudo-inputs start: enough for both, and sparse data fit


@dataclass(frozen=True)
class DataFacts:
    """Facts about the training data.

    Attributes:
        num_inputs: D.
        num_rows: N, the number of `rows`.
        rows: training rows to start from, (N, D), in the data's units; None if a model is rebuilt for saved weights.
        image_shape: height and width, if rows are images.
    """

    num_inputs: int
    num_rows: int
    rows: Float[Tensor, "datum input"] | None = None
    image_shape: tuple[int, int] | None = None

    @property
    def start_rows(self) -> Float[Tensor, "datum input"]:
        """The rows; ones of the same shape if saved weights will replace all that is computed from them."""
        return torch.ones(1, self.num_inputs).expand(self.num_rows, -1) if self.rows is None else self.rows

    def features(self, preprocess: Preprocessing) -> "Features":
        """The rows as the encoder's first layer reads them."""
        low, high = preprocess.feature_range
        if self.rows is not None:
            return Features(preprocess(self.rows), low, high)
        return Features(torch.full((1, self.num_inputs), low or 0.0).expand(self.num_rows, -1), low, high, False)


@dataclass(frozen=True)
class Features:
    """Training rows as the encoder's first layer reads them.

    Attributes:
        rows: (N, D).
        low: smallest possible value of a feature; None if there is no bound.
        high: largest possible value of a feature; None if there is no bound.
        are_data: false if a model is rebuilt for saved weights; `rows` are then constants of the right shape.
    """

    rows: Float[Tensor, "datum feature"]
    low: float | None = None
    high: float | None = None
    are_data: bool = True


def facts_of(rows: DatasetRows, image_shape: tuple[int, int] | None, seed: int, components: int = 1) -> DataFacts:
    """Facts from training rows: from all of them, or from a random part of a large table.

    Args:
        rows: the training rows.
        image_shape: height and width, if rows are images.
        seed: of the random part.
        components: rows that the prior needs at least, if there are so many.
    """
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    x, _ = rows.batch(order[: max(MOST_START_ROWS, components)])
    return DataFacts(x.shape[1], len(x), x, image_shape)
