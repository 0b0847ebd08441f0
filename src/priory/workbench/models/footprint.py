"""About how much memory a model takes, before anything of it is made."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import nn

from priory._support.memory import require_memory
from priory.priors import PRIORS, GridPrior
from priory.priors.radial import rows_to_start_from
from priory.workbench.data import Dataset
from priory.workbench.models.building import (
    DataFacts,
    decoder_network,
    encoder_network,
    outputs_per_column,
    prior_spec,
    start_rows,
)
from priory.workbench.settings.vae import ModelSettings, RunSettings

BYTES = 4  # of a number in float32
# Of each number that is learned: the weight, its gradient, Adam's two averages; the best weights; the state to resume
# from, which holds all but the gradient, and is copied twice to be written. Measured on 100 rows of 100000 columns.
COPIES = 18
START_COPIES = 5  # of the rows that constants start from: in float32, and twice in float64
GTM_COPIES = 8  # of the rows that a grid starts from: four in float64
UNCOUNTABLE = 2**63  # more numbers than torch has indices for
CURE = "drop columns (--drop), or take a smaller model (--set model.hidden=[64])"
# What can be too large, with what to ask for instead. One is to blame where its default would halve the memory.
CURES = (
    ("model.points_per_side model.grid_dim", "take a smaller grid (--grid 8x8)"),
    ("model.latent_dim", "take fewer latent dimensions (--latent-dim 2)"),
    ("model.components", "take fewer components (--components 64)"),
    ("model.prior_hidden", "take a smaller network for the prior (--set model.prior_hidden=[64])"),
    ("model.flow_transforms", "take fewer layers of the flow (--set model.flow_transforms=3)"),
    ("model.hidden", CURE),
    ("training.batch_size", "take smaller batches (--batch-size 100)"),
    ("training.num_samples", "take fewer draws (--set training.num_samples=1)"),
    ("training.validation_batch_size", "validate in smaller batches (--set training.validation_batch_size=1000)"),
    ("training.validation_draws", "validate with fewer draws (--set training.validation_draws=4)"),
)
Estimate = Callable[[RunSettings], int]


def require_model_fits(settings: ModelSettings, facts: DataFacts) -> None:
    """Refuse a model whose weights alone do not fit.

    Raises:
        NotEnoughMemoryError: it would take more memory than there is.
    """

    def estimate(run: RunSettings) -> int:
        return num_values(run.model, facts)

    run = RunSettings(model=settings)
    require_memory(BYTES * estimate(run), f"a model of {facts.num_inputs} columns", partial(_cure, estimate, run))


def require_training_fits(settings: RunSettings, dataset: Dataset, image_shape: tuple[int, int] | None) -> None:
    """Refuse a training that does not fit: weights and their copies, the rows it starts from, a batch's activations.

    Raises:
        NotEnoughMemoryError: it would take more memory than there is, besides the data that are there already.
    """
    columns, train = len(dataset.columns), len(dataset.splits["train"])
    facts = DataFacts(columns, train, image_shape=image_shape)
    estimate = partial(_training_values, facts=facts, valid=len(dataset.splits["valid"]))
    what = f"training on {train} rows of {columns} columns"
    require_memory(BYTES * estimate(settings), what, partial(_cure, estimate, settings))


def _training_values(settings: RunSettings, facts: DataFacts, valid: int) -> int:
    training, train = settings.training, facts.num_rows
    outputs = outputs_per_column(settings.model)
    rows = min(train, start_rows(settings.model))
    start = rows * START_COPIES
    if issubclass(PRIORS[settings.model.prior], GridPrior) and settings.model.grid_start == "gtm":
        start += GTM_COPIES * rows_to_start_from(rows, facts.num_inputs)
    step = min(train, training.batch_size) * training.num_samples * (2 + 4 * outputs)
    validation = min(valid, training.validation_batch_size) * training.validation_draws * (1 + outputs)
    return COPIES * num_values(settings.model, facts) + max(start, step, validation) * facts.num_inputs


def _cure(estimate: Estimate, settings: RunSettings) -> str:
    """What to do about the setting that takes most of the memory, or about the columns where no single one does."""
    needed, cure = min((estimate(_with_defaults(settings, names.split())), cure) for names, cure in CURES)
    return cure if needed <= estimate(settings) / 2 else CURE


def _with_defaults(settings: RunSettings, names: Iterable[str]) -> RunSettings:
    for name in names:
        branch, leaf = name.split(".")
        default = getattr(getattr(RunSettings(), branch), leaf)
        changed = getattr(settings, branch).model_copy(update={leaf: default})
        settings = settings.model_copy(update={branch: changed})
    return settings


def num_values(settings: ModelSettings, facts: DataFacts) -> int:
    """Numbers that the model's networks and its prior hold.

    >>> from priory.workbench.settings.vae import ModelSettings
    >>> num_values(ModelSettings(likelihood="bernoulli", hidden=(3,)), DataFacts(10, 100))
    98
    """
    try:
        with torch.device("meta"):  # shapes without storage
            networks = [encoder_network(settings, facts), decoder_network(settings, facts)]
    except RuntimeError:  # a product of sizes beyond 2^63
        return UNCOUNTABLE
    return sum(map(_num_parameters, networks)) + PRIORS[settings.prior].num_values(prior_spec(settings, facts))


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
