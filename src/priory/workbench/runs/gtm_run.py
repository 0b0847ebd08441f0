"""The run folder of a map: settings, data, metrics and model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.preprocessing import StandardScaler

from priory._support.files import write_json
from priory._version import __version__
from priory.evaluation import Estimate
from priory.gtm import GTM
from priory.maps.quality import NUM_NEIGHBORS
from priory.training.history import HISTORY_FILE
from priory.workbench.data import Dataset, require_finite
from priory.workbench.models.scaled_gtm import MapModel, scaler_of
from priory.workbench.runs.config import CONFIG, read_config
from priory.workbench.runs.folder import MODEL, RunFolder, check_image_shape
from priory.workbench.runs.stored import GTMConfig, StoredScaling
from priory.workbench.settings.gtm import GTMRunSettings


@dataclass(frozen=True)
class GTMRun(RunFolder):
    """The run of a map."""

    kind: ClassVar[str] = "gtm"
    settings: GTMRunSettings
    image_shape: tuple[int, int] | None = field(kw_only=True)  # height and width if rows with all columns are images
    standardized: StoredScaling | None = field(kw_only=True)  # means and standard deviations of the model's columns
    precise: bool = field(default=False, kw_only=True)  # whether float32 would merge values of the training data

    @classmethod
    def open(cls, path: str | Path) -> "GTMRun":
        """Read a run folder's configuration."""
        path = Path(path)
        config = read_config(path, GTMConfig, cls.kind)
        check_image_shape(path, config.image_shape, config.columns)
        left = len(config.columns) - len(config.constants)
        scaled = left if config.standardized is None else len(config.standardized.loc)
        if not config.constants.keys() <= set(config.columns) or scaled != left:
            raise ValueError(
                f"{path / CONFIG}: expected constants to be columns, and a scale for each of the {left} others, got "
                f"{scaled}; restore the file that `priory gtm fit` wrote"
            )
        return cls(
            path,
            config.settings,
            config.columns,
            config.constants,
            fingerprint=config.fingerprint,
            split_checksum=config.split_checksum,
            image_shape=config.image_shape,
            standardized=config.standardized,
            precise=config.precise,
        )

    def write_config(self) -> None:
        """Write settings and properties of the data to `config.json`."""
        config = GTMConfig(
            priory=__version__,
            settings=self.settings,
            columns=self.columns,
            constants=dict(self.constants),
            image_shape=self.image_shape,
            fingerprint=self.fingerprint,
            split_checksum=self.split_checksum,
            standardized=self.standardized,
            precise=self.precise,
        )
        write_json(self.path / CONFIG, config.model_dump(mode="json"))

    def described(self) -> list[tuple[str, str]]:
        model = self.settings.model
        side, history = model.points_per_side, self.path / HISTORY_FILE
        iterations = len(history.read_text(encoding="utf-8").splitlines()) - 1 if history.is_file() else 0
        return [
            ("model", f"classical GTM of {side} x {side} nodes"),
            ("columns", "standardized" if self.standardized is not None else "in their own units"),
            ("training", f"at most {model.max_iter} iterations of EM"),
            *([("iterations run", str(iterations))] if iterations else []),
        ]

    @property
    def has_map(self) -> bool:
        return True

    @property
    def rows_shape(self) -> tuple[int, int] | None:
        return self.image_shape

    @property
    def scaler(self) -> StandardScaler | None:
        """The scaler from the data's units to the model's; None if columns are not standardized."""
        stored = self.standardized
        return None if stored is None else scaler_of(np.array(stored.loc), np.array(stored.scale))

    def load_model(self) -> MapModel:
        """Load the fitted map on the CPU."""
        if not self.finished:
            raise ValueError(
                f"{self.path}: has no {MODEL}, because its fit did not end; give its `priory gtm fit` command again"
            )
        gtm = GTM.load(self.path / MODEL)
        if (gtm.n_features_in_, gtm.n_components) != (len(self.modeled), 2):
            raise ValueError(
                f"{self.path / MODEL}: expected a map of {len(self.modeled)} columns on 2 axes, like {CONFIG}, got "
                f"{gtm.n_features_in_} on {gtm.n_components}; put the file back, or fit again"
            )
        return MapModel(gtm, self.scaler, self.precise)

    def loaded(self) -> Any:
        """Return an estimator for rows in the data's own units: a `GTM`, or a pipeline that standardizes first."""
        return self.load_model().estimator()

    def check_new_rows(self, dataset: Dataset, *, gaps: bool = True) -> None:
        require_finite(dataset)

    def metrics_tree(self, metrics: Mapping[str, Estimate], num_samples: int, seed: int) -> dict[str, Any]:
        numbers = {name: estimate._asdict() for name, estimate in metrics.items()}
        return numbers | {"evaluation": {"num_neighbors": NUM_NEIGHBORS}}
