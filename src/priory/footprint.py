"""About how much memory a model takes, before anything of it is made."""

import torch
from torch import nn

from priory.assembly import DataFacts, decoder_network, encoder_network, outputs_per_column, prior_spec, start_rows
from priory.datasets import Dataset
from priory.memory import require_memory
from priory.priors import PRIORS
from priory.settings import ModelSettings, RunSettings

BYTES = 4  # of a number in float32
# Of each number that is learned: the weight, its gradient, Adam's two averages; the best weights; the state to resume
# from, which holds all but the gradient, and is copied twice to be written. Measured on 100 rows of 100000 columns.
COPIES = 18
START_COPIES = 5  # of the rows that constants start from: in float32, and twice in float64
UNCOUNTABLE = 2**63  # more numbers than torch has indices for
CURE = "drop columns (--drop), or take a smaller model (--set model.hidden=[64])"


def require_model_fits(settings: ModelSettings, facts: DataFacts) -> None:
    """Refuse a model whose weights alone do not fit.

    Raises:
        NotEnoughMemoryError: it would take more memory than there is.
    """
    require_memory(BYTES * num_values(settings, facts), f"a model of {facts.num_inputs} columns", CURE)


def require_training_fits(settings: RunSettings, dataset: Dataset, image_shape: tuple[int, int] | None) -> None:
    """Refuse a training that does not fit: weights and their copies, the rows it starts from, a batch's activations.

    Raises:
        NotEnoughMemoryError: it would take more memory than there is, besides the data that are there already.
    """
    training, columns = settings.training, len(dataset.columns)
    train, valid = (len(dataset.splits[name]) for name in ("train", "valid"))
    outputs = outputs_per_column(settings.model)
    start = min(train, start_rows(settings.model)) * START_COPIES
    step = min(train, training.batch_size) * training.num_samples * (2 + 4 * outputs)
    validation = min(valid, training.validation_batch_size) * training.validation_draws * (1 + outputs)
    learned = num_values(settings.model, DataFacts(columns, train, image_shape=image_shape))
    values = COPIES * learned + max(start, step, validation) * columns
    require_memory(BYTES * values, f"training on {train} rows of {columns} columns", CURE)


def num_values(settings: ModelSettings, facts: DataFacts) -> int:
    """Numbers that the model's networks and its prior hold.

    >>> from priory.settings import ModelSettings
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
