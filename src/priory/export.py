"""Modules for `torch.export` and ONNX that map tensors to tensors, for any number of rows.

A model returns distributions, which an exported program cannot return. These modules return numbers, in evaluation
mode. Make them from a trained model: they evaluate p(z) once, so the program does not encode the pseudo-inputs again.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from priory.density.exported import is_exporting
from priory.distributions.chain import Chain, center_of, scale_of, top_level
from priory.distributions.mixture import Mixture
from priory.distributions.normal import is_diagonal_normal
from priory.maps.model_surface import grid_prior_of, node_scores
from priory.maps.places import REACH, mean_of_near, within_reach
from priory.model import (
    LatentVariableModel,
    context_of,
    evaluation_mode,
    latent_prior_of,
    likelihood_of,
    posterior_of,
    require_model,
)
from priory.priors import DensityPrior, HierarchicalPrior


def _require_exportable(model: LatentVariableModel) -> Any:
    """Return the model if it takes any number of rows; raise an error otherwise."""
    context = context_of(require_model(model))
    if context is not None and context.ndim > 1:
        raise ValueError(
            "model: expected one context for all rows, model.given(context) with shape (C,), got "
            f"{tuple(context.shape)}"
        )
    return model


class _WithPrior(nn.Module):
    """A model and its p(z); if p(z) is a mixture, its parameters are buffers."""

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model: Any = _require_exportable(model)
        with torch.no_grad(), evaluation_mode(model):
            p_z = latent_prior_of(model)
            self.p_z: Any = _in_buffers(p_z)

    def latent_prior(self) -> Any:
        return self.p_z() if isinstance(self.p_z, nn.Module) else self.p_z


def _in_buffers(p_z: Distribution) -> Any:
    """Return a module that returns a mixture, or a chain with a mixture at its top; other distributions unchanged."""
    if isinstance(p_z, Chain) and isinstance(p_z.first, Mixture):
        return HierarchicalPrior(DensityPrior(p_z.first), p_z.conditional)
    return DensityPrior(p_z) if isinstance(p_z, Mixture) else p_z


class Encoding(nn.Module):
    """x -> mean and standard deviation of q(z | x), (N, L) each; for a `Chain`, those of each level (`center_of`).

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> rows = {0: torch.export.Dim.DYNAMIC}
    >>> program = torch.export.export(Encoding(vae), (torch.zeros(3, 6),), dynamic_shapes=[rows])
    >>> [output.shape for output in program.module()(torch.zeros(9, 6))]
    [torch.Size([9, 2]), torch.Size([9, 2])]
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self.model: Any = _require_exportable(model)

    def forward(self, x: Float[Tensor, "datum *input"]) -> tuple[Tensor, Tensor]:
        with evaluation_mode(self.model), unvalidated():
            q = posterior_of(self.model, x)
            return center_of(q), scale_of(q)


