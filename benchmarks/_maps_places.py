"""Ways to place rows on a model's map: functions of the model, training rows and test rows."""

from collections.abc import Callable

import numpy as np

from _map_data import Array
from priory.maps import Places, TopographicMap
from priory.priors import GridPrior
from priory.vae import VAE
from priory.workbench.data import DatasetRows
from priory.workbench.jobs.vae import embed

SIDE = 20
Coordinates = tuple[Array, Array]
Place = Callable[[VAE, DatasetRows, DatasetRows], Coordinates]


def latents(vae: VAE, train: DatasetRows, test: DatasetRows) -> Coordinates:
    """Return the means of q(z|x), for any number of latent dimensions."""
    return embed(vae, train)["z_mean"], embed(vae, test)["z_mean"]


def place(vae: VAE, train: DatasetRows, test: DatasetRows) -> Coordinates:
    """Return `Places.place`: the mean of the nodes near the likeliest one, weighted by p(k|x)."""
    return _drawn(vae, train).place.numpy(), _drawn(vae, test).place.numpy()


def mean(vae: VAE, train: DatasetRows, test: DatasetRows) -> Coordinates:
    """Return `Places.mean`: E[u|x] over all nodes."""
    return _drawn(vae, train).mean.numpy(), _drawn(vae, test).mean.numpy()


def mode(vae: VAE, train: DatasetRows, test: DatasetRows) -> Coordinates:
    """Return `Places.mode`: the likeliest node."""
    return _drawn(vae, train).mode.numpy(), _drawn(vae, test).mode.numpy()


def gtm_of_latents(vae: VAE, train: DatasetRows, test: DatasetRows) -> Coordinates:
    """Fit a classical GTM to the latents of the training rows, and return the places of all rows on it."""
    from priory import GTM

    before, after = latents(vae, train, test)
    gtm = GTM(points_per_side=SIDE, random_state=0).fit(before.astype(np.float64))
    return gtm.transform(before.astype(np.float64)), gtm.transform(after.astype(np.float64))


def _drawn(vae: VAE, rows: DatasetRows) -> Places:
    return TopographicMap(vae, rows).places


ON_GRID: dict[str, Place] = {"place": place, "mean": mean, "mode": mode}
WITHOUT_GRID: dict[str, Place] = {"GTM of latents": gtm_of_latents}
LATENTS: dict[str, Place] = {"latents": latents}


def places_of(vae: VAE) -> dict[str, Place]:
    """Return the ways to place rows that this model has, by name."""
    if isinstance(vae.prior, GridPrior):
        return ON_GRID | LATENTS
    return LATENTS if vae.prior.latent_dim == 2 else WITHOUT_GRID | LATENTS
