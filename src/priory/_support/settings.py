"""The base of all validated settings."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from priory._support.messages import did_you_mean, in_our_words, nearest, shortened

Kind = TypeVar("Kind", bound=BaseModel)


class NumbersAreNotTruthValues(BaseModel):
    """Reject true and false for fields with numbers; pydantic would convert them to 1 and 0."""

    @field_validator("*", mode="before")
    @classmethod
    def _check_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if kinds & {int, float} and bool not in kinds and _has_truth_value(value):
            raise ValueError(f"expected a {'' if float in kinds else 'whole '}number, got {value}")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """Return the types that an annotation consists of."""
    arguments = get_args(annotation)
    return {annotation} | {kind for argument in arguments for kind in _kinds(argument)}


def _has_truth_value(value: Any) -> bool:
    return any(map(_has_truth_value, value)) if isinstance(value, list | tuple) else isinstance(value, bool)


def settings_from(
    kind: type[Kind],
    settings: Kind | None,
    keywords: Mapping[str, Any],
    function: Callable[..., Any],
    synonyms: Mapping[str, str],
) -> Kind:
    """Return settings in which keyword arguments of a function replace some values.

    Raises:
        TypeError: there is no setting of this name; the message has the most similar one and all names.
        ValueError: a value is invalid.
    """
    known = kind.model_fields
    for name in keywords:
        if name not in known:
            names = [*known, *inspect.signature(function).parameters]
            meant = synonyms.get(name) if synonyms.get(name) in names else nearest(name, names)
            hint = f"; did you mean {meant!r}?" if meant else ""
            raise TypeError(f"{function.__name__}: unknown setting {name!r}{hint or ';'} settings: {', '.join(known)}")
    try:
        return kind(**((settings.model_dump() if settings else {}) | dict(keywords)))
    except ValidationError as error:
        described = [f"{'.'.join(map(str, each['loc'][:1]))}: {what_is_wrong(each)}" for each in error.errors()]
        raise ValueError("; ".join(dict.fromkeys(each.removeprefix(": ") for each in described))) from None


def what_is_wrong(error: Mapping[str, Any]) -> str:
    """Return a pydantic error about a value in our own words: what was expected, and the value."""
    if error["type"] == "value_error":
        return in_our_words(error["msg"])  # from our own validator, whose message has the value
    hint = did_you_mean(str(error["input"]), _choices(error)) if error["type"] == "literal_error" else ""
    return f"{in_our_words(error['msg'])}, got {shortened(repr(error['input']))}{hint}"


def _choices(error: Mapping[str, Any]) -> list[str]:
    return [text.strip("' ") for text in str(error["ctx"]["expected"]).replace(" or ", ", ").split(",")]
