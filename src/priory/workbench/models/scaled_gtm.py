"""A fitted map and the scaling of columns before it: rows in the data's own units in, numbers about them out."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from priory.gtm import GTM
from priory.maps import TopographicMap
from priory.maps.gtm_surface import GTMSurface
from priory.workbench.data import DatasetRows
from priory.workbench.settings.gtm import StoredScaling

Numbers = NDArray[np.float64]
Progress = Callable[[int], None]
BATCH = 1024  # rows that are read together


@dataclass(frozen=True)
class Scaling:
    """(x - loc) / scale, column by column; cells that are missing stay missing.

    Attributes:
        loc: (D,).
        scale: (D,), positive.
    """

    loc: Numbers
    scale: Numbers

    @classmethod
    def of_rows(cls, rows: DatasetRows) -> "Scaling":
        """The means and standard deviations (1/N) of the columns, over the cells that are there."""
        loc = _means(rows, lambda x: x)
        return cls(loc, np.sqrt(_means(rows, lambda x: (x - loc) ** 2)))

    @classmethod
    def restored(cls, stored: StoredScaling | None, num_inputs: int) -> "Scaling":
        """What a configuration holds; None leaves columns as they are."""
        if stored is None:
            return cls(np.zeros(num_inputs), np.ones(num_inputs))
        return cls(np.array(stored.loc), np.array(stored.scale))

    def into(self, x: Numbers) -> Numbers:
        """From the data's units to the model's."""
        return (x - self.loc) / self.scale

    def back(self, z: Numbers) -> Numbers:
        """From the model's units to the data's."""
        return self.loc + self.scale * z

    def log_volume(self, x: Numbers) -> Numbers:
        """sum_d log scale_d over the cells that are there, (N,): log p(x) = log p(z) - log_volume(x)."""
        return ~np.isnan(x) @ np.log(self.scale)


@dataclass(frozen=True)
class MapModel:
    """A fitted map of rows in the data's own units.

    Attributes:
        gtm: fitted to scaled rows.
        scaling: of the columns.
        standardized: whether the scaling does anything.
    """

    gtm: GTM
    scaling: Scaling
    standardized: bool

    def to(self, device: str) -> "MapModel":
        """The same, computed on that device."""
        return replace(self, gtm=copy(self.gtm).set_params(device=device))

    def batches(self, rows: DatasetRows) -> Iterator[tuple[Numbers, Numbers]]:
        """Rows in the model's units and in the data's."""
        for x, _ in rows.batches(BATCH):
            raw = x.double().numpy()
            yield self.scaling.into(raw), raw

    @property
    def surface(self) -> GTMSurface:
        """The map for rows in the data's own units."""
        return GTMSurface(self.gtm, self.scaling)

    def drawn(self, rows: DatasetRows, progress: Progress | None = None) -> TopographicMap:
        """The rows on the map."""
        return TopographicMap(self.surface, rows, progress=progress)

    def images(self) -> Numbers:
        """The nodes' images in the data's units, (K, D)."""
        return self.scaling.back(self.gtm.means_)

    def estimator(self) -> Any:
        """A scikit-learn estimator for rows in the data's units."""
        if not self.standardized:
            return self.gtm
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_, scaler.var_ = self.scaling.loc, self.scaling.scale, self.scaling.scale**2
        scaler.n_features_in_ = len(self.scaling.loc)
        return make_pipeline(scaler, self.gtm)


def _means(rows: DatasetRows, number: Callable[[Numbers], Numbers]) -> Numbers:
    """The mean of a number of each cell, column by column, over the cells that are there."""
    total = count = np.zeros(1)
    for x, _ in rows.batches(BATCH):
        values = number(x.double().numpy())
        total, count = total + np.nansum(values, axis=0), count + (~np.isnan(values)).sum(axis=0)
    return total / count
