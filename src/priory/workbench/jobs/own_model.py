"""The metrics, pictures and page of a user's model, without a run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from priory._support.files import not_a_folder, write_json
from priory._support.seeds import own_noise
from priory.evaluation import Estimate
from priory.maps.labels import as_labels
from priory.maps.model_surface import grid_prior_of
from priory.model import LatentVariableModel, device_of, evaluation_mode, latent_prior_of, require_model
from priory.rows import as_rows
from priory.workbench.data import Dataset, DatasetRows, load_dataset
from priory.workbench.jobs import vae as jobs
from priory.workbench.report.run import write_run_report
from priory.workbench.runs.folder import FIGURES, METRICS

BATCH = 1024


def report(
    model: LatentVariableModel,
    data: Any,
    out: str | Path,
    *,
    labels: Mapping[str, Any] | Sequence[Any] | None = None,
    image_shape: tuple[int, int] | None = None,
    history: Mapping[str, Sequence[float]] | None = None,
    num_samples: int = 128,
    seed: int = 0,
) -> Path:
    """Evaluate a model on rows, draw its pictures, and write one HTML page about it, which needs no network.

    The folder gets `report.html`, `metrics.json` and `figures/`. The page of a prior with a grid has a map of the rows;
    without a grid, it shows the codes.

    Args:
        model: has the methods `encode`, `latent_prior` and `decode` of a `VAE`; used in evaluation mode.
        data: rows not used in training, in any form that `priory.rows.as_rows` reads: a tensor, an array, a data
            frame, AnnData, a part of a data set such as `data.rows("test")`, ...
        out: the folder; files of an earlier report are replaced.
        labels: one text or number per row, or several such sequences by name; the first one colors the pictures.
        image_shape: height and width, if a row (H * W,) is a gray image; not needed for rows (N, 1, H, W).
        history: the result of `fit`, for a picture of the objective during training.
        num_samples: importance samples per row; see `evaluate`.
        seed: seed of all noise.

    Returns:
        The page's path.

    Raises:
        TypeError: a method of the model is missing or returns no distribution, or `data` has an unsupported type.
        ValueError: there are fewer than two rows, or a label does not have one value per row.
        ArithmeticError: a row has no likelihood under the model.

    >>> import tempfile
    >>> from priory import BernoulliDecoder, NormalEncoder, StandardNormal, VAE, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report(vae, torch.rand(40, 6).round(), folder, num_samples=4).name
    'report.html'
    """
    require_model(model)
    if blocking := not_a_folder([Path(out), *Path(out).parents]):
        raise ValueError(f"out: expected a folder, got the file {str(blocking)!r}; name another")
    dataset = _dataset(data, labels, image_shape)
    metrics = jobs.measure(model, dataset.all_rows(), num_samples, seed)
    subject = OwnModel(Path(out), model, dataset, seed, dict(metrics))
    subject.path.mkdir(parents=True, exist_ok=True)
    _draw(model, dataset, subject.path / FIGURES, history, seed)
    write_json(subject.path / METRICS, metrics.to_dict())
    with evaluation_mode(model):
        return write_run_report(subject, model, dataset, jobs)


def draw(
    model: LatentVariableModel,
    data: Any,
    folder: str | Path,
    *,
    labels: Mapping[str, Any] | Sequence[Any] | None = None,
    image_shape: tuple[int, int] | None = None,
    history: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
) -> list[Path]:
    """Draw the pictures that suit a model and rows: map, nodes, prior, samples, reconstructions, ...

    Args:
        model, data, labels, image_shape, history, seed: see `report`.
        folder: the pictures' folder; pictures of the same names are replaced.

    Returns:
        The files, most important first.

    Raises:
        TypeError, ValueError: as `report`.

    >>> import tempfile
    >>> from priory import BernoulliDecoder, NormalEncoder, StandardNormal, VAE, mlp
    >>> vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), StandardNormal(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in draw(vae, torch.rand(40, 6).round(), folder)]
    ['prior.png', 'samples.png', 'reconstructions.png']
    """
    require_model(model)
    return _draw(model, _dataset(data, labels, image_shape), Path(folder), history, seed)


def _draw(
    model: LatentVariableModel,
    dataset: Dataset,
    folder: Path,
    history: Mapping[str, Sequence[float]] | None,
    seed: int,
) -> list[Path]:
    from priory.workbench.pictures.vae import draw_figures

    rows = dataset.all_rows()
    with own_noise(seed, device_of(model)), evaluation_mode(model):
        return draw_figures(model, rows, dataset.image_shape, lambda x: x, history, folder)


@dataclass(frozen=True)
class OwnModel:
    """The subject of the page of a model without a run."""

    path: Path
    model: Any
    dataset: Dataset
    seed: int
    estimates: dict[str, Estimate]
    constants: Mapping[str, float | None] = field(default_factory=dict)
    made: None = None
    seconds: None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return self.dataset.columns

    @property
    def has_map(self) -> bool:
        return grid_prior_of(self.model) is not None

    @property
    def rows_shape(self) -> tuple[int, int] | None:
        return self.dataset.image_shape

    def described(self) -> list[tuple[str, str]]:
        prior = getattr(self.model, "prior", None)
        with torch.no_grad():
            latent_dim = latent_prior_of(self.model).event_shape[0]
        kind = "" if prior is None else f" with a {type(prior).__name__} prior"
        return [("model", f"{type(self.model).__name__}{kind}"), ("latent dimensions", str(latent_dim))]

    def restored(self, x: Tensor) -> Tensor:
        return x


def _dataset(
    data: Any, labels: Mapping[str, Any] | Sequence[Any] | None, image_shape: tuple[int, int] | None
) -> Dataset:
    """Return the rows as a data set without a split."""
    if isinstance(data, DatasetRows):
        known = data.dataset
        dataset = replace(known, x=known.x[data.indices], ids=data.ids, labels=data.labels, splits={}, fingerprint=None)
    else:
        rows = as_rows(data, "data")
        first = rows.batch(torch.zeros(1, dtype=torch.int64))[0]
        shape = tuple(first.shape[1:])
        if len(shape) > 1:
            data = torch.cat([x for x, _ in rows.batches(BATCH)]).flatten(1)
            if math.prod(shape[:-2]) == 1:
                image_shape = image_shape or (shape[-2], shape[-1])
        dataset = load_dataset(data, precise=first.dtype == torch.float64)
        dataset = replace(dataset, name="", splits={}, row_shape=shape if len(shape) > 1 else None)
    if image_shape is not None and math.prod(image_shape) != len(dataset.columns):
        raise ValueError(
            f"image_shape: expected height * width = {len(dataset.columns)}, the number of columns, got {image_shape}"
        )
    given = {} if labels is None else labels if isinstance(labels, Mapping) else {"label": labels}
    named = {name: as_labels(values) for name, values in given.items()} | dataset.labels
    return replace(dataset, labels=named, image_shape=image_shape or dataset.image_shape)
