"""Facts about the training data, needed to build a model."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from priory.nn.preprocessing import Preprocessing
from priory.rows import context_at
from priory.workbench.data import DatasetRows

MOST_START_ROWS = (
    20_000  # for initial constants and pseudo-inputs; so many rows of sparse data fit into memory when dense
)


@dataclass(frozen=True)
class DataFacts:
    """Facts about the training data.

    Attributes:
        num_inputs: D.
        num_rows: N, the number of `rows`.
        num_train_rows: number of all training rows; `rows` are fewer if the table is large.
        rows: training rows for initial values, (N, D), in the data's units; None to rebuild a model for saved weights.
        image_shape: height and width, if rows are images.
        context_sizes: widths of the conditions in the context, see `Conditions.sizes`; empty without a context.
        context: context of `rows`, (N, C).
    """

    num_inputs: int
    num_rows: int
    num_train_rows: int
    rows: Float[Tensor, "datum input"] | None = None
    image_shape: tuple[int, int] | None = None
    context_sizes: tuple[int, ...] = ()
    context: Float[Tensor, "datum context"] | None = None

    @property
    def start_rows(self) -> Float[Tensor, "datum input"]:
        """The rows; if saved weights will replace everything computed from them, ones of the same shape."""
        return torch.ones(1, self.num_inputs).expand(self.num_rows, -1) if self.rows is None else self.rows

    def features(self, preprocess: Preprocessing) -> "Features":
        """Return the rows as the encoder's first layer reads them."""
        low, high = preprocess.feature_range
        sizes = self.context_sizes
        if self.rows is not None:
            return Features(preprocess(self.rows), low, high, context_sizes=sizes, context=self.context)
        rows = torch.full((1, self.num_inputs), low or 0.0).expand(self.num_rows, -1)
        context = torch.zeros(1, sum(sizes)).expand(self.num_rows, -1)
        return Features(rows, low, high, False, context_sizes=sizes, context=context)


@dataclass(frozen=True)
class Features:
    """Training rows as the encoder's first layer reads them.

    Attributes:
        rows: (N, D).
        low: smallest possible value of a feature; None if there is no bound.
        high: largest possible value of a feature; None if there is no bound.
        are_data: false if a model is rebuilt for saved weights; `rows` are then constants of the right shape.
        context_sizes: widths of the conditions in the context; empty without a context.
        context: context of `rows`, (N, C).
    """

    rows: Float[Tensor, "datum feature"]
    low: float | None = None
    high: float | None = None
    are_data: bool = True
    context_sizes: tuple[int, ...] = ()
    context: Float[Tensor, "datum context"] | None = None


def facts_of(rows: DatasetRows, image_shape: tuple[int, int] | None, seed: int, components: int = 1) -> DataFacts:
    """Return facts about training rows, from all rows or, for a large table, from a random subset.

    Args:
        rows: the training rows.
        image_shape: height and width, if rows are images.
        seed: seed of the random subset.
        components: minimum size of the subset, if there are so many rows.
    """
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    chosen = order[: max(MOST_START_ROWS, components)]
    x, _ = rows.batch(chosen)
    encoding = rows.dataset.encoding
    sizes = () if encoding is None else encoding.sizes
    return DataFacts(x.shape[1], len(x), len(rows), x, image_shape, sizes, context_at(rows, chosen))
