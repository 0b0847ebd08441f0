"""The settings of a model: its own and those of the prior, the likelihood and the networks that it names."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Self

from pydantic import Field, create_model, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from priory.workbench.settings.base import Settings, Size, Tree, UnknownNameError
from priory.workbench.settings.likelihoods import LIKELIHOODS, LevelSettings
from priory.workbench.settings.networks import NETWORKS
from priory.workbench.settings.priors import PRIORS, BaseSettings
from priory.workbench.settings.registry import Registry

MOST_LEVELS = 5  # each level has a metric of its own, and five are defined
REGISTRIES: dict[str, Registry[Any]] = {"prior": PRIORS, "likelihood": LIKELIHOODS, "network": NETWORKS}


class ModelSettings(Settings):
    """The shape of a model. The parts that it names add their own settings to these.

    >>> ModelSettings(prior="vamp", components=5).components
    5
    >>> ModelSettings(prior="standard", components=5)
    Traceback (most recent call last):
    pydantic_core...ValidationError: 1 validation error for ModelSettings
    components
      Extra inputs are not permitted ...
    """

    prior: str = Field("standard", description=f"one of {', '.join(PRIORS)}, or a class as package.module:NAME")
    latent_dim: Size = Field(16, description="L, number of latent dimensions; with several levels, of the top one")
    levels: int = Field(
        1, ge=1, le=MOST_LEVELS, description="number of levels of latent variables; the prior is that of the top level"
    )
    lower_dims: tuple[Size, ...] | None = Field(
        None, description="latent dimensions of each level below the top; None: latent_dim for each"
    )
    prior_condition: bool = Field(
        True, description="with --condition: whether the prior depends on it, p(z | c); otherwise p(z)"
    )
    likelihood: str | None = Field(None, description=f"one of {', '.join(LIKELIHOODS)}; default: chosen from the data")
    network: str = Field("mlp", description=f"network of the encoder and of the decoder: {', '.join(NETWORKS)}")
    encoder: str | None = Field(None, description="network of the encoder, if it differs from `network`")
    decoder: str | None = Field(None, description="network of the decoder, if it differs from `network`")
    input_noise: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="noise on the encoder's input in training; None: from a grid's guide and the number of rows",
    )
    log_variance_range: tuple[float, float] | None = Field(
        (-14.0, 6.0), description="bounds of the encoder's log-variance; the VampPrior paper has -6, 2"
    )

    def __new__(cls, *args: Any, **tree: Any) -> Self:
        return super().__new__(cls.kind_for(tree))

    @classmethod
    def kind_for(cls, tree: Tree) -> type[Self]:
        """Return these settings joined with those of the parts that the tree names."""
        if cls is not ModelSettings:
            return cls
        prior, network = (tree.get(name, cls.model_fields[name].default) for name in ("prior", "network"))
        named = [("prior", prior), ("likelihood", tree.get("likelihood"))]
        named += [(name, tree[name]) if tree.get(name) else ("network", network) for name in ("encoder", "decoder")]
        if prior is None or not all(isinstance(name, str | None) for _, name in named):
            return cls  # validation refuses them
        base = base_prior_of({**tree, "prior": prior})
        named += [("base_prior", base)] if isinstance(base, str) else []
        parts = {f"{setting} {name}": _settings_of(setting, name) for setting, name in named if name is not None}
        _check_names_differ(parts)
        if tree.get("likelihood") is None:  # accept these settings until the data decide the likelihood
            parts["likelihood"] = LevelSettings
        return _joined(tuple(dict.fromkeys(parts.values())))

    @classmethod
    def why_unknown(cls, name: str, tree: Tree) -> str | None:
        """Return which other parts have the setting."""
        for kind, registry in REGISTRIES.items():
            if owners := parts_with(name, registry):
                return f"belongs to {owners}; the {kind} is {tree.get(kind)}; leave it out, or choose another {kind}"
        return None

    @model_validator(mode="wrap")
    @classmethod
    def _of_the_parts_named(cls, tree: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        kind = cls.kind_for(tree) if isinstance(tree, Mapping) else cls
        return handler(tree) if kind is cls else kind.model_validate(tree)

    @classmethod
    def of_prior(cls, prior: str, **settings: Any) -> "ModelSettings":
        """Return the settings of a model with this prior; leave out those that only other priors have.

        >>> ModelSettings.of_prior("vamp", components=5, points_per_side=3).components
        5
        """
        tree = settings | {"prior": prior}
        others = {name for part in PRIORS.loaded().values() for name in part.settings.model_fields}
        known = cls.kind_for(tree).model_fields
        return cls(**{name: value for name, value in tree.items() if name in known or name not in others})

    def with_likelihood(self, name: str) -> "ModelSettings":
        """Return these settings with this likelihood, without the settings of other likelihoods.

        Raises:
            ValueError: the name is unknown, or a setting that only other likelihoods have was changed.
        """
        tree = self.model_dump() | {"likelihood": name}
        for setting in tree.keys() - ModelSettings.kind_for(tree).model_fields:
            if tree.pop(setting) != type(self).model_fields[setting].default:
                raise ValueError(f"--set model.{setting}: {self.why_unknown(setting, tree)}")
        return ModelSettings.model_validate(tree)

    @model_validator(mode="after")
    def _of_as_many_levels(self) -> Self:
        if self.lower_dims is not None and len(self.lower_dims) != self.levels - 1:
            raise ValueError(
                f"expected as many lower_dims as levels below the top, {self.levels - 1}, got {len(self.lower_dims)}; "
                "give one number for each, or leave them out"
            )
        return self

    @property
    def level_dims(self) -> tuple[int, ...]:
        """The dimensions of each level, the top one first.

        >>> ModelSettings(latent_dim=4, levels=3).level_dims, ModelSettings(levels=2, lower_dims=(8,)).level_dims
        ((4, 4, 4), (16, 8))
        """
        return (self.latent_dim, *(self.lower_dims or (self.latent_dim,) * (self.levels - 1)))

    @property
    def described_dims(self) -> str:
        """The dimensions of the levels as text: "2", or "40 + 40"."""
        return " + ".join(map(str, self.level_dims))

    @property
    def networks(self) -> tuple[str, str]:
        """The names of the encoder's and of the decoder's network."""
        return self.encoder or self.network, self.decoder or self.network


@cache
def _joined(kinds: tuple[type[Settings], ...]) -> Any:
    own = [kind for kind in kinds if kind is not Settings]
    subclasses_first = sorted(own, key=lambda kind: -len(kind.__mro__))  # Python requires this order of bases
    return create_model("ModelSettings", __base__=(*subclasses_first, ModelSettings))


def _settings_of(setting: str, name: str) -> type[Settings]:
    try:
        return ({"base_prior": PRIORS} | REGISTRIES).get(setting, NETWORKS)[name].settings
    except ValueError as error:
        raise UnknownNameError(setting, str(error)) from error


def base_prior_of(tree: Tree) -> Any:
    """Return the name of the base prior, on which the tree's prior builds; None if it builds on none.

    Raises:
        UnknownNameError: the prior is unknown, or the base prior builds on another one itself.

    >>> base_prior_of({"prior": "resampled", "base_prior": "mog"}), base_prior_of({"prior": "mog"})
    ('mog', None)
    """
    own = _settings_of("prior", tree["prior"])
    if not issubclass(own, BaseSettings):
        return None
    base = tree.get("base_prior", own.model_fields["base_prior"].default)
    if isinstance(base, str) and issubclass(_settings_of("base_prior", base), BaseSettings):
        raise UnknownNameError(
            "base_prior", f"expected a prior that needs no other one, got {base}; choose another, such as standard"
        )
    return base


def prior_settings(model: ModelSettings) -> set[str]:
    """Return the names of the settings of the model's prior and of its base prior.

    >>> sorted(prior_settings(ModelSettings(prior="mog")))
    ['components', 'learn_weights']
    """
    priors = (model.prior, base_prior_of(model.model_dump()))
    return {name for prior in priors if prior is not None for name in PRIORS[prior].settings.model_fields}


def stands_on(model: ModelSettings, below: ModelSettings) -> bool:
    """Return whether the prior of a model builds on the prior of another model, with the same settings.

    >>> mog = ModelSettings(prior="mog", components=5)
    >>> [stands_on(ModelSettings(prior="resampled", base_prior="mog", components=k), mog) for k in (5, 6)]
    [True, False]
    """
    same = all(getattr(model, name, None) == getattr(below, name) for name in prior_settings(below))
    return same and base_prior_of(model.model_dump()) == below.prior


def _check_names_differ(parts: Mapping[str, type[Settings]]) -> None:
    """Refuse parts that share the name of a setting but differ in its type, default or description."""
    owners = dict.fromkeys(ModelSettings.model_fields, "the model")
    fields = dict(ModelSettings.model_fields)
    for part, kind in parts.items():
        for name, field in kind.model_fields.items():
            owner, other = owners.setdefault(name, part), fields.setdefault(name, field)
            if repr(other) != repr(field):
                raise ValueError(
                    f"setting {name}: expected a name that only one part has, but {owner} and {part} have it; "
                    "choose another part, or rename the parameter"
                )


def parts_with(setting: str, registry: Registry[Any]) -> str:
    """Return the parts that have this setting, for a message; empty if there are none.

    >>> parts_with("points_per_side", PRIORS)
    'the priors gtm, gtm-vamp'
    """
    names = [name for name, part in registry.loaded().items() if setting in part.settings.model_fields]
    return f"the {registry.kind}{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else ""
