"""Clusters of rows, given by the components of a mixture prior."""

from collections.abc import Callable
from typing import TypeGuard

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from priory._support.optional import require
from priory.distributions.chain import center_of, top_level
from priory.distributions.mixture import Mixture
from priory.evaluation.estimates import BOOTSTRAP_SEED, Estimate
from priory.model import (
    AnyModel,
    ConditionalModel,
    LatentVariableModel,
    cast_like,
    evaluation_mode,
    latent_prior_of,
    posterior_of,
    require_model,
)
from priory.priors.hierarchical import top_prior
from priory.rows import RowsLike, as_rows

RESAMPLES = 50  # each takes milliseconds in scikit-learn


@torch.no_grad()
def clusters(model: LatentVariableModel, rows: RowsLike, *, batch_size: int = 1024) -> Int[Tensor, " datum"]:
    """Return the cluster of each row: the component of a mixture prior with the largest responsibility for its code.

        k(x) = argmax_k p(k | z),    z = E[z | x],    p(k | z) = pi_k p_k(z) / p(z)

    With several levels, the mixture and the code are those of the top level.

    Args:
        model: a model whose p(z) is a mixture.
        rows: (N, D) or (N, *input) in any form that `priory.rows.as_rows` reads.
        batch_size: rows encoded at a time.

    Raises:
        TypeError: p(z) is not a mixture.

    >>> from priory import VAE, BernoulliDecoder, NormalEncoder, VampPriorMixture, mlp
    >>> x = torch.rand(30, 6).round()
    >>> prior = VampPriorMixture.from_data(x, num_components=5, latent_dim=2, low=0.0, high=1.0)
    >>> clusters(VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior), x).shape
    torch.Size([30])
    """
    require_model(model)
    with evaluation_mode(model):
        p_z = top_level(latent_prior_of(model))
        if not isinstance(p_z, Mixture):
            raise TypeError(
                f"model: expected one whose p(z) is a priory.Mixture, whose components are clusters, got a "
                f"{type(p_z).__name__}; train it with a mixture prior, such as VampPriorMixture"
            )
        batches = as_rows(rows, "rows").batches(batch_size)
        codes = [center_of(posterior_of(model, cast_like(x, model))) for x, _ in batches]
        return torch.cat([p_z.top_responsibilities(z[:, : p_z.event_shape[0]])[1][..., 0] for z in codes]).cpu()


@torch.no_grad()
def has_clusters(model: AnyModel) -> TypeGuard[LatentVariableModel]:
    """Return whether p(z) is a mixture whose components are clusters, not map nodes, exemplars or shared by contexts.

    >>> from priory import VAE, BernoulliDecoder, MixtureOfGaussians, NormalEncoder, mlp
    >>> has_clusters(VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), MixtureOfGaussians(2, 5)))
    True
    """
    prior = top_prior(getattr(model, "prior", None))
    if isinstance(model, ConditionalModel) or not getattr(prior, "components_are_clusters", True):
        return False
    with evaluation_mode(model):
        p_z = top_level(latent_prior_of(model))
    return isinstance(p_z, Mixture) and p_z.num_components > 1


def cluster_agreement(clusters: Int[Tensor, " datum"], classes: np.ndarray) -> dict[str, Estimate]:
    """Agreement of clusters with classes, 1 at best: the normalized mutual information and the adjusted Rand index.

    Standard errors are by the bootstrap over rows.

    Args:
        clusters: the cluster of each row, (N,).
        classes: the class of each row, (N,): numbers or text.

    Reference: Strehl & Ghosh 2002 (nmi, with the arithmetic mean of the entropies); Hubert & Arabie 1985 (ari).

    >>> print(*cluster_agreement(torch.tensor([4, 4, 7, 7]), np.array(["a", "a", "b", "b"])).values())
    1 1
    """
    metrics = require("sklearn.metrics", "tables", "the agreement of clusters with classes")
    pairs = np.stack([clusters.numpy(), np.unique(classes, return_inverse=True)[1]])
    measures = {"nmi": metrics.normalized_mutual_info_score, "ari": metrics.adjusted_rand_score}
    return {name: _bootstrapped(measure, pairs) for name, measure in measures.items()}


def _bootstrapped(measure: Callable[[np.ndarray, np.ndarray], float], pairs: np.ndarray) -> Estimate:
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    number = pairs.shape[1]
    resampled = [measure(*pairs[:, generator.integers(number, size=number)]) for _ in range(RESAMPLES)]
    return Estimate(float(measure(*pairs)), float(np.std(resampled, ddof=1)))
