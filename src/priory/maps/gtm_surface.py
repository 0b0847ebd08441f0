"""The map of a classical GTM."""

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class GTMSurface:
    """The surface of a fitted classical GTM.

    Args:
        gtm: a fitted `GTM`.
        scaler: the fitted `StandardScaler` that converts the data's units to the GTM's; None if they are equal.

    Attributes:
        columns: the column names that the scaler, or without it the GTM, was fitted to; None if there were none.
    """

    likelihood_is_estimated = False

    def __init__(self, gtm: Any, scaler: Any = None) -> None:
        self.columns = getattr(gtm if scaler is None else scaler, "feature_names_in_", None)
        self.gtm, self.scaler = _without_names(gtm), _without_names(scaler)
        self.nodes, self.weights = torch.from_numpy(gtm.nodes_), torch.from_numpy(gtm.weights_)
        self.grid_shape = (gtm.points_per_side,) * self.nodes.shape[1]

    def responsibilities(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum node"]:
        return torch.from_numpy(self.gtm.predict_proba(self._scaled(x))).double()

    def log_likelihood(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, " datum"]:
        log_density = self.gtm.score_samples(self._scaled(x)) - log_volume(self.scaler, _array(x))
        return torch.from_numpy(log_density).double()

    def contents(self) -> Float[Tensor, "node input"]:
        images = self.gtm.means_
        return torch.from_numpy(images if self.scaler is None else self.scaler.inverse_transform(images))

    def features(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum feature"]:
        return torch.from_numpy(self._scaled(x))

    def magnification(self, u: Float[Tensor, "place grid"] | None = None) -> Float[Tensor, " place"]:
        return torch.from_numpy(self.gtm.magnification_factors(None if u is None else _array(u)))

    def _scaled(self, x: Tensor) -> np.ndarray:
        return _array(x) if self.scaler is None else self.scaler.transform(_array(x))


def _without_names(estimator: Any) -> Any:
    """Return a copy that accepts arrays without a warning about missing column names; None stays None."""
    copied = copy.copy(estimator)
    if hasattr(copied, "feature_names_in_"):
        del copied.feature_names_in_
    return copied


def log_volume(scaler: Any, x: np.ndarray) -> np.ndarray:
    """log p(scaled x) - log p(x) = sum_d log scale_d over the observed cells of each row, (N,)."""
    if scaler is None or scaler.scale_ is None:  # a StandardScaler(with_std=False) has no scale
        return np.zeros(len(x))
    return ~np.isnan(x) @ np.log(scaler.scale_)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().flatten(1).numpy()
