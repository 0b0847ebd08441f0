"""One condition, a category or a quantity, and its conversion from a column to numbers."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from priory._support.messages import did_you_mean, first_few

MOST_CATEGORIES = 1000  # each category is an input of the encoder and of the decoder


@dataclass(frozen=True)
class Categories:
    """A categorical condition, with these categories.

    >>> Categories("class", ("a", "b")).encode(np.array(["b"]))
    array([[0., 1.]], dtype=float32)
    """

    name: str
    values: tuple[str, ...]

    @property
    def size(self) -> int:
        """The number of columns that encode it."""
        return len(self.values)

    @property
    def kind(self) -> str:
        """Kind of the condition, in a few words."""
        return f"{self.size} categories"

    def examples(self) -> list[tuple[str, list[float]]]:
        """All categories with their codes."""
        return [(value, np.eye(self.size)[i].tolist()) for i, value in enumerate(self.values)]

    def encode(self, column: np.ndarray) -> Float[np.ndarray, "datum category"]:
        """Return indicators of the categories.

        Raises:
            ValueError: a value is missing, or is not a category of the training rows.
        """
        texts = _texts(column)
        _refuse(self.name, column, texts == "", "a category in each row", "leave these rows out, or fill them")
        index = np.array([self.values.index(text) if text in self.values else -1 for text in texts.tolist()])
        if (index < 0).any():
            unseen = sorted(set(texts[index < 0].tolist()))
            raise ValueError(
                f"condition {self.name}: expected categories of the training rows ({first_few(list(self.values))}), "
                f"got {first_few([repr(each) for each in unseen])}"
                f"{did_you_mean(unseen[0], self.values)}; use one of these, or train with the new category"
            )
        return np.eye(self.size, dtype=np.float32)[index]


@dataclass(frozen=True)
class Quantity:
    """A numeric condition; its code is the distance from the mean of the training rows in standard deviations.

    >>> Quantity("dose", mean=2.0, scale=4.0).encode(np.array([10.0]))
    array([[2.]], dtype=float32)
    """

    name: str
    mean: float
    scale: float

    @property
    def size(self) -> int:
        """The number of columns that encode it."""
        return 1

    @property
    def kind(self) -> str:
        """Kind of the condition, in a few words."""
        return f"a quantity, {self.mean:.3g} ± {self.scale:.3g}"

    def examples(self) -> list[tuple[str, list[float]]]:
        """Three values with their codes: the mean, and one standard deviation below and above it."""
        return [(f"{self.mean + step * self.scale:.3g}", [step]) for step in (-1.0, 0.0, 1.0)]

    def encode(self, column: np.ndarray) -> Float[np.ndarray, "datum 1"]:
        """Return standardized numbers.

        Raises:
            ValueError: a value is not a finite number.
        """
        try:
            numbers = np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError) as error:
            value = next(value for value in column.tolist() if not _is_number(value))
            raise ValueError(
                f"condition {self.name}: expected numbers, because it is a quantity, got {value!r}"
            ) from error
        _refuse(self.name, column, ~np.isfinite(numbers), "a finite number in each row", "leave these rows out")
        return ((numbers - self.mean) / self.scale).astype(np.float32)[:, None]


Condition: TypeAlias = Categories | Quantity


def learned(name: str, column: np.ndarray, is_quantity: bool) -> Condition:
    """Learn a condition from the values of training rows; see `Conditions.from_columns`."""
    if is_quantity or column.dtype.kind == "f":
        numbers = Quantity(name, 0.0, 1.0).encode(column).astype(np.float64)
        scale = float(numbers.std())
        if scale == 0:
            raise ValueError(f"condition {name}: expected different values, got {numbers[0, 0]:g} in all training rows")
        return Quantity(name, float(numbers.mean()), scale)
    texts = _texts(column)
    _refuse(name, column, texts == "", "a category in each row", "leave these rows out, or fill them")
    values = tuple(np.unique(texts).tolist())
    if len(values) < 2:
        raise ValueError(f"condition {name}: expected at least two categories, got {values[0]!r} in all training rows")
    if len(values) > MOST_CATEGORIES:
        raise ValueError(
            f"condition {name}: expected at most {MOST_CATEGORIES} categories, got {len(values)}; if it is a quantity, "
            "name it in quantities"
        )
    return Categories(name, values)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _texts(column: np.ndarray) -> np.ndarray:
    """Values as text, '' for a missing value; 2.0 becomes '2', because integers in a column with gaps are floats."""
    if column.dtype.kind == "f":
        whole = column == np.rint(column)
        integers = np.where(whole, column, 0).astype(np.int64).astype(str)
        return np.where(np.isnan(column), "", np.where(whole, integers, column.astype(str)))
    if column.dtype.kind == "O":
        return np.array(["" if value is None or value != value else str(value) for value in column.tolist()])
    return column.astype(str)


def _refuse(name: str, column: np.ndarray, bad: np.ndarray, expected: str, cure: str) -> None:
    if bad.any():
        rows = first_few(list(map(str, np.flatnonzero(bad).tolist())))
        value = column[bad][0]
        got = "no value" if value is None or value != value or value == "" else repr(value)
        raise ValueError(
            f"condition {name}: expected {expected}, got {got} in {int(bad.sum())} of {len(column)} rows "
            f"(rows {rows}); {cure}"
        )
