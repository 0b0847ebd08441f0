"""A fitted GTM behind a scaler of columns, as a run folder stores them."""

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

Numbers = NDArray[np.float64]
Progress = Callable[[int], None]
BATCH = 1024  # rows that are read together


@dataclass(frozen=True)
class MapModel:
    """A fitted map of rows in the data's own units."""

    gtm: GTM  # fitted to scaled rows
    scaler: StandardScaler | None  # a fitted `StandardScaler`; None if the columns are not standardized
    precise: bool = False  # whether rows in the data's own units lose values in float32

    def to(self, device: str) -> "MapModel":
        """The same model, computed on that device."""
        return replace(self, gtm=copy(self.gtm).set_params(device=device))

    def scaled(self, x: Numbers) -> Numbers:
        """Rows in the model's units, from rows in the data's units."""
        return x if self.scaler is None else self.scaler.transform(x)

    def restored(self, z: Numbers) -> Numbers:
        """Rows in the data's units, from rows in the model's units."""
        return z if self.scaler is None else self.scaler.inverse_transform(z)

    @property
    def surface(self) -> GTMSurface:
        """The map for rows in the data's own units."""
        return GTMSurface(self.gtm, self.scaler)

    def drawn(self, rows: DatasetRows, progress: Progress | None = None) -> TopographicMap:
        """The rows on the map."""
        return TopographicMap(self.surface, rows, progress=progress)

    def estimator(self) -> Any:
        """A scikit-learn estimator for rows in the data's units."""
        return self.gtm if self.scaler is None else make_pipeline(self.scaler, self.gtm)


def batches(rows: DatasetRows) -> Iterator[Numbers]:
    """Rows in the data's units, in float64."""
    return (x.double().numpy() for x, _ in rows.batches(BATCH))


def means_and_scales(rows: DatasetRows) -> tuple[Numbers, Numbers]:
    """The means and standard deviations (1/N) of the columns, over the cells that are not missing."""
    loc = _column_means(batches(rows))
    return loc, np.sqrt(_column_means((x - loc) ** 2 for x in batches(rows)))


def scaler_of(loc: Numbers, scale: Numbers) -> StandardScaler:
    """A `StandardScaler` as if it were fitted to columns with these means and standard deviations."""
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_, scaler.n_features_in_ = loc, scale, scale**2, len(loc)
    return scaler


def _column_means(parts: Iterator[Numbers]) -> Numbers:
    total = count = np.zeros(1)
    for x in parts:
        total, count = total + np.nansum(x, axis=0), count + (~np.isnan(x)).sum(axis=0)
    return total / count
