"""The base of all validated settings."""

from typing import Any, get_args

from pydantic import BaseModel, ValidationInfo, field_validator


class NumbersAreNotTruthValues(BaseModel):
    """Refuse true and false if a field holds numbers; pydantic would read 1 and 0."""

    @field_validator("*", mode="before")
    @classmethod
    def _check_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if kinds & {int, float} and bool not in kinds and _has_truth_value(value):
            raise ValueError(f"expected a {'' if float in kinds else 'whole '}number, got {value}")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    arguments = get_args(annotation)
    return {annotation} | {kind for argument in arguments for kind in _kinds(argument)}


def _has_truth_value(value: Any) -> bool:
    return any(map(_has_truth_value, value)) if isinstance(value, list | tuple) else isinstance(value, bool)
