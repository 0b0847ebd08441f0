"""The history of a training run: one row of numbers per epoch."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from priory._support.files import replacing
from priory._support.optional import require
from priory._support.tables import html_table

COLUMNS = (
    "epoch",
    "train_elbo",
    "train_reconstruction",
    "train_kl",
    "train_objective",
    "valid_elbo",
    "valid_reconstruction",
    "valid_kl",
    "valid_objective",
    "beta",
    "learning_rate",
    "seconds",
)
HISTORY_FILE = "history.csv"
SHOWN = ("epoch", "train_elbo", "valid_elbo", "valid_reconstruction", "valid_kl", "seconds")  # in a notebook


class History(Mapping[str, list[float]]):
    """A column of numbers per quantity, one row per epoch; ELBO terms are means per datum in nats.

    The ELBO has beta = 1 during the warm-up too. `beta` and `learning_rate` are the values of the step after the epoch.
    Training terms are means over the steps of the epoch: the weights change between these steps, and the encoder's
    input has noise. `train_objective` and `valid_objective` are the maximized bound, also at beta = 1; they equal the
    ELBO if the objective is the ELBO. In epochs in which the averaged weights are better, the validation columns are
    theirs.

    Attributes:
        stopped_early: whether patience ended the run before its last epoch; None if unknown (after `read`).

    >>> history = History()
    >>> history.append(dict.fromkeys(COLUMNS, 1.0) | {"epoch": 0})
    >>> history["valid_elbo"], history.best_epoch
    ([1.0], 0)
    """

    def __init__(
        self, columns: Mapping[str, Sequence[float]] | None = None, *, stopped_early: bool | None = False
    ) -> None:
        self._columns: dict[str, list[float]] = {name: list(columns[name]) if columns else [] for name in COLUMNS}
        self._lines = [_line(row) for row in self.rows()]
        self.stopped_early = stopped_early

    def __getitem__(self, column: str) -> list[float]:
        return self._columns[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"History(epochs={self.epochs}, best_epoch={self.best_epoch}, stopped_early={self.stopped_early})"

    def _repr_html_(self) -> str:
        from priory.plots.figure import html_picture

        if not self.epochs:
            return html_table(("epochs",), [(0,)])
        named = {"best": self["epoch"].index(self.best_epoch or 0), "last": self.epochs - 1}
        rows = [(name, *(f"{self[column][row]:.5g}" for column in SHOWN)) for name, row in named.items()]
        return html_table(("", *SHOWN), rows) + html_picture(self.plot)

    def plot(self, axes: Any = None) -> Any:
        """Draw the course of ELBO and KL; see `priory.plots.plot_training_curve`.

        Args:
            axes: two matplotlib axes to draw in; None makes a new figure.

        Returns:
            The two axes.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: there is no epoch yet.

        >>> history = History({name: [1.0, 2.0] for name in COLUMNS})
        >>> history.plot()[1].get_xlabel()
        'epoch'
        """
        from priory.plots import plot_training_curve

        return plot_training_curve(self, axes=axes)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each epoch and the epoch as index.

        Raises:
            ImportError: pandas is not installed.

        >>> History({name: [1.0, 2.0] for name in COLUMNS}).to_frame()["valid_elbo"].tolist()
        [1.0, 2.0]
        """
        return require("pandas", "tables", "History.to_frame").DataFrame(dict(self)).set_index("epoch")

    @property
    def epochs(self) -> int:
        """Number of completed epochs."""
        return len(self["epoch"])

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the highest `valid_objective` after the warm-up; the last epoch if there is none."""
        eligible = [
            (-bound, int(epoch))
            for epoch, bound, beta in zip(self["epoch"], self["valid_objective"], self["beta"], strict=True)
            if beta >= 1 and math.isfinite(bound)
        ]
        if eligible:
            return min(eligible)[1]
        return int(self["epoch"][-1]) if self.epochs else None

    def rows(self) -> list[dict[str, float]]:
        """Return one dictionary per epoch."""
        return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*self._columns.values(), strict=True)]

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        for name, column in self._columns.items():
            column.append(row[name])
        self._lines.append(_line(row))

    def write(self, path: str | Path) -> None:
        """Write a CSV file atomically; numbers are exact to the last bit."""
        with replacing(path, durable=False) as temporary:
            temporary.write_text("".join([",".join(COLUMNS) + "\n", *self._lines]), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> "History":
        """Read a file that `write` wrote.

        Raises:
            ValueError: the file is not a history.
        """
        try:
            with open(path, newline="", encoding="utf-8") as file:
                header, *rows = list(csv.reader(file)) or [[]]
            if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
                raise ValueError("other columns")
            columns = {name: [float(row[i]) for row in rows] for i, name in enumerate(COLUMNS)}
            columns["epoch"] = [int(epoch) for epoch in columns["epoch"]]
        except (ValueError, OverflowError, csv.Error) as error:
            expected = f"a training history with the columns {', '.join(COLUMNS)}"
            raise ValueError(f"{path}: expected {expected}, got another file ({error}); remove it") from None
        return cls(columns, stopped_early=None)


def _line(row: Mapping[str, float]) -> str:
    return ",".join(repr(row[name]) for name in COLUMNS) + "\n"
