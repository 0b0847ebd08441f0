"""Ways to place rows on a model's map: functions of the model, training rows and test rows."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from _map_data import Array
from priory.datasets import Rows
from priory.experiment import embed
from priory.mixture import Mixture
from priory.priors import GridPrior
from priory.vae import VAE

SIDE = 20
NEAR = 0.5  # of the grid, which reaches from -1 to 1
ROWS_AT_ONCE = 1000
Coordinates = tuple[Array, Array]
Place = Callable[[VAE, Rows, Rows], Coordinates]


def latents(vae: VAE, train: Rows, test: Rows) -> Coordinates:
    """The means of q(z|x), whatever their dimension."""
    return embed(vae, train)["z_mean"], embed(vae, test)["z_mean"]


def mean(vae: VAE, train: Rows, test: Rows) -> Coordinates:
    """E[u|z] at the mean of q(z|x): what `priory embed` writes as `map`."""
    return embed(vae, train)["map"], embed(vae, test)["map"]


def near_mode(vae: VAE, train: Rows, test: Rows) -> Coordinates:
    """E[u|z] over the nodes about the most responsible one alone."""
    return _by_nodes(vae, train, NEAR), _by_nodes(vae, test, NEAR)


def mode(vae: VAE, train: Rows, test: Rows) -> Coordinates:
    """The most responsible node."""
    return _by_nodes(vae, train, 0.0), _by_nodes(vae, test, 0.0)


def gtm_of_latents(vae: VAE, train: Rows, test: Rows) -> Coordinates:
    """A classical GTM that is fitted to the latents of the training rows afterwards: what a map of them can reach."""
    from priory import GTM

    before, after = latents(vae, train, test)
    gtm = GTM(points_per_side=SIDE, random_state=0).fit(before.astype(np.float64))
    return gtm.transform(before.astype(np.float64)), gtm.transform(after.astype(np.float64))


@torch.no_grad()
def _by_nodes(vae: VAE, rows: Rows, near: float) -> Array:
    """E[u|z] over the nodes at most so far from the most responsible one."""
    p_z, nodes = vae.latent_prior(), vae.prior.nodes.double()
    assert isinstance(p_z, Mixture)
    distances = torch.cdist(nodes, nodes)
    parts: list[Tensor] = []
    for x, _ in rows.batches(ROWS_AT_ONCE):
        responsibilities = p_z.responsibilities(vae.encode(x).mean).double()
        kept = responsibilities * (distances[responsibilities.argmax(-1)] <= near + 1e-6)
        parts.append(kept @ nodes / kept.sum(-1, keepdim=True))
    return torch.cat(parts).numpy()


ON_GRID: dict[str, Place] = {"mean": mean, "near mode": near_mode, "mode": mode}
WITHOUT_GRID: dict[str, Place] = {"GTM of latents": gtm_of_latents}
LATENTS: dict[str, Place] = {"latents": latents}


def places_of(vae: VAE) -> dict[str, Place]:
    """Those that the model has."""
    if isinstance(vae.prior, GridPrior):
        return ON_GRID | LATENTS
    return LATENTS if vae.prior.latent_dim == 2 else WITHOUT_GRID | LATENTS
