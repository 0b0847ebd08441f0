"""Build a model from its settings."""

import math
from dataclasses import replace
from typing import Any, cast

import torch
from torch.distributions import Distribution, constraints

from priory._support.imports import located
from priory.grid.guide import strength
from priory.model import evaluation_mode, given
from priory.nn.conditional import ConditionalDecoder
from priory.nn.decoders import LikelihoodDecoder
from priory.nn.encoders import NormalEncoder
from priory.nn.hierarchy import HierarchicalEncoder
from priory.nn.preprocessing import Preprocessing
from priory.priors import GivenPrior, HierarchicalPrior, Prior
from priory.training.exemplars import require_own_exemplars
from priory.vae import VAE, AnyVAE, ConditionalVAE
from priory.workbench.data import LikelihoodProposal, Summary, propose_likelihood
from priory.workbench.models.conditional import build_encoder
from priory.workbench.models.facts import DataFacts, Features
from priory.workbench.models.levels import decoder_network, lower_encoder, lower_prior
from priory.workbench.settings.likelihoods import LIKELIHOODS
from priory.workbench.settings.model import ModelSettings
from priory.workbench.settings.networks import NETWORKS
from priory.workbench.settings.priors import PRIORS

# The standard deviation of the input noise, in units of the guide's, with at most 1000 rows (docs/maps.md).
NOISE = 3.0


def class_of_prior(name: str) -> type[Prior]:
    """Return the class of the prior of this name."""
    return located(PRIORS[name].prior)


def class_of_decoder(settings: ModelSettings) -> type[LikelihoodDecoder]:
    """Return the decoder class of the likelihood in the settings."""
    return located(LIKELIHOODS[settings.likelihood or "gaussian"].decoder)


def decoder_options(settings: ModelSettings) -> dict[str, Any]:
    """Return the options of the decoder's constructor."""
    own = LIKELIHOODS[settings.likelihood or "gaussian"].settings.model_fields
    return {name: getattr(settings, name) for name in own}


def resolve_likelihood(
    settings: ModelSettings, summary: Summary, where: str
) -> tuple[ModelSettings, LikelihoodProposal]:
    """Return the settings with a likelihood: the user's, or else the one proposed for the data; and the proposal.

    Raises:
        ValueError: the name is unknown, the likelihood lacks a setting that was changed, or the data are outside of
            its support.
    """
    proposal = propose_likelihood(summary)
    named = settings.with_likelihood(settings.likelihood or proposal.likelihood)
    options, proposed = decoder_options(named), class_of_decoder(named).options_for(summary.high)
    decided = {name: value for name, value in proposed.items() if options[name] is None}
    complete = named.model_copy(update=decided)
    check_support(complete, summary, where)
    return complete, proposal


def check_support(settings: ModelSettings, summary: Summary, where: str) -> None:
    """Refuse data with values outside of the likelihood's support; messages call the data `where`.

    Raises:
        ValueError: a value is outside of the support.
    """
    support = class_of_decoder(settings).support(**decoder_options(settings))
    low, high = summary.low, summary.high
    whole = summary.integers or not support.is_discrete
    if whole and bool(support.check(torch.tensor([low, high], dtype=torch.float64)).all()):
        return
    top = getattr(support, "upper_bound", math.inf)
    if summary.integers and low >= 0 and high > top > 1:
        raise ValueError(
            f"{where}: expected values below {top + 1}, the number of levels of the model, got values up to "
            f"{high:g}; leave these rows out, or train with --set model.num_levels={high + 1:.0f}"
        )
    kind = "integers" if summary.integers else "real values"
    raise ValueError(
        f"{where}: expected {_described(support)} for --likelihood {settings.likelihood}, got {kind} {low:g}.."
        f"{high:g}; give such data, or train with another --likelihood"
    )


def _described(support: constraints.Constraint) -> str:
    if support is constraints.boolean:
        return "only 0 and 1 (--binarize draws them from gray values)"
    start = getattr(support, "lower_bound", None)
    if support.is_discrete and start is not None:
        return f"integers from {start} up"
    return f"numbers from {start} up" if start is not None else f"values in {support}"


