"""Columns that a model conditions on, as numbers: one-hot categories and standardized quantities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priory._support.messages import first_few
from priory.rows.condition import Condition, learned


@dataclass(frozen=True)
class Conditions:
    """The conditions of a model: they turn columns of a table into the context c of p(z | c) and p(x | z, c).

    Args:
        columns: the conditions, in their order in the context.

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
            columns: the values of the training rows by column name; a data frame of these columns works too.
            quantities: integer columns that are quantities.

        Raises:
            ValueError: there are no columns, a value is missing, a column is constant or has more than 1000 categories,
                or a quantity is not a number.
        """
        if not len(columns):
            raise ValueError("columns: expected at least one column to condition on, got none")
        if unknown := [name for name in quantities if name not in columns]:
            raise ValueError(f"quantities: expected names of {first_few(list(columns))}, got {first_few(unknown)}")
        return cls(tuple(learned(name, np.asarray(columns[name]), name in quantities) for name in map(str, columns)))

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
        """Return the names of the conditions and their kinds in one line.

        >>> from priory.rows import Categories, Quantity
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

        A category gives one context for each of its values; a quantity gives three, at its mean and one standard
        deviation below and above. An unknown category is all zeros, an unknown quantity NaN.
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
