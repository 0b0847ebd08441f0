"""The settings of a model: its own, and those of the prior, the likelihood and the networks that it names."""

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

MOST_LEVELS = 5  # as many as there are metrics of
REGISTRIES: dict[str, Registry[Any]] = {"prior": PRIORS, "likelihood": LIKELIHOODS, "network": NETWORKS}


class ModelSettings(Settings):
    """The shape of a model. The parts that it names decide which settings there are besides these.

    >>> ModelSettings(prior="vamp", components=5).components
    5
    >>> ModelSettings(prior="standard", components=5)
    Traceback (most recent call last):
    pydantic_core...ValidationError: 1 validation error for ModelSettings
    components
      Extra inputs are not permitted ...
    """

    prior: str = Field("standard", description=f"{', '.join(PRIORS)}, or a class as package.module:NAME")
    latent_dim: Size = Field(2, description="L, latent dimensions; of several levels, of the top one")
    levels: int = Field(1, ge=1, le=MOST_LEVELS, description="of latent variables, the top one with the prior")
    lower_dims: tuple[Size, ...] | None = Field(
        None, description="dimensions of each level below the top; None: latent_dim, as the top has"
    )
    prior_condition: bool = Field(True, description="with --condition: a prior p(z | c), or one p(z) for all contexts")
    likelihood: str | None = Field(
        None, description=f"{', '.join(LIKELIHOODS)}; unless given, the one that fits the data"
    )
    network: str = Field("mlp", description=f"encoder's and decoder's network: {', '.join(NETWORKS)}")
    encoder: str | None = Field(None, description="the encoder's network, if it differs from `network`")
    decoder: str | None = Field(None, description="the decoder's network, if it differs from `network`")
    input_noise: float | None = Field(
        None, ge=0, le=1e6, description="of what the encoder reads in training; None: by the GTM that a grid starts as"
    )
    log_variance_range: tuple[float, float] | None = Field(
        (-14.0, 6.0), description="bounds of the encoder's log-variance; the VampPrior paper has -6, 2"
    )

    def __new__(cls, *args: Any, **tree: Any) -> Self:
        return super().__new__(cls.kind_for(tree))

    @classmethod
    def kind_for(cls, tree: Tree) -> type[Self]:
        """These settings joined with those of the parts that the tree names."""
        if cls is not ModelSettings:
            return cls
        prior, network = (tree.get(name, cls.model_fields[name].default) for name in ("prior", "network"))
        named = [("prior", prior), ("likelihood", tree.get("likelihood"))]
        named += [(name, tree[name]) if tree.get(name) else ("network", network) for name in ("encoder", "decoder")]
        if not all(isinstance(name, str | None) for _, name in named):
            return cls  # which refuses them
        base = base_prior_of({**tree, "prior": prior})
        named += [("base_prior", base)] if isinstance(base, str) else []
        parts = {f"{setting} {name}": _settings_of(setting, name) for setting, name in named if name is not None}
        _check_names_differ(parts)
        if tree.get("likelihood") is None:  # until the data are read, settings of the likelihoods that they may get
            parts["likelihood"] = LevelSettings
        return _joined(tuple(dict.fromkeys(parts.values())))

    @classmethod
    def why_unknown(cls, name: str, tree: Tree) -> str | None:
        """Says which other parts have the setting."""
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
        """Settings of a model with this prior, of which those that only other priors have are left out.

        >>> ModelSettings.of_prior("vamp", components=5, points_per_side=3).components
        5
        """
        tree = settings | {"prior": prior}
        others = {name for part in PRIORS.loaded().values() for name in part.settings.model_fields}
        known = cls.kind_for(tree).model_fields
        return cls(**{name: value for name, value in tree.items() if name in known or name not in others})

    def with_likelihood(self, name: str) -> "ModelSettings":
        """The same settings with this likelihood, without those of other likelihoods.

        Raises:
            ValueError: the name is unknown, or a setting was given that only other likelihoods have.
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
        ((4, 4, 4), (2, 8))
        """
        return (self.latent_dim, *(self.lower_dims or (self.latent_dim,) * (self.levels - 1)))

    @property
    def described_dims(self) -> str:
        """The dimensions of the levels, for a sentence: "2", or "40 + 40"."""
        return " + ".join(map(str, self.level_dims))

    @property
    def networks(self) -> tuple[str, str]:
        """The kinds of the encoder's and of the decoder's network."""
        return self.encoder or self.network, self.decoder or self.network


@cache
def _joined(kinds: tuple[type[Settings], ...]) -> Any:
    own = [kind for kind in kinds if kind is not Settings]
    most_special_first = sorted(own, key=lambda kind: -len(kind.__mro__))  # an order that all of them can agree on
    return create_model("ModelSettings", __base__=(*most_special_first, ModelSettings))


def _settings_of(setting: str, name: str) -> type[Settings]:
    try:
        return ({"base_prior": PRIORS} | REGISTRIES).get(setting, NETWORKS)[name].settings
    except ValueError as error:
        raise UnknownNameError(setting, str(error)) from error


def base_prior_of(tree: Tree) -> Any:
    """The name of the prior below the one that the tree names; None if that has none.

    Raises:
        UnknownNameError: the prior is unknown, or the one below stands on another one.

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
    """Names of the settings of the model's prior, and of the prior below it.

    >>> sorted(prior_settings(ModelSettings(prior="mog")))
    ['components', 'learn_weights']
    """
    priors = (model.prior, base_prior_of(model.model_dump()))
    return {name for prior in priors if prior is not None for name in PRIORS[prior].settings.model_fields}


def stands_on(model: ModelSettings, below: ModelSettings) -> bool:
    """Whether the prior of a model stands on that of another one, with the same settings.

    >>> mog = ModelSettings(prior="mog", components=5)
    >>> [stands_on(ModelSettings(prior="resampled", base_prior="mog", components=k), mog) for k in (5, 6)]
    [True, False]
    """
    same = all(getattr(model, name, None) == getattr(below, name) for name in prior_settings(below))
    return same and base_prior_of(model.model_dump()) == below.prior


def _check_names_differ(parts: Mapping[str, type[Settings]]) -> None:
    """Refuse parts with settings of one name that differ in type, default or description."""
    owners = dict.fromkeys(ModelSettings.model_fields, "the model")
    fields = dict(ModelSettings.model_fields)
    for part, kind in parts.items():
        for name, field in kind.model_fields.items():
            owner, other = owners.setdefault(name, part), fields.setdefault(name, field)
            if repr(other) != repr(field):
                raise ValueError(
                    f"setting {name}: expected a name that one part has, got it of {owner} and of the {part}; choose "
                    "another part, or rename the parameter"
                )


def parts_with(setting: str, registry: Registry[Any]) -> str:
    """The parts that have this setting, for a message; empty if there are none.

    >>> parts_with("points_per_side", PRIORS)
    'the priors gtm, gtm-vamp'
    """
    names = [name for name, part in registry.loaded().items() if setting in part.settings.model_fields]
    return f"the {registry.kind}{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else ""
