"""Parts of a model for the command line: their own settings, and the functions that build them.

A class or function may be given by its place, `package.module:NAME`. The command line can then read settings, and
report mistakes in them, before it imports torch.
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
        build: the function that makes the prior, or its place: `build(settings, features) -> Prior`. It gets the
            model's settings, which include the prior's, and the training rows as
            `priory.workbench.models.facts.Features`.
        build_conditional: the same for a model that conditions on a context; None if the prior has no such form.
    """

    prior: type | str
    settings: type[Settings]
    build: Callable[..., Any] | str
    build_conditional: Callable[..., Any] | str | None = None


@dataclass(frozen=True)
class LikelihoodPart:
    """A likelihood that the command line can build.

    Attributes:
        decoder: the subclass of `priory.nn.decoders.LikelihoodDecoder`, or its place. Its class methods define
            which data it supports, what the encoder reads and how the decoder is made.
        settings: the options of its constructor that a user may set.
    """

    decoder: type | str
    settings: type[Settings]


@dataclass(frozen=True)
class NetworkPart:
    """A kind of network that the command line can build for the encoder and for the decoder.

    Attributes:
        settings: the network's own settings.
        encoder: the function that makes the encoder's network, or its place. `encoder(settings, num_inputs,
            num_outputs, image_shape)` returns a module from (..., num_inputs) to (..., num_outputs).
        decoder: the same for the decoder's network; its outputs are those of all columns, one after the other.
        needs_images: whether rows must be images. If so, constant columns stay in the model, to keep images whole.
        layer: for a perceptron with the setting `hidden`, the function that makes a hidden layer from (width_in,
            width_out), or its place. With several levels of latent variables, each level then has its own layers.
    """

    settings: type[Settings]
    encoder: Callable[..., Any] | str
    decoder: Callable[..., Any] | str
    needs_images: bool = False
    layer: Callable[[int, int], Any] | str | None = None


def as_prior_part(part: Any) -> PriorPart:
    """Make a part of a subclass of `Prior`; the parameters of its constructor become its settings.

    The parameters latent_dim, features, low and high are no settings, because the workbench provides them: L, the
    training rows as the input of the encoder's first layer, and the range of its values.

    Raises:
        TypeError: it is of the wrong class, or its parameters cannot become settings.
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
    """Make a part of a subclass of `LikelihoodDecoder`; the parameters of its `from_data` become its settings.

    If it does not override `from_data`, the parameters of its constructor do.

    Raises:
        TypeError: it is of the wrong class, or its parameters cannot become settings.
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
    """Make a part of a class or function that makes a network.

    Its parameters become settings, except num_inputs, num_outputs and image_shape.

    Raises:
        TypeError: it cannot be called, or its parameters cannot become settings.
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
    """Make a class of settings with a field for each parameter of a function or class that is not provided.

    The parameter `num_components` becomes the setting `components`, like the option `--components`.

    Raises:
        TypeError: a parameter has no annotation, or JSON cannot represent its type.

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
    """Return a value for each parameter, either provided or from the settings."""
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
