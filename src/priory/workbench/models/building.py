"""From settings to a model: the one place where names become objects."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priory._support.messages import did_you_mean, shortened
from priory.grid.guide import Guide
from priory.nn.decoders import LIKELIHOODS, LikelihoodDecoder
from priory.nn.encoders import NormalEncoder
from priory.nn.networks import ConvolutionalDecoderNetwork, ConvolutionalEncoderNetwork, gated_mlp, mlp
from priory.nn.preprocessing import Identity, LogNormalize, Preprocessing, Rescale, Standardize
from priory.priors import PRIORS, Prior, PriorSpec
from priory.vae import VAE
from priory.workbench.data import DatasetRows, LikelihoodProposal, Summary, propose_likelihood
from priory.workbench.settings.vae import ModelSettings

DEFAULT_HIDDEN = {"mlp": (256, 256), "gated": (300, 300), "conv": (32, 64)}
MOST_START_ROWS = 20_000  # rows from which constants and pseudo-inputs start: enough for both, and sparse data fit


@dataclass(frozen=True)
class DataFacts:
    """What a model must know of its training data.

    Attributes:
        num_inputs: D.
        rows: training rows to start from, in the data's units; None when a model is rebuilt for saved weights.
        num_rows: of the library sizes that a count model keeps.
        image_shape: height and width, where rows are images.
    """

    num_inputs: int
    num_rows: int
    rows: Float[Tensor, "datum input"] | None = None
    image_shape: tuple[int, int] | None = None


def facts_of(
    rows: DatasetRows, image_shape: tuple[int, int] | None, seed: int, most_rows: int = MOST_START_ROWS
) -> DataFacts:
    """Facts from the training rows; of a large table a random part."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    x, _ = rows.batch(order[:most_rows])
    return DataFacts(x.shape[1], len(x), x, image_shape)


def start_rows(settings: ModelSettings) -> int:
    """How many training rows a model starts from: one for each component, if there are as many."""
    return max(MOST_START_ROWS, settings.components)


def resolve_likelihood(
    settings: ModelSettings, summary: Summary, where: str
) -> tuple[ModelSettings, LikelihoodProposal]:
    """Settings with the likelihood that the data propose, or that the user named and the data allow.

    Raises:
        ValueError: the name is not known, or the data are outside of the likelihood's support.
    """
    proposal = propose_likelihood(summary)
    name = settings.likelihood or proposal.likelihood
    check_name("--likelihood", name, LIKELIHOODS)
    levels = settings.num_levels
    if levels is None and name == "categorical":
        levels = int(summary.high) + 1
    elif levels is None and name == "discretized-logistic":
        levels = max(256, int(summary.high) + 1)
    resolved = settings.model_copy(update={"likelihood": name, "num_levels": levels})
    check_support(resolved, summary, where)
    return resolved, proposal


def build_vae(settings: ModelSettings, facts: DataFacts) -> VAE:
    """The model that the settings describe; weights start from torch's global generator.

    Raises:
        ValueError: a name is not known, or a convolutional network is asked for rows that are no images.
    """
    check_name("--prior", settings.prior, PRIORS)
    preprocess = _preprocess(settings, facts)
    encoder = NormalEncoder(encoder_network(settings, facts), settings.log_variance_range)
    decoder = _decoder(settings, facts, preprocess)
    prior = build_prior(settings, facts, preprocess)
    encoder.input_noise = input_noise(settings, prior)
    return VAE(encoder, decoder, prior, preprocess)


def input_noise(settings: ModelSettings, prior: nn.Module) -> float:
    """The noise that the settings ask for, else that of the prior's guide, a standard deviation of a feature.

    A sheet with noise about it is what a guided grid takes the data for: the encoder learns to see through it.
    """
    if settings.input_noise is not None:
        return settings.input_noise
    guide: Guide | None = getattr(prior, "guide", None)
    return 0.0 if guide is None else math.sqrt(float(guide.noise_variance))


def build_prior(settings: ModelSettings, facts: DataFacts, preprocess: Preprocessing) -> Prior:
    """The prior that the settings describe, where it starts; `preprocess` gives what the encoder's first layer reads.

    Raises:
        ValueError: the name is not known.
    """
    check_name("--prior", settings.prior, PRIORS)
    features = None if facts.rows is None else preprocess(facts.rows)
    return PRIORS[settings.prior].from_spec(prior_spec(settings, facts, preprocess.feature_range, features))


def check_name(option: str, name: str, known: dict[str, object] | dict[str, type]) -> None:
    """Raise a ValueError that lists the known names and the nearest, where this is none of them."""
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"{option} {shortened(name)}: there is none of that name; known are {', '.join(known)}{hint}")


