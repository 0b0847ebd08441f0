"""The jobs of a VAE: fit, measure, embed, score, impute, sample. They print nothing; the commands do."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory._support.files import not_a_folder, remove_leftovers
from priory._support.locking import sole_writer
from priory._support.memory import require_memory
from priory._support.messages import first_few
from priory._support.seeds import own_noise, row_seed
from priory.distributions.chain import center_of, scale_of
from priory.evaluation import (
    METRIC_DESCRIPTIONS,
    Estimate,
    Evaluation,
    cluster_agreement,
    clusters,
    evaluate,
    evaluate_rows,
    has_clusters,
    impute,
    log_likelihood,
)
from priory.maps import TopographicMap
from priory.maps.conditional_surface import ConditionalSurface
from priory.maps.labels import classes
from priory.maps.model_surface import ModelSurface, grid_prior_of
from priory.maps.quality import MAP_DESCRIPTIONS
from priory.maps.surfaces import Surface
from priory.model import AnyModel, cast_like, device_of, given, posterior_of
from priory.rows import Conditions, batches_with_context
from priory.training import check_devices, fit, process_rank
from priory.training.exemplars import has_exemplars
from priory.training.sharding import require_shardable
from priory.training.shifting import image_shape_of
from priory.vae import AnyVAE, ConditionalVAE
from priory.workbench.data import (
    MAP_TAKES_GAPS,
    Dataset,
    DatasetRows,
    LikelihoodProposal,
    constant_columns,
    describe_constants,
    encoded,
    load_dataset,
    require_complete,
    require_float32,
    telling_rows,
    with_columns,
)
from priory.workbench.jobs.map_quality import quality_on_map
from priory.workbench.models.building import build_vae, check_parts, resolve_likelihood
from priory.workbench.models.facts import DataFacts, facts_of
from priory.workbench.runs.config import CONFIG, FITTED_BY, kind_of
from priory.workbench.runs.folder import FIGURES, MADE, SPLITS, checksums
from priory.workbench.runs.outputs import require_apart
from priory.workbench.runs.vae_run import Run
from priory.workbench.settings.model import ModelSettings
from priory.workbench.settings.networks import NETWORKS
from priory.workbench.settings.priors import GridSettings
from priory.workbench.settings.run import RunSettings

Progress = Callable[[int], None]
DESCRIPTIONS = METRIC_DESCRIPTIONS | MAP_DESCRIPTIONS
IMPUTED_TOGETHER = 1024  # rows per batch
# During training, memory holds 18 float32 numbers per weight: with its gradient and Adam's two averages, among the
# best weights, and in the state to resume from (all except the gradient), which is copied twice for writing.
BYTES_OF_A_WEIGHT = 18 * 4


class NewRun(NamedTuple):
    """A new run, before training."""

    run: Run  # its folder contains configuration and split
    dataset: Dataset  # with the columns of the model
    proposal: LikelihoodProposal  # from the values of the data
    vae: AnyVAE  # before training


@contextmanager
def new_run(
    settings: RunSettings, out: Path, dataset: Dataset | None = None, command: str | None = None
) -> Iterator[NewRun]:
    """Read the data, build the model, write the run's configuration, and lock the folder during the block.

    Args:
        settings: settings of the run.
        out: folder of the run.
        dataset: the data, if already read and checked to be complete.
        command: the command line, for the run's page.

    Raises:
        ValueError: the data do not fit the settings, or `out` is not empty.
        BlockingIOError: another process is writing to `out`.
    """
    require_free(out)
    require_apart(out, settings.data.source)
    check_devices(settings.training)
    if dataset is None:
        dataset = load_dataset(**settings.data.model_dump())
        require_complete(dataset, or_else=MAP_TAKES_GAPS)
    model, proposal = resolve_likelihood(settings.model, dataset.summary(), dataset.origin)
    if isinstance(model, GridSettings):
        model = model.for_rows(len(dataset.rows("train")))
    data = settings.data.as_decided(streamed=dataset.streamed)
    settings = settings.model_copy(update={"model": model, "data": data})
    constants = _left_out(dataset, model)
    encoding = _encoding(dataset)
    dataset = encoded(dataset, encoding)
    modeled = with_columns(dataset, tuple(name for name in dataset.columns if name not in constants))
    require_float32(modeled)
    facts, vae = _start(settings, modeled, dataset.image_shape)
    if dataset.streamed and has_exemplars(vae):
        raise ValueError(
            f"--prior {model.prior}: expected rows in memory, because each training row is a component of this prior, "
            "got rows that stay in their files; choose another prior, or --stream no"
        )
    run = Run(
        out,
        settings,
        dataset.columns,
        constants,
        dataset.binarize_scale,
        **checksums(dataset),
        facts=facts,
        encoding=encoding,
    )
    weights = sum(parameter.numel() for parameter in vae.parameters())
    require_memory(
        BYTES_OF_A_WEIGHT * weights,
        f"training a model of {weights} weights",
        "use a smaller model (--set model.hidden=[64]), or drop columns (--drop)",
    )
    check_parts(vae, model, facts)
    if settings.training.shard_components:
        require_shardable(vae)
    if settings.training.shift_images:
        image_shape_of(modeled.rows("train"))
    with sole_writer(out):
        require_free(out)  # another process may have begun a run in the meantime
        run.write_splits(dataset)
        run.write_made(command)
        run.write_config()
        yield NewRun(run, modeled, proposal, vae)


def _encoding(dataset: Dataset) -> Conditions | None:
    """Return the encoding of the conditions in the training rows; None without conditions."""
    if not dataset.conditions:
        return None
    encoding = None
    try:
        # encode all rows first, so that an error has the file's row numbers
        for labels in (dataset.labels, dataset.rows("train").labels):
            encoding = Conditions.from_columns({name: labels[name] for name in dataset.conditions}, dataset.quantities)
        return encoding
    except ValueError as error:
        raise ValueError(f"{dataset.origin}: {error}") from error


def _start(settings: RunSettings, dataset: Dataset, image_shape: tuple[int, int] | None) -> tuple[DataFacts, AnyVAE]:
    """Return the facts about the data, and the model built from them, before training."""
    facts = facts_of(dataset.rows("train"), image_shape, settings.seed, getattr(settings.model, "components", 1))
    with own_noise(settings.seed, torch.device("cpu")):
        return facts, build_vae(settings.model, facts)


def _left_by_an_interruption(path: Path) -> bool:
    """Return whether a run that stopped before it wrote its configuration left this file."""
    temporary = tuple(f".{Path(name).stem}-" for name in (SPLITS, MADE, CONFIG))
    return path.name in (SPLITS, MADE) or path.name.startswith(temporary)


def require_free(
    out: Path, go_on: str | None = None, may_go: Callable[[Path], bool] = _left_by_an_interruption
) -> None:
    """Refuse a folder with files other than those that `may_go` accepts.

    Raises:
        ValueError: there are other files, or it is not a folder. If it is a run, the message ends with `go_on`, or with
            advice for its kind.
    """
    if blocking := not_a_folder([out, *out.parents]):
        raise ValueError(f"--out {out}: expected a folder for the run, got the file {str(blocking)!r}; name another")
    if out.exists() and any(not may_go(path) for path in out.iterdir()):
        raise ValueError(
            f"--out {out}: expected an empty or a new folder, so that nothing is lost; "
            + (go_on or _how_to_go_on(out) if (out / CONFIG).exists() else "choose another")
        )


def _how_to_go_on(out: Path) -> str:
    try:
        kind = kind_of(out)
    except ValueError:
        return "choose another"
    if kind != Run.kind:
        return f"choose another, or remove what `{FITTED_BY[kind]}` left there"
    return "go on with --resume, or choose another"


def _left_out(dataset: Dataset, model: ModelSettings) -> dict[str, float]:
    """Return the constant columns that the model leaves out, because a Gaussian has no density for them.

    A network for images keeps them, because an image must stay whole.
    """
    rows = dataset.rows("train")
    if len(rows) < 2:
        raise ValueError(f"{dataset.origin}: expected at least two training rows, got one; give more rows")
    constants = constant_columns(rows)
    if len(constants) == len(dataset.columns):
        raise ValueError(
            f"{dataset.origin}: expected at least one column with different values in the training rows, got "
            f"{len(constants)} constant columns ({describe_constants(constants)}); there is nothing to learn, check "
            "the file"
        )
    whole = any(NETWORKS[name].needs_images for name in model.networks)
    return constants if model.likelihood == "gaussian" and not whole else {}


def train(
    run: Run,
    dataset: Dataset,
    start: AnyVAE | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
    tensorboard: bool = False,
) -> AnyVAE:
    """Train the run's model and write its weights; the caller must have locked the folder.

    With `resume`, training continues from the stored state, if there is one; otherwise from `start` or a new model.
    """
    if process_rank() == 0:
        for folder in (run.path, run.path / FIGURES):
            remove_leftovers(folder)
    vae = (run.load_state() if resume else None) or start or _start(run.settings, dataset, run.facts.image_shape)[1]
    fit(
        vae,
        dataset.rows("train"),
        dataset.rows("valid"),
        settings=run.settings.training,
        seed=run.settings.seed,
        out=run.path,
        resume=resume,
        progress=progress,
        tensorboard=tensorboard,
    )
    if process_rank() == 0:
        run.save_model(vae)
    return vae


def as_judged(run: Run, dataset: Dataset) -> Dataset:
    """Return the data for evaluation: rows that training binarizes anew in each epoch are binarized once."""
    return run.load_dataset(drawn=True) if dataset.dynamic_binarization else dataset


def draw(run: Run, vae: AnyVAE, dataset: Dataset) -> list[Path]:
    """Draw the run's figures with noise of the run's seed, so that interruptions make no difference."""
    from priory.workbench.pictures.vae import draw_figures

    rows, shape = telling_rows(dataset), run.facts.image_shape
    with own_noise(run.settings.seed, device_of(vae)):
        return draw_figures(vae, rows, shape, run.restored, run.history, run.path / FIGURES)


def measure(
    model: AnyModel,
    rows: DatasetRows,
    num_samples: int,
    seed: int,
    progress: Progress | None = None,
) -> Evaluation:
    """Return the metrics of `evaluate`, with noise of this seed, and those of a map or of clusters if there are any."""
    with own_noise(seed, device_of(model)):
        metrics = evaluate(model, rows, num_samples=num_samples, progress=progress)
    if grid_prior_of(model) is not None:
        metrics |= quality_on_map(TopographicMap(model, rows), rows)
    elif has_clusters(model):
        metrics |= _quality_of_clusters(clusters(model, rows), rows)
    require_finite_metrics(metrics, rows)
    return metrics


def _quality_of_clusters(cluster: Tensor, rows: DatasetRows) -> dict[str, Estimate]:
    """Return the number of clusters, and their agreement with the first categorical label, if there is one."""
    quality = {"clusters": Estimate(float(len(cluster.unique())), 0.0)}
    if (kinds := classes(rows.labels)) is not None and (known := kinds != "").sum() > 1:
        quality |= cluster_agreement(cluster[torch.from_numpy(known)], kinds[known])
    return quality


def require_finite_metrics(metrics: Evaluation, rows: DatasetRows) -> None:
    """Refuse metrics with a value that is infinite or NaN.

    Raises:
        ArithmeticError: a value is not finite; the message has the ids of the rows without a likelihood.
    """
    bad = [name for name, estimate in metrics.items() if not math.isfinite(estimate.value)]
    if bad:
        zero = rows.ids[~metrics.per_row["nll"].isfinite().numpy()].tolist()
        ids = f" ({first_few(zero)})" if zero else ""
        raise ArithmeticError(
            f"evaluation: expected finite numbers, got NaN or infinity for {', '.join(bad)}; some rows have no "
            f"likelihood under this model{ids}; leave them out, or see each row's likelihood with `priory score`"
        )


@torch.no_grad()
def embed(model: AnyModel, rows: DatasetRows) -> dict[str, np.ndarray]:
    """Return `z_mean` and `z_scale` of q(z|x); with a grid prior, also `map`, each row's place, and `map_scale`.

    With several levels, they are the center of each level given the levels above, and its scale. `map_scale` is the
    standard deviation of u. If the components of a mixture are clusters, `cluster` is the index of the most likely one.
    """
    posteriors = [
        posterior_of(given(model, context), cast_like(x, model)) for x, context in batches_with_context(rows, 1024)
    ]
    arrays = {
        "z_mean": torch.cat([center_of(q_z) for q_z in posteriors]).cpu().numpy(),
        "z_scale": torch.cat([scale_of(q_z) for q_z in posteriors]).cpu().numpy(),
    }
    if grid_prior_of(model) is not None:
        places = TopographicMap(model, rows).places
        arrays |= {"map": places.place.numpy(), "map_scale": places.scale.numpy()}
    elif has_clusters(model):
        arrays["cluster"] = clusters(model, rows).numpy()
    return arrays


def score(
    model: AnyModel,
    rows: DatasetRows,
    num_samples: int,
    seed: int,
    *,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the estimated log p(x) of each row in nats; a row's noise depends only on the seed and its id."""
    with own_noise(seed, device_of(model)):  # for a prior that estimates its normalizer
        return log_likelihood(model, rows, num_samples=num_samples, seed=seed, progress=progress).cpu().numpy()


