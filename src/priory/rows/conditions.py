"""Columns that a model conditions on, as numbers: one-hot categories and standardized quantities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priory._support.messages import did_you_mean, first_few

MOST_CATEGORIES = 1000  # each takes an input of the encoder and of the decoder


@dataclass(frozen=True)
class Categories:
    """A categorical condition, whose value is one of these.

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
        """What it is, in a few words."""
        return f"{self.size} categories"

    def examples(self) -> list[tuple[str, list[float]]]:
        """All values with their codes."""
        return [(value, np.eye(self.size)[i].tolist()) for i, value in enumerate(self.values)]

    def encode(self, column: np.ndarray) -> Float[np.ndarray, "datum category"]:
        """Return indicators of the categories.

        Raises:
            ValueError: a value is missing, or no category of the training rows.
        """
        texts = _texts(column)
        _refuse(self.name, column, texts == "", "a category in each row", "leave these rows out, or fill them")
        index = np.array([self.values.index(text) if text in self.values else -1 for text in texts.tolist()])
        if (index < 0).any():
            unseen = sorted(set(texts[index < 0].tolist()))
            raise ValueError(
                f"condition {self.name}: expected categories of the training rows ({first_few(list(self.values))}), "
                f"got {first_few([repr(each) for each in unseen])}"
                f"{did_you_mean(unseen[0], self.values)}; the model has not learned anything about others"
            )
        return np.eye(self.size, dtype=np.float32)[index]


@dataclass(frozen=True)
class Quantity:
    """A condition that is a number; it is encoded in standard deviations of the training rows from their mean.

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
        """What it is, in a few words."""
        return f"a quantity, {self.mean:.3g} ± {self.scale:.3g}"

    def examples(self) -> list[tuple[str, list[float]]]:
        """Three values with their codes: the mean, and a standard deviation on both sides of it."""
        return [(f"{self.mean + step * self.scale:.3g}", [step]) for step in (-1.0, 0.0, 1.0)]

    def encode(self, column: np.ndarray) -> Float[np.ndarray, "datum 1"]:
        """Return standardized numbers.

        Raises:
            ValueError: a value is no finite number.
        """
        try:
            numbers = np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"condition {self.name}: expected numbers, as in the training rows, got {column.dtype}: {error}"
            ) from error
        _refuse(self.name, column, ~np.isfinite(numbers), "a finite number in each row", "leave these rows out")
        return ((numbers - self.mean) / self.scale).astype(np.float32)[:, None]


Condition: TypeAlias = Categories | Quantity


@dataclass(frozen=True)
class Conditions:
    """The conditions of a model: how columns of a table become the context c of p(z | c) and p(x | z, c).

    Args:
        columns: in their order in the context.

    >>> conditions = Conditions.from_columns({"class": ["a", "b", "a"], "dose": [1.0, 2.0, 3.0]})
    >>> conditions.encode({"class": ["b"], "dose": [2.0]})
    tensor([[0., 1., 0.]])
    >>> conditions.sizes
    (2, 1)
    """

    columns: tuple[Condition, ...]

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any], quantities: tuple[str, ...] = ()) -> "Conditions":
        """Learn categories, means and scales from training rows.

        Text, truth values and integers are categories; floating point numbers are quantities.

        Args:
            columns: the values of the training rows by the name of the column; a data frame of these columns too.
            quantities: columns of integers that are quantities.

        Raises:
            ValueError: there are no columns, a value is missing, a column is constant or has more than 1000
                categories, or a quantity is no number.
        """
        if not len(columns):
            raise ValueError("columns: expected at least one column to condition on, got none")
        if unknown := [name for name in quantities if name not in columns]:
            raise ValueError(f"quantities: expected names of {first_few(list(columns))}, got {first_few(unknown)}")
        return cls(tuple(_learned(name, np.asarray(columns[name]), name in quantities) for name in map(str, columns)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The width of each condition in the context: its number of categories, or 1 for a quantity."""
        return tuple(column.size for column in self.columns)

    @property
    def width(self) -> int:
        """C, the width of the context."""
        return sum(self.sizes)

    def described(self) -> str:
        """Name the conditions and their kinds in a line.

        >>> Conditions((Categories("class", ("a", "b")), Quantity("dose", 2.0, 4.0))).described()
        'class (2 categories), dose (a quantity, 2 ± 4)'
        """
        return ", ".join(f"{column.name} ({column.kind})" for column in self.columns)

    def encode(self, columns: Mapping[str, Any]) -> Float[Tensor, "datum context"]:
        """Return the context of rows, (N, C).

        Raises:
            ValueError: a column is missing, a value is missing, or a category was not among the training rows.
        """
        if missing := [name for name in self.names if name not in columns]:
            raise ValueError(
                f"context: expected the columns {first_few(list(self.names))}, which the model conditions on, got none "
                f"called {first_few(missing)}"
            )
        parts = [column.encode(np.atleast_1d(np.asarray(columns[column.name]))) for column in self.columns]
        if len({len(part) for part in parts}) > 1:
            lengths = ", ".join(f"{name}: {len(part)}" for name, part in zip(self.names, parts, strict=True))
            raise ValueError(f"context: expected columns of one length, got {lengths}")
        return torch.from_numpy(np.concatenate(parts, 1))

    def single(self) -> tuple[tuple[str, ...], Float[Tensor, "value context"]]:
        """Return names and contexts in which one condition has a value and the others are unknown.

        Each category has one; a quantity has three, at its mean and a standard deviation on both sides. Unknown are
        zeros for categories and NaN for quantities.
        """
        names, contexts = [], []
        unknown = torch.cat([torch.full((size,), torch.nan if size == 1 else 0.0) for size in self.sizes])
        for column, start in zip(self.columns, np.cumsum([0, *self.sizes]).tolist(), strict=False):
            for name, values in column.examples():
                context = unknown.clone()
                context[start : start + column.size] = torch.tensor(values)
                names.append(f"{column.name} = {name}")
                contexts.append(context)
        return tuple(names), torch.stack(contexts)


def _learned(name: str, column: np.ndarray, is_quantity: bool) -> Condition:
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
            "say so (quantities)"
        )
    return Categories(name, values)


def _texts(column: np.ndarray) -> np.ndarray:
    """Values as texts, '' for a missing one."""
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
