"""Everything that a run is made from, as one validated tree; it is the `config.json` of a run folder."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from priory._support.messages import did_you_mean, in_our_words, nearest, shortened
from priory.training.settings import RefitSettings, TrainingSettings
from priory.workbench.data import EMBEDDED

_MOST_ERRORS = 5  # in one message

NetworkName = Literal["mlp", "gated", "conv"]
# More than any machine holds, and few enough that torch can count a product of two.
Size = Annotated[int, Field(ge=1, le=10**9)]
Kind = TypeVar("Kind", bound=BaseModel)


class Settings(BaseModel):
    """Settings refuse names that they do not know, so that a slip of the pen is an error and no silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(Settings):
    """Where the data come from and how the table is read."""

    source: str = Field("digits", description="a file, or the name of an embedded data set")
    labels: tuple[str, ...] = Field((), description="columns that are labels, not data")
    ids: str | None = Field(None, description="the column that names the rows")
    drop: tuple[str, ...] = Field((), description="columns to leave out")
    layer: str | None = Field(None, description="layer of an .h5ad file")
    split: Literal["given", "shuffled"] = Field("given", description="the file's own split, or a shuffled one")
    split_seed: int = Field(0, description="seed of a shuffled or 80/10/10 split")
    binarize: Literal["none", "dynamic", "static"] = Field("none", description="binarize gray values as coin flips")

    @field_validator("source")
    @classmethod
    def _from_any_folder(cls, source: str) -> str:
        """A file's absolute path, so that a run is the same run, and can be used, from any folder."""
        return source if source in EMBEDDED else os.path.realpath(source)  # of a circle of links too


class ModelSettings(Settings):
    """The shape of the model, without its weights."""

    prior: str = Field("standard", description="a name from `priory priors`")
    latent_dim: Size = Field(2, description="L, latent dimensions")
    components: Size = Field(64, description="K of a mixture without a grid")
    points_per_side: int = Field(8, ge=1, le=10**6, description="nodes along each side of a grid")
    grid_dim: int = Field(2, ge=1, le=16, description="C, dimensions of the grid")
    prior_hidden: tuple[Size, ...] = Field((256, 256), description="hidden widths of the prior's own network")
    grid_start: Literal["gtm", "mean"] = Field(
        "gtm", description="a grid starts as a classical GTM of the data, which guides it too, or at their mean"
    )
    grid_network: Literal["mlp", "rbf"] = Field("rbf", description="behind a grid: radial functions, or a perceptron")
    basis_per_side: int | None = Field(
        None, ge=1, le=10**6, description="radial functions along each side; None: half of points_per_side"
    )
    basis_width: float = Field(1.0, gt=0, le=10**6, description="of a radial function, in spacings of their centers")
    learn_weights: bool = Field(True, description="learned mixing weights, or uniform ones")
    learn_pseudo_inputs: bool = Field(True, description="learned pseudo-inputs, or fixed where they start")
    initialize: Literal["data", "mean", "uniform"] = Field("data", description="where pseudo-inputs start")
    flow_transforms: int = Field(3, ge=1, le=1000, description="coupling layers of a flow")
    likelihood: str | None = Field(None, description="None takes what the data propose")
    num_levels: int | None = Field(
        None, ge=2, le=10**9, description="levels of categorical or discretized-logistic values"
    )
    network: NetworkName = Field("mlp", description="kind of encoder and decoder")
    hidden: tuple[Size, ...] | None = Field(None, description="hidden widths; channels of a convolutional pair")
    input_noise: float | None = Field(
        None, ge=0, le=1e6, description="of what the encoder reads in training; None: the GTM's that a grid starts as"
    )
    log_variance_range: tuple[float, float] | None = Field(
        (-14.0, 6.0), description="bounds of the encoder's log-variance; the VampPrior paper has -6, 2"
    )


class RunSettings(Settings):
    """A run: data, model, training, seed."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    seed: int = Field(0, ge=0, lt=2**63, description="seeds weights, batches and noise")


class RefitRequest(Settings):
    """What `priory refit` may be told: the new prior, among the model's settings, and how to fit it."""

    model: ModelSettings = ModelSettings()
    refit: RefitSettings = RefitSettings()
    seed: int = Field(0, ge=0, lt=2**63, description="seeds the prior's start and the noise")


