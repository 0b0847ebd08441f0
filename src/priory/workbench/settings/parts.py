"""Parts of a model as the command line knows them: their own settings, and what builds them.

Classes and functions may be given by their place, `package.module:NAME`, so that settings can be read, and mistakes in
them reported, before torch is imported.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, PydanticUserError, create_model

from priory.workbench.settings.base import Settings


@dataclass(frozen=True)
class PriorPart:
    """A prior that the command line can build.

    Attributes:
        prior: the subclass of `priory.Prior`, or its place.
        settings: the prior's own settings. They join those of the model (`--set model.NAME=VALUE`).
        build: makes the prior, or its place: `build(settings, features) -> Prior`, with the model's settings, these
            among them, and the training rows as `priory.workbench.models.facts.Features`.
        build_conditional: likewise for a model that conditions on a context; None if the prior has no such form.
    """

    prior: type | str
    settings: type[Settings]
    build: Callable[..., Any] | str
    build_conditional: Callable[..., Any] | str | None = None


@dataclass(frozen=True)
class LikelihoodPart:
    """A likelihood that the command line can build.

    Attributes:
        decoder: the subclass of `priory.nn.decoders.LikelihoodDecoder`, or its place. Its class methods say which data
            it supports, what the encoder reads of them, and how it is made.
        settings: the options of its constructor that a user may set.
    """

    decoder: type | str
    settings: type[Settings]


@dataclass(frozen=True)
class NetworkPart:
    """A kind of network that the command line can build for the encoder and for the decoder.

    Attributes:
        settings: the network's own settings.
        encoder: makes the encoder's network, or its place: `encoder(settings, num_inputs, num_outputs, image_shape)`
            gives a module from (..., num_inputs) to (..., num_outputs).
        decoder: makes the decoder's network in the same way; its outputs are those of all columns, one after the other.
        needs_images: whether rows must be images. Constant columns then stay in the model, to keep images whole.
        layer: makes a hidden layer of (width_in, width_out), or its place, if the network is a perceptron with the
            setting `hidden`. Of several levels of latent variables, each then has layers of its own.
    """

    settings: type[Settings]
    encoder: Callable[..., Any] | str
    decoder: Callable[..., Any] | str
    needs_images: bool = False
    layer: Callable[[int, int], Any] | str | None = None


def as_prior_part(part: Any) -> PriorPart:
    """A subclass of `Prior` as a part: its constructor's parameters are its settings.

    The parameters latent_dim, features, low and high are provided: L, the training rows as the encoder's first layer
    reads them, and the range of those values.

    Raises:
        TypeError: it is none, or settings cannot be made of its parameters.
    """
    if isinstance(part, PriorPart):
        return part
    from priory.priors import Prior

    if not (isinstance(part, type) and issubclass(part, Prior)):
        raise TypeError(f"expected a subclass of priory.Prior, or a PriorPart, got {part!r}")
    provided = ("latent_dim", "features", "low", "high")

    def build(settings: Any, features: Any) -> Prior:
        values = {
            "latent_dim": settings.latent_dim,
            "features": features.rows,
            "low": features.low,
            "high": features.high,
        }
        return part(**_arguments(part, settings, values))

    return PriorPart(part, settings_of(part, provided), build)


def as_likelihood_part(part: Any) -> LikelihoodPart:
    """A subclass of `LikelihoodDecoder` as a part: the parameters of its `from_data` are its settings.

    If it does not override `from_data`, those of its constructor are.

    Raises:
        TypeError: it is none, or settings cannot be made of its parameters.
    """
    if isinstance(part, LikelihoodPart):
        return part
    from priory.nn.decoders import LikelihoodDecoder

    if not (isinstance(part, type) and issubclass(part, LikelihoodDecoder)):
        raise TypeError(
            f"expected a subclass of priory.nn.decoders.LikelihoodDecoder or a LikelihoodPart, got {part!r}"
        )
    overridden = any("from_data" in kind.__dict__ for kind in part.__mro__[: part.__mro__.index(LikelihoodDecoder)])
    makes: Callable[..., Any] = part.from_data if overridden else part
    return LikelihoodPart(part, settings_of(makes, ("network", "rows")))


def as_network_part(part: Any) -> NetworkPart:
    """A class or function as a part: its parameters besides num_inputs, num_outputs and image_shape are its settings.

    Raises:
        TypeError: it is none, or settings cannot be made of its parameters.
    """
    if isinstance(part, NetworkPart):
        return part
    if not callable(part):
        raise TypeError(f"expected a class or a function that makes a network, or a NetworkPart, got {part!r}")

    def build(settings: Any, num_inputs: int, num_outputs: int, image_shape: tuple[int, int] | None) -> Any:
        values = {"num_inputs": num_inputs, "num_outputs": num_outputs, "image_shape": image_shape}
        return part(**_arguments(part, settings, values))

    settings = settings_of(part, ("num_inputs", "num_outputs", "image_shape"))
    return NetworkPart(settings, build, build, needs_images="image_shape" in inspect.signature(part).parameters)


def settings_of(function: Callable[..., Any], provided: Collection[str]) -> type[Settings]:
    """Settings with a field for each parameter of a class or a function, except those that are provided.

    The parameter `num_components` becomes the setting `components`, as in the option `--components`.

    Raises:
        TypeError: a parameter has no annotation, or one that JSON cannot hold.

    >>> def make(latent_dim: int, degrees_of_freedom: float = 4.0): ...
    >>> settings_of(make, ["latent_dim"])().degrees_of_freedom
    4.0
    """
    fields: dict[str, Any] = {}
    for name, parameter in _parameters(function).items():
        if name not in provided:
            default = ... if parameter.default is parameter.empty else parameter.default
            if name == "num_components":
                default = 64 if default is ... else default
            annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
            fields[_setting(name)] = (annotation, Field(default, description=f"{name} of {function.__qualname__}"))
    try:
        kind = create_model(f"{function.__name__}Settings", __base__=Settings, **fields)
        kind.model_rebuild()
        return kind
    except PydanticUserError as error:
        raise TypeError(
            f"expected {function.__qualname__} to have parameters that settings can hold (numbers, texts, truth "
            f"values, tuples of them) besides {', '.join(provided)}, got {', '.join(fields)}; annotate them, or "
            "register a part with settings of its own and a function that builds it"
        ) from error


def _arguments(function: Callable[..., Any], settings: Any, provided: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each parameter, provided or from the settings."""
    return {
        name: provided[name] if name in provided else getattr(settings, _setting(name))
        for name in _parameters(function)
    }


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function, eval_str=True).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in variadic}


def _setting(parameter: str) -> str:
    return "components" if parameter == "num_components" else parameter