def row_numbers(model: AnyModel, rows: DatasetRows, num_samples: int, seed: int) -> dict[str, np.ndarray]:
    """Return the numbers per row whose means `measure` returns; a row's noise depends only on the seed and its id."""
    with own_noise(seed, device_of(model)):
        numbers = evaluate_rows(model, rows, num_samples=num_samples, seed=seed)
    return {name: values.numpy() for name, values in numbers.items()}


def filled(
    model: AnyModel, rows: DatasetRows, num_steps: int, seed: int, draw: bool, *, progress: Progress | None = None
) -> Tensor:
    """Return the rows with missing cells filled in, (rows, columns of the model), on the CPU.

    The noise of a batch of rows depends on the seed and on their ids.
    """
    parts = []
    for start in range(0, len(rows), IMPUTED_TOGETHER):
        part = DatasetRows(rows.dataset, rows.indices[start : start + IMPUTED_TOGETHER])
        with own_noise(row_seed(seed, " ".join(part.ids)), device_of(model)):
            parts.append(impute(model, part, num_steps=num_steps, draw=draw).cpu())
        if progress is not None:
            progress(start + len(part))
    return torch.cat(parts)


@torch.no_grad()
def sample(model: Any, number: int, seed: int, mean: bool, context: Tensor | None = None) -> Tensor:
    """Draw rows, (number, columns of the model), on the CPU; with `mean`, E[x|z] instead of draws from p(x|z).

    A conditional model draws for one context, (C,).
    """
    torch.manual_seed(seed)
    known = given(model, context)
    return torch.cat([known.sample(min(1024, number - start), mean=mean).cpu() for start in range(0, number, 1024)])


def surface(model: AnyModel, num_samples: int) -> Surface:
    """Return the map of a model with a grid prior; likelihoods use `num_samples` importance samples.

    Raises:
        ValueError: the prior has no grid.
    """
    if grid_prior_of(model) is None:
        name = type(getattr(model, "prior", None)).__name__
        raise ValueError(
            f"RUN: expected a run whose prior has a grid (gtm, gtm-vamp), got the prior {name}; "
            "train a model with such a prior, or give it to this run: priory refit RUN --prior gtm-vamp"
        )
    kind: Any = ConditionalSurface if isinstance(model, ConditionalVAE) else ModelSurface
    return kind(model, num_samples=num_samples)