def prior_spec(
    settings: ModelSettings,
    facts: DataFacts,
    feature_range: tuple[float | None, float | None] = (None, None),
    features: Tensor | None = None,
) -> PriorSpec:
    """What the prior is built from."""
    return PriorSpec(
        latent_dim=settings.latent_dim,
        num_features=facts.num_inputs,
        num_components=settings.components,
        points_per_side=settings.points_per_side,
        grid_dim=settings.grid_dim,
        hidden=settings.prior_hidden,
        learn_weights=settings.learn_weights,
        learn_pseudo_inputs=settings.learn_pseudo_inputs,
        initialize=settings.initialize,
        feature_range=feature_range,
        features=features,
        flow_transforms=settings.flow_transforms,
        grid_start=settings.grid_start,
        grid_network=settings.grid_network,
        basis_per_side=settings.basis_per_side,
        basis_width=settings.basis_width,
    )


def _preprocess(settings: ModelSettings, facts: DataFacts) -> Preprocessing:
    if settings.likelihood == "bernoulli":
        return Identity()
    if settings.likelihood in ("categorical", "discretized-logistic"):
        return Rescale(0.0, float((settings.num_levels or 256) - 1))
    if settings.likelihood == "gaussian":
        if facts.rows is None:
            return Standardize(torch.zeros(facts.num_inputs), torch.ones(facts.num_inputs))
        return Standardize.from_data(facts.rows)
    return LogNormalize(1.0) if facts.rows is None else LogNormalize.from_data(facts.rows)


def _decoder(settings: ModelSettings, facts: DataFacts, preprocess: Preprocessing) -> LikelihoodDecoder:
    options = _levels(settings)
    if isinstance(preprocess, Standardize):
        options |= {"loc": preprocess.loc, "scale": preprocess.scale}
    if settings.likelihood == "negative-binomial":
        options["library_sizes"] = torch.ones(facts.num_rows) if facts.rows is None else facts.rows.sum(-1)
    return LIKELIHOODS[settings.likelihood or "gaussian"](decoder_network(settings, facts), **options)


def _levels(settings: ModelSettings) -> dict[str, Any]:
    ordinal = settings.likelihood in ("categorical", "discretized-logistic")
    return {"num_levels": settings.num_levels} if ordinal else {}


def outputs_per_column(settings: ModelSettings) -> int:
    """P, the numbers that the decoder's network gives for each column."""
    return LIKELIHOODS[settings.likelihood or "gaussian"].outputs_per_dimension(**_levels(settings))


def encoder_network(settings: ModelSettings, facts: DataFacts) -> nn.Module:
    """The network behind q(z|x)."""
    hidden, width = _hidden(settings), 2 * settings.latent_dim
    if settings.network == "conv":
        return ConvolutionalEncoderNetwork(_image_shape(facts), width, channels=hidden)
    return _dense(settings)(facts.num_inputs, hidden, width)


def decoder_network(settings: ModelSettings, facts: DataFacts) -> nn.Module:
    """The network behind p(x|z)."""
    hidden, outputs = tuple(reversed(_hidden(settings))), outputs_per_column(settings)
    if settings.network == "conv":
        return ConvolutionalDecoderNetwork(
            _image_shape(facts), settings.latent_dim, outputs_per_pixel=outputs, channels=hidden
        )
    return _dense(settings)(settings.latent_dim, hidden, facts.num_inputs * outputs)


def _dense(settings: ModelSettings):  # type: ignore[no-untyped-def]  # one of two functions of one signature
    return gated_mlp if settings.network == "gated" else mlp


def _hidden(settings: ModelSettings) -> tuple[int, ...]:
    return settings.hidden or DEFAULT_HIDDEN[settings.network]


def _image_shape(facts: DataFacts) -> tuple[int, int]:
    if facts.image_shape is None or math.prod(facts.image_shape) != facts.num_inputs:
        raise ValueError(
            f"--network conv: expected images, got rows of {facts.num_inputs} columns without a shape; store (N, "
            "height, width) or an array `shape` in the .npz, or choose --network mlp"
        )
    return facts.image_shape


def check_support(settings: ModelSettings, summary: Summary, where: str) -> None:
    """Refuse data, called `where`, to which the likelihood gives no probability, before any work.

    Raises:
        ValueError: values outside of the likelihood's support.
    """
    name = settings.likelihood or "gaussian"
    if settings.num_levels is not None and summary.integers and summary.high >= settings.num_levels:
        raise ValueError(
            f"{where}: expected values below {settings.num_levels}, the number of levels that the model has, and the "
            f"data reach {summary.high:g}; leave these rows out, or train with --set model.num_levels="
            f"{summary.high + 1:.0f}"
        )
    counts = summary.integers and summary.low >= 0
    fits = {
        "bernoulli": summary.binary,
        "categorical": counts,
        "discretized-logistic": counts,
        "negative-binomial": counts,
        "gaussian": True,
    }
    if not fits[name]:
        wanted = (
            "only 0 and 1 (--binarize makes them from gray values)" if name == "bernoulli" else "integers from 0 up"
        )
        kind = "integers" if summary.integers else "real values"
        raise ValueError(
            f"{where}: expected {wanted} for --likelihood {name}, got {kind} {summary.low:g}..{summary.high:g}; give "
            "such data, or train with another --likelihood"
        )
