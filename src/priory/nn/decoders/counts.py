"""The decoder of counts."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, constraints

from priory._support.tensors import require_tensor
from priory.distributions import NegativeBinomial
from priory.distributions.normal import at_least_float32
from priory.nn.decoders.base import LikelihoodDecoder, check_columns, softly_bounded
from priory.nn.networks import output_width
from priory.nn.preprocessing import LogNormalize


class NegativeBinomialDecoder(LikelihoodDecoder):
    """Counts with a given row total: shares from the network, times the library size, with learned dispersion.

        x_d | z, l ~ NegativeBinomial(mean = l softmax_d(network(z)), total_count = r_d)

    The model does not explain the library size l, the total of a row: `covariates(x)` computes it from the datum.
    Without a datum, it is drawn for each z from the library sizes of the training rows.

    Args:
        network: maps z (..., L) to logits (..., D).
        library_sizes: (N,), the totals of the training rows, in counts.
        num_columns: D; needed only if the network has no `out_features`.

    Raises:
        ValueError: library_sizes is not a vector of finite numbers, 0 or more; D is unknown or not the network's width.

    Source: Lopez et al. 2018 (Nature Methods 15) for the model; library sizes observed as in scvi-tools.

    >>> decoder = NegativeBinomialDecoder(torch.nn.Linear(2, 5), library_sizes=torch.tensor([100.0, 200.0]))
    >>> p_x = decoder(torch.zeros(3, 2), library_size=torch.tensor([10.0, 20.0, 30.0]))
    >>> p_x.mean.sum(-1).round().detach()
    tensor([10., 20., 30.])
    """

    library_sizes: Tensor

    def __init__(
        self, network: nn.Module, library_sizes: Float[Tensor, " batch"], num_columns: int | None = None
    ) -> None:
        super().__init__(network, self.outputs_per_dimension())
        require_tensor("library_sizes", library_sizes)
        if library_sizes.ndim != 1 or len(library_sizes) == 0:
            raise ValueError(
                "library_sizes: expected a vector with at least one row total, got shape "
                f"{tuple(library_sizes.shape)}; give x_train.sum(-1)"
            )
        if not (library_sizes.isfinite().all() and (library_sizes >= 0).all()):
            raise ValueError(
                "library_sizes: expected finite numbers of 0 or more, got numbers from "
                f"{library_sizes.min().item():g} to {library_sizes.max().item():g}; give the row totals of raw counts"
            )
        if num_columns is None:
            num_columns = output_width(network)
        if num_columns is None:
            raise ValueError(
                "num_columns: expected a number, because the network has no attribute out_features, got None; "
                "give the number of data columns"
            )
        check_columns(network, 1, num_columns, "num_columns")
        self.num_columns = num_columns
        self.register_buffer("library_sizes", library_sizes.detach().clone())
        self.free_log_total_count = nn.Parameter(torch.zeros(num_columns))  # total count 1: the variance is m + m^2

    @classmethod
    def support(cls, **options: Any) -> constraints.Constraint:
        return constraints.nonnegative_integer

    @classmethod
    def preprocessing(cls, rows: Float[Tensor, "datum input"], **options: Any) -> LogNormalize:
        return LogNormalize.from_data(rows)

    @classmethod
    def from_data(cls, network: nn.Module, rows: Float[Tensor, "datum input"], **options: Any) -> Self:
        """Make a decoder with the library sizes of these rows, (N, D)."""
        return cls(network, rows.sum(-1), **options)

    @property
    def log_total_count(self) -> Float[Tensor, " input"]:
        """log r, (D,), bounded smoothly: for Poisson data its optimum is infinite, and it would grow without end."""
        return softly_bounded(at_least_float32(self.free_log_total_count))

    def covariates(self, x: Float[Tensor, "*batch input"]) -> dict[str, Tensor]:
        """Return the library size of each row, (...,), as a keyword argument of the decoder's call."""
        return {"library_size": at_least_float32(x).sum(-1)}

    def forward(
        self, z: Float[Tensor, "*batch latent"], library_size: Float[Tensor, "..."] | None = None
    ) -> Independent:
        """Return p(x | z, library_size) with batch (...,) and event (D,).

        Args:
            z: (..., L).
            library_size: row totals, in counts, of a shape that broadcasts to z's batch shape: for samples (S, B, L),
                (B,) is enough. None draws one total for each z from the totals of the training rows.

        Raises:
            ValueError: library_size does not broadcast to the batch shape.
        """
        batch_shape = z.shape[:-1]
        if library_size is None:
            rows = torch.randint(len(self.library_sizes), batch_shape, device=self.library_sizes.device)
            library_size = self.library_sizes[rows]
        _check_broadcast(library_size, batch_shape)
        log_share = F.log_softmax(self.outputs(z).squeeze(-1), dim=-1)
        log_mean = log_share + torch.log(library_size).unsqueeze(-1)
        return Independent(NegativeBinomial(log_mean, self.log_total_count), 1)


def _check_broadcast(library_size: Tensor, batch_shape: torch.Size) -> None:
    try:
        fits = torch.broadcast_shapes(library_size.shape, batch_shape) == batch_shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"library_size: expected a shape that broadcasts to the batch shape of z, {tuple(batch_shape)}, got "
            f"{tuple(library_size.shape)}; give one total per row"
        )
