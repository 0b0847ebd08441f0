"""Exemplar prior: one normal at the code of each training row."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from priory.distributions.leave_one_out import LeaveOneOut
from priory.distributions.mixture import Mixture
from priory.distributions.normal import bounded_scale, diagonal_normal
from priory.priors.base import Encoder, Features, MixturePrior, posteriors, require_encoder
from priory.priors.exemplar_rows import ENCODED_AT_ONCE, ExemplarRows
from priory.priors.exemplar_scale import most_likely_log_scale
from priory.rows import RowsLike


class ExemplarPrior(MixturePrior):
    """p(z) = 1/N sum_n N(z | c_n, scale^2 I), c_n = mean of q(z | x_n): N training rows and one learned scale.

    The prior keeps a reference to the rows (`attach`) and stores their codes c_n in its `state_dict`, so a saved model
    needs no training data. While rows are attached, each call encodes all of them again.

    A training step leaves out each row's own component, because it would reward a scale of zero:

        log p_-n(z) = log 1/(M - [n in S]) sum_{m in S, m != n} N(z | c_m, scale^2 I)

    S is all N rows, or M rows drawn anew in each step. The density of a random S has the expectation p_-n(z), so by
    Jensen's inequality E_S log p_S(z) <= log p_-n(z): the bound remains a bound. The exemplars nearest to the batch are
    encoded with a gradient; the others keep their last code. Once per epoch all rows are encoded.

    `fit` and `refit` do all this. In your own training loop:

        prior.attach(x, vae.preprocess)            # once
        prior.refresh(vae.encoder)                 # at the beginning of each epoch
        with prior.leave_out(positions):           # in each step, around the objective of x[positions]
            loss = -elbo(vae, x[positions]).value().mean()
        vae.latent_prior(), prior.detach()         # at the end: encode with the final weights

    Args:
        latent_dim: L.
        num_components: N; `attach` and `load_state_dict` set it to the number of rows. Initial codes are draws from a
            standard normal.
        exemplars: M, number of components in a training step; None uses all N.
        neighbors: for each row of the batch, the number of nearest exemplars that are encoded with a gradient; None
            encodes all of S, as the paper does without retrieval.
        scale: initial standard deviation.

    Raises:
        ValueError: a number is not positive.

    Reference: Norouzi, Fleet & Norouzi 2020, arXiv:2004.04795, sec. 3.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, elbo, mlp
    >>> x, prior = torch.rand(30, 6).round(), ExemplarPrior(latent_dim=2)
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)
    >>> prior.attach(x)
    >>> with prior.leave_out(torch.arange(10)):
    ...     elbo(vae, x[:10]).kl.shape
    torch.Size([10])
    >>> vae.latent_prior().num_components
    30
    """

    summary = "normals at the codes of the training rows, with one learned scale"
    reference = "Norouzi, Fleet & Norouzi 2020, arXiv:2004.04795, sec. 3"
    needs_encoder = True
    components_are_clusters = False
    codes: Tensor

    def __init__(
        self,
        latent_dim: int,
        num_components: int = 1,
        *,
        exemplars: int | None = None,
        neighbors: int | None = 10,
        scale: float = 1.0,
    ) -> None:
        super().__init__(num_components, learn_weights=False)
        if exemplars is not None and exemplars < 2:
            raise ValueError(f"exemplars: expected at least two (one may be left out), got {exemplars}; None uses all")
        if neighbors is not None and neighbors < 1:
            raise ValueError(f"neighbors: expected a positive number, got {neighbors}; None encodes all exemplars")
        if latent_dim < 1 or not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"latent_dim, scale: expected positive numbers, got {latent_dim} and {scale}")
        self.latent_dim, self.exemplars, self.neighbors = latent_dim, exemplars, neighbors
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.register_buffer("codes", torch.randn(num_components, latent_dim))
        self._source: ExemplarRows | None = None
        self._is_encoded = False
        self._left_out: Tensor | None = None

    def attach(self, rows: RowsLike, features: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        """Use the codes of these rows as components from now on; the prior keeps only a reference to the rows.

        Args:
            rows: training rows, in any form that `fit` reads.
            features: from rows to what the encoder reads, such as `vae.preprocess`.

        Raises:
            ValueError: there are fewer than two rows, or fewer than `exemplars`.
        """
        self._source = ExemplarRows(rows, features, at_least=max(2, self.exemplars or 0))
        self._is_encoded = False
        self._resize(len(self._source))

    def detach(self) -> None:
        """Release the rows; p(z) keeps the codes that were encoded last."""
        self._source = None

    @torch.no_grad()
    def refresh(self, encoder: Encoder) -> None:
        """Encode all attached rows with the current encoder."""
        for part in torch.arange(self.num_components).split(ENCODED_AT_ONCE):
            self.codes[part] = self._encoded(encoder, part)
        self._is_encoded = True

    @contextmanager
    def leave_out(self, numbers: Int[Tensor, " row"]) -> Iterator[None]:
        """Inside the block, p(z) leaves out the own component of each row of a batch; see `LeaveOneOut`.

        Args:
            numbers: row numbers of the batch: positions in the attached rows, or row numbers in their file.

        Raises:
            ValueError: no rows are attached, or a number does not belong to them.
        """
        if self._source is None:
            raise ValueError("leave_out: expected attached rows, got none; call prior.attach(rows, features) first")
        self._left_out = self._source.positions(numbers).to(self.codes.device)
        try:
            yield
        finally:
            self._left_out = None

    def components(self, encoder: Encoder | None = None) -> Independent:
        """Return N(z | c_n, scale^2 I) at the current codes, with batch shape (N,)."""
        return self._normals(self.codes)

    def forward(self, encoder: Encoder | None = None) -> Any:
        """Return p(z), with batch shape () and event shape (L,); inside `leave_out`, a `LeaveOneOut`.

        Raises:
            TypeError: there is no encoder.
        """
        if self._source is None:
            return super().forward(encoder)
        encoder = require_encoder(self, encoder)
        if self._left_out is not None:
            return self._step(encoder, self._left_out)
        self.refresh(encoder)
        return super().forward(encoder)

    def fit_by_em(self, z: Float[Tensor, "draw latent"], features: Features | None = None, *, seed: int = 0) -> bool:
        """Set the scale by maximum likelihood, leaving out each row's own component; the codes do not change.

        Returns:
            True if the scale was set, which happens only inside `leave_out`, for draws of its rows in their order.
        """
        if self._left_out is None:
            return False
        draws = z.detach().unflatten(0, (-1, len(self._left_out)))
        self.log_scale.data.copy_(most_likely_log_scale(draws, self.codes, self._left_out, self.log_scale.item()))
        return True

    def _step(self, encoder: Encoder, left_out: Int[Tensor, " row"]) -> Distribution:
        """Return p_-n(z) for a training step; the nearest exemplars are encoded with a gradient."""
        if not self._is_encoded:
            self.refresh(encoder)
        total, device = self.num_components, self.codes.device
        chosen = torch.arange(total, device=device)
        if self.exemplars is not None:
            chosen = torch.randperm(total, device=device)[: self.exemplars]
        codes = self.codes[chosen]
        near = self._nearest(codes, self.codes[left_out])
        fresh = self._encoded(encoder, chosen[near].cpu())
        self.codes[chosen[near]] = fresh.detach()
        place = torch.full((total,), -1, device=device).index_copy(0, chosen, torch.arange(len(chosen), device=device))
        mixture = Mixture(self.mixing_logits[chosen], self._normals(codes.index_copy(0, near, fresh)))
        return LeaveOneOut(mixture, place[left_out])

    def _nearest(self, codes: Tensor, queries: Tensor) -> Int[Tensor, " near"]:
        """Return the exemplars that are encoded with a gradient: the nearest ones of each query, without its own."""
        if self.neighbors is None or self.neighbors + 1 >= len(codes):
            return torch.arange(len(codes), device=codes.device)
        return torch.cdist(queries, codes).topk(self.neighbors + 1, -1, largest=False).indices.unique()

    def _encoded(self, encoder: Encoder, positions: Tensor) -> Float[Tensor, "row latent"]:
        """Return c_n of the attached rows at these positions, with the encoder in evaluation mode."""
        assert self._source is not None
        return posteriors(self, encoder, self._source.features(positions)).mean.to(self.codes)

    def _normals(self, codes: Tensor) -> Independent:
        return diagonal_normal(codes, bounded_scale(self.log_scale).expand_as(codes))

    def _resize(self, number: int) -> None:
        self.codes = self.codes[:1].repeat(number, 1) if number != len(self.codes) else self.codes
        self.mixing_logits = self.codes.new_zeros(number)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Resize to the number of components in the state: the number of rows is not part of a model's shape."""
        if (codes := state_dict.get(f"{prefix}codes")) is not None and codes.ndim == 2:
            self._resize(len(codes))
        super()._load_from_state_dict(state_dict, prefix, *rest)
