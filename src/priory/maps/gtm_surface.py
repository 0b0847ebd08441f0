"""The map of a classical GTM."""

from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Scaling(Protocol):
    """Of columns, before a model reads them: z = (x - loc) / scale."""

    def into(self, x: np.ndarray) -> np.ndarray:
        """From the data's units to the model's."""

    def back(self, z: np.ndarray) -> np.ndarray:
        """From the model's units to the data's."""

    def log_volume(self, x: np.ndarray) -> np.ndarray:
        """log p(z) - log p(x) of each row."""


class Unscaled:
    """Columns as they are: what a `GTMSurface` has for a scaling where there is none."""

    def into(self, x: np.ndarray) -> np.ndarray:
        return x

    def back(self, z: np.ndarray) -> np.ndarray:
        return z

    def log_volume(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


class Standardized:
    """What a fitted `StandardScaler` does, for a `GTMSurface`."""

    def __init__(self, scaler: Any) -> None:
        self.scaler = scaler

    def into(self, x: np.ndarray) -> np.ndarray:
        return self.scaler.transform(x)

    def back(self, z: np.ndarray) -> np.ndarray:
        return self.scaler.inverse_transform(z)

    def log_volume(self, x: np.ndarray) -> np.ndarray:
        scale = self.scaler.scale_
        return np.zeros(len(x)) if scale is None else ~np.isnan(x) @ np.log(scale)  # None: it only centers


class GTMSurface:
    """The surface of a fitted classical GTM.

    Args:
        gtm: a fitted `GTM`.
        scaling: from the data's units to the GTM's, and back.
    """

    def __init__(self, gtm: Any, scaling: Any = None) -> None:
        self.gtm, self.scaling = gtm, scaling or Unscaled()
        self.nodes, self.weights = torch.from_numpy(gtm.nodes_), torch.from_numpy(gtm.weights_)
        self.grid_shape = (gtm.points_per_side,) * self.nodes.shape[1]

    def responsibilities(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum node"]:
        return torch.from_numpy(self.gtm.predict_proba(self._scaled(x))).double()

    def log_likelihood(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, " datum"]:
        found = self.gtm.score_samples(self._scaled(x)) - self.scaling.log_volume(_array(x))
        return torch.from_numpy(found).double()

    def contents(self) -> Float[Tensor, "node input"]:
        return torch.from_numpy(self.scaling.back(self.gtm.means_))

    def features(self, x: Float[Tensor, "datum input"]) -> Float[Tensor, "datum feature"]:
        return torch.from_numpy(self._scaled(x))

    def magnification(self, u: Float[Tensor, "place grid"] | None = None) -> Float[Tensor, " place"]:
        return torch.from_numpy(self.gtm.magnification_factors(None if u is None else _array(u)))

    def _scaled(self, x: Tensor) -> np.ndarray:
        return self.scaling.into(_array(x))


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()