def build_vae(settings: ModelSettings, facts: DataFacts) -> AnyVAE:
    """Build the model that the settings describe; torch's global generator draws the initial weights.

    Raises:
        ValueError: a name is unknown, or the network is convolutional and the rows are not images.
    """
    likelihood, options, rows = class_of_decoder(settings), decoder_options(settings), facts.start_rows
    inputs, shape = facts.num_inputs, facts.image_shape
    preprocess = likelihood.preprocessing(rows if facts.rows is not None else rows[:1], **options)
    width = sum(facts.context_sizes)
    encoder: Any
    if width:
        encoder = build_encoder(settings, inputs, width, shape)
    else:
        network = located(NETWORKS[settings.networks[0]].encoder)(settings, inputs, 2 * settings.latent_dim, shape)
        encoder = NormalEncoder(network, settings.log_variance_range)
    if settings.levels > 1:
        encoder = HierarchicalEncoder(encoder, *lower_encoder(settings, inputs, shape))
    outputs = inputs * likelihood.outputs_per_dimension(**options)
    network = decoder_network(settings, width, outputs, shape)
    decoder = likelihood.from_data(network, rows, **options)
    prior = build_prior(settings, facts.features(preprocess))
    encoder.input_noise = input_noise(settings, prior, facts.num_train_rows)
    if width:
        return ConditionalVAE(encoder, ConditionalDecoder(decoder), prior, preprocess)
    return VAE(encoder, decoder, prior, preprocess)


def build_prior(settings: ModelSettings, features: Features) -> Prior:
    """Build the prior that the settings describe, with its initial values.

    Raises:
        ValueError: the name is unknown, or the model is conditional and the prior has no conditional form.
    """
    part = PRIORS[settings.prior]
    if not features.context_sizes:
        if not settings.prior_condition:
            raise ValueError(
                "--set model.prior_condition=false: expected --condition COLUMN too, got none; leave this setting out"
            )
        prior = located(part.build)(settings, features)
        return prior if settings.levels == 1 else HierarchicalPrior(prior, lower_prior(settings))
    if settings.levels > 1:
        raise ValueError("--levels: expected one level with --condition; leave one of them out")
    if part.build_conditional is not None:
        return located(part.build_conditional)(settings, features)
    if not settings.prior_condition:
        prior = located(part.build)(settings, features)
        if not prior.needs_encoder:
            return prior
    known = [name for name, other in PRIORS.loaded().items() if other.build_conditional is not None]
    raise ValueError(
        f"--condition: expected a prior that can condition ({', '.join(known)}), got --prior {settings.prior}; choose "
        "one of them, or leave --condition out"
    )


@torch.no_grad()
def check_parts(vae: AnyVAE, settings: ModelSettings, facts: DataFacts) -> None:
    """Check the parts of a model before training, without changing the random stream.

    Raises:
        ValueError: a distribution has a wrong shape, the prior's weights do not restore the prior, or the prior cannot
            be trained on exemplars.
    """
    require_own_exemplars(vae)
    x, columns, latents = facts.start_rows[:1], facts.num_inputs, sum(settings.level_dims)
    z = torch.linspace(-1.0, 1.0, 3 * latents).reshape(3, latents)
    context = None if facts.context is None else facts.context[0]
    model = given(vae, context)
    with torch.random.fork_rng(devices=[]), evaluation_mode(vae):
        p_z = model.latent_prior()
        _check_shape(f"prior {settings.prior}: p(z)", p_z, (), latents)
        _check_shape(f"encoder {settings.networks[0]}: q(z|x)", model.encode(x), (1,), latents)
        _check_shape(
            f"likelihood {settings.likelihood}: p(x|z)", model.decode(z[:1], **model.covariates(x)), (1,), columns
        )
        without_data = replace(facts, rows=None).features(cast(Preprocessing, vae.preprocess))
        restored = build_prior(settings, without_data)
        try:
            restored.load_state_dict(vae.prior.state_dict())
            restored.eval()
            again = restored(vae.encoder) if context is None else GivenPrior(restored, context)(vae.encoder)
            same = torch.allclose(again.log_prob(z), p_z.log_prob(z), atol=1e-4, equal_nan=True)
        except RuntimeError:  # weights of another shape
            same = False
    if not same:
        raise ValueError(
            f"prior {settings.prior}: expected a prior that its state_dict restores, got another density after saving "
            "and loading; store everything computed from the training rows in parameters or buffers, and let no shape "
            "depend on their values"
        )


def _check_shape(what: str, distribution: Distribution, batch: tuple[int, ...], width: int) -> None:
    shapes = (tuple(distribution.batch_shape), tuple(distribution.event_shape))
    if shapes != (batch, (width,)):
        raise ValueError(
            f"{what}: expected batch shape {batch} and event shape {(width,)}, got {shapes[0]} and {shapes[1]}; wrap "
            "independent dimensions in torch.distributions.Independent(..., 1)"
        )


def input_noise(settings: ModelSettings, prior: Any, num_train_rows: int) -> float:
    """Return the standard deviation of the noise on each feature of the encoder's input in training.

    The default is proportional to the noise of the guide: three times as much with at most 1000 training rows, and less
    with more rows.
    """
    if settings.input_noise is not None:
        return settings.input_noise
    guide = getattr(prior, "guide", None)
    return 0.0 if guide is None else NOISE * strength(num_train_rows) * math.sqrt(float(guide.noise_variance))
