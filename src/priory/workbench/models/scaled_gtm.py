"""A fitted GTM after a scaler of columns, as stored in a run folder."""

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
BATCH = 1024  # rows per batch


@dataclass(frozen=True)
class MapModel:
    """A fitted map of rows in the data's own units."""

    gtm: GTM  # fitted to scaled rows
    scaler: StandardScaler | None  # a fitted `StandardScaler`; None if the columns are not standardized
    precise: bool = False  # whether float32 would merge values of rows in the data's own units

    def to(self, device: str) -> "MapModel":
        """Return the same model, which computes on that device."""
        return replace(self, gtm=copy(self.gtm).set_params(device=device))

    def scaled(self, x: Numbers) -> Numbers:
        """Convert rows from the data's units to the model's."""
        return x if self.scaler is None else self.scaler.transform(x)

    def restored(self, z: Numbers) -> Numbers:
        """Convert rows from the model's units to the data's."""
        return z if self.scaler is None else self.scaler.inverse_transform(z)

    @property
    def surface(self) -> GTMSurface:
        """The map for rows in the data's own units."""
        return GTMSurface(self.gtm, self.scaler)

    def drawn(self, rows: DatasetRows, progress: Progress | None = None) -> TopographicMap:
        """Return the rows on the map."""
        return TopographicMap(self.surface, rows, progress=progress)

    def estimator(self) -> Any:
        """Return a scikit-learn estimator for rows in the data's units."""
        return self.gtm if self.scaler is None else make_pipeline(self.scaler, self.gtm)


def batches(rows: DatasetRows) -> Iterator[Numbers]:
    """Iterate over batches of rows in the data's units, in float64."""
    return (x.double().numpy() for x, _ in rows.batches(BATCH))


def means_and_scales(rows: DatasetRows) -> tuple[Numbers, Numbers]:
    """Return the means and standard deviations (1/N) of the columns, without missing cells."""
    loc = _column_means(batches(rows))
    return loc, np.sqrt(_column_means((x - loc) ** 2 for x in batches(rows)))


def scaler_of(loc: Numbers, scale: Numbers) -> StandardScaler:
    """Make a `StandardScaler` with these means and standard deviations."""
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_, scaler.n_features_in_ = loc, scale, scale**2, len(loc)
    return scaler


def _column_means(parts: Iterator[Numbers]) -> Numbers:
    total = count = np.zeros(1)
    for x in parts:
        total, count = total + np.nansum(x, axis=0), count + (~np.isnan(x)).sum(axis=0)
    return total / count
