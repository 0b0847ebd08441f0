"""Intermediate steps from a table to its `Dataset`: rows to load, and their loaded values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from priory.workbench.data.fingerprint import Fingerprint, Recorded
from priory.workbench.data.profile import Profile
from priory.workbench.data.reading.matrices import Matrix
from priory.workbench.data.reading.table import Selection


@dataclass(frozen=True)
class RowsToLoad:
    """Rows of a table, and the options for loading their values; see `load_dataset`."""

    selection: Selection
    splits: dict[str, np.ndarray]
    origin: str
    precise: bool
    recorded: Recorded | None
    binarize: str
    binarize_scale: float | None

    @property
    def means(self) -> np.ndarray | None:
        """The rows that keep means when the others are binarized."""
        return self.splits["train"] if self.binarize == "dynamic" else None


class Values(NamedTuple):
    """The values of a `Dataset`, and facts about them."""

    x: Matrix
    binarize_scale: float | None
    fingerprint: Fingerprint
    profile: Profile | None = None