class LatentDensity(_WithPrior):
    """z -> log p(z) in nats, (N,).

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> LatentDensity(vae)(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    def forward(self, z: Float[Tensor, "datum latent"]) -> Float[Tensor, " datum"]:
        with evaluation_mode(self.model), unvalidated():
            return self.latent_prior().log_prob(z)


class Scorer(_WithPrior):
    """x -> an estimate of log p(x) in nats, (N,): the importance-weighted bound, with the same noise for all rows.

        log p(x) >= E [log 1/S sum_s p(z_s) p(x|z_s) / q(z_s|x)],    z_s = loc(x) + scale(x) noise_s

    A row has the same score in every batch and at every call. `priory.log_likelihood` is more precise.

    Args:
        model: has the methods `encode`, `latent_prior` and `decode`, as a `VAE` has; q(z|x) is a diagonal normal.
        num_samples: S. The decoder's output for a whole batch and all S samples is in memory at once.

    Attributes:
        noise: a buffer with standard normal draws, (S, L).

    Raises:
        TypeError: q(z|x) is not a diagonal normal (raised by `forward`).

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, StandardNormal, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> rows = {0: torch.export.Dim.DYNAMIC}
    >>> program = torch.export.export(Scorer(vae), (torch.zeros(3, 6),), dynamic_shapes=[rows])
    >>> program.module()(torch.zeros(9, 6)).shape
    torch.Size([9])
    """

    noise: Tensor

    def __init__(self, model: LatentVariableModel, num_samples: int = 64) -> None:
        super().__init__(model)
        if num_samples < 1:
            raise ValueError(f"num_samples: expected a positive number of draws, got {num_samples}")
        self.register_buffer("noise", torch.randn(num_samples, *self.latent_prior().event_shape))

    def forward(self, x: Float[Tensor, "datum *input"]) -> Float[Tensor, " datum"]:
        with evaluation_mode(self.model), unvalidated():
            q = posterior_of(self.model, x)
            if not is_diagonal_normal(q):
                raise TypeError(f"encode: expected a diagonal normal, as priory.diagonal_normal makes it, got {q}")
            z = q.mean + q.stddev * self.noise.unsqueeze(1).to(q.mean)
            log_p_x = likelihood_of(self.model, z, x).log_prob(x)
            log_weights = self.latent_prior().log_prob(z) + log_p_x - q.log_prob(z)
            return torch.logsumexp(log_weights, 0) - math.log(len(self.noise))


class Placer(_WithPrior):
    """x -> the position of each row on the map, (N, C), equal to `TopographicMap(model, x).places.place`.

    The position is the mean of the nodes near the likeliest one, weighted by the map's responsibilities at
    z = E[z | x].

    Args:
        model: a model whose attribute `prior` has a grid.
        reach: only nodes within this distance of the likeliest node count, in grid steps; infinity gives E[u | x].

    Raises:
        ValueError: the prior has no grid.

    >>> from priory import VAE, BernoulliDecoder, GTMPrior, NormalEncoder, latent_grid, mlp
    >>> prior = GTMPrior(2, latent_grid(4), mlp(2, [8], 4))
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)
    >>> rows = {0: torch.export.Dim.DYNAMIC}
    >>> program = torch.export.export(Placer(vae), (torch.zeros(3, 6),), dynamic_shapes=[rows])
    >>> program.module()(torch.zeros(9, 6)).shape
    torch.Size([9, 2])
    """

    nodes: Tensor
    near: Tensor  # (K, K)

    def __init__(self, model: LatentVariableModel, reach: float = REACH) -> None:
        super().__init__(model)
        prior = grid_prior_of(model)
        if prior is None:
            raise ValueError(
                f"model: expected one whose prior has a grid (GTM, GTM-VampPrior), got a "
                f"{type(getattr(model, 'prior', None)).__name__}, which has none; export its Encoding"
            )
        self.register_buffer("nodes", prior.nodes.detach().double())
        self.register_buffer("near", within_reach(self.nodes, self.nodes, reach))

    def forward(self, x: Float[Tensor, "datum *input"]) -> Float[Tensor, "datum grid"]:
        with evaluation_mode(self.model), unvalidated():
            p_z: Any = top_level(self.latent_prior())
            z = center_of(posterior_of(self.model, x))[..., : p_z.event_shape[0]]
            scores = node_scores(self.model, p_z, z, x)
            share = torch.softmax(scores, -1)
            return mean_of_near(share, self.near[share.argmax(-1)], self.nodes).to(z.dtype)


@contextmanager
def unvalidated() -> Iterator[None]:
    """Switch off torch's checks of parameters and values inside the block: they read numbers, which a graph lacks.

    The checks stay off after `torch.export`, as after the first `torch.compile`, which needs them off from then on.

    >>> with unvalidated():
    ...     torch.distributions.Bernoulli(2.0)
    Bernoulli(probs: 2.0)
    """
    validate = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        if not is_exporting():
            Distribution.set_default_validate_args(validate)