def with_options(base: Kind, given: Mapping[str, Any], assignments: list[str]) -> Kind:
    """Options over the base, then `--set` over both; names are paths into the tree, and None was not given."""
    tree = base.model_dump()
    for path, value in given.items():
        if value is None:
            continue
        branch = tree
        *parents, name = path.split(".")
        for parent in parents:
            branch = branch[parent]
        branch[name] = value
    return override(checked(type(base), tree, "settings"), assignments)


def override(settings: Kind, assignments: Iterable[str]) -> Kind:
    """Settings changed by `a.b=c` texts; values are JSON where that parses, text otherwise.

    Raises:
        ValueError: a text is no assignment, names no setting, or its value does not fit.

    >>> override(RunSettings(), ["training.epochs=3", "model.hidden=[300, 300]"]).training.epochs
    3
    """
    tree = settings.model_dump()
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: expected NAME=VALUE, such as --set training.learning_rate=2e-3")
        *parents, name = path.strip().split(".")
        branch = tree
        for parent in parents:
            branch = branch.get(parent) if isinstance(branch, dict) else None  # type: ignore[assignment]
        if not isinstance(branch, dict) or name not in branch or isinstance(branch[name], dict):
            raise ValueError(f"--set {shortened(path.strip())}: there is no such setting{_known(tree, path.strip())}")
        branch[name] = _value(value)
    return checked(type(settings), tree, "settings")


def checked(kind: type[Kind], tree: object, where: str) -> Kind:
    """The tree as an object of this kind.

    Raises:
        ValueError: a value does not fit, or a name is not known; one line that names each, and the nearest known name.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"{where}: " + "; ".join(_described(kind, e) for e in error.errors()[:_MOST_ERRORS])) from None
    except RecursionError:
        raise ValueError(f"{where}: expected settings by name, got a structure that is too deep") from None


def _described(kind: type[BaseModel], error: Mapping[str, Any]) -> str:
    *parents, name = map(str, error["loc"]) if error["loc"] else [""]
    path = ".".join([*parents, name])
    if error["type"] == "extra_forbidden":
        return f"{path}: there is no such setting{did_you_mean(name, _names(kind, parents))}"
    if error["type"] == "missing":
        return f"{path}: expected a value, got none"
    hint = did_you_mean(str(error["input"]), _choices(error)) if error["type"] == "literal_error" else ""
    where = f"{path}: " if path else ""
    return f"{where}{in_our_words(error['msg'])}, got {shortened(repr(error['input']))}{hint}"


def _names(kind: type[BaseModel], parents: Iterable[str]) -> Iterable[str]:
    """The names that the branch of these parents has."""
    branch: Any = kind
    for parent in parents:
        branch = branch.model_fields[parent].annotation
    return branch.model_fields


def _choices(error: Mapping[str, Any]) -> list[str]:
    return [text.strip("' ") for text in str(error["ctx"]["expected"]).replace(" or ", ", ").split(",")]


def setting_names(tree: dict[str, Any] | None = None) -> list[str]:
    """What `--set` takes: each setting's path in the tree, that of a VAE's run where None. Their last parts differ."""
    return sorted(_leaves(RunSettings().model_dump() if tree is None else tree))


def _known(tree: dict[str, Any], path: str) -> str:
    """The setting that was meant, or all there are."""
    leaves = setting_names(tree)
    by_name = {leaf.rpartition(".")[2]: leaf for leaf in leaves}  # branches would make all of their leaves alike
    close = by_name.get(nearest(path.rpartition(".")[2], by_name) or "")
    return f"; did you mean {close}?" if close else f"; known are {', '.join(leaves)}"


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, or thousands of brackets
        return {"none": None, "None": None, "True": True, "False": False}.get(text.strip(), text.strip())


def _leaves(tree: dict[str, Any], path: str = "") -> Iterable[str]:
    for name, value in tree.items():
        key = f"{path}.{name}" if path else name
        if isinstance(value, dict):
            yield from _leaves(value, key)
        else:
            yield key
