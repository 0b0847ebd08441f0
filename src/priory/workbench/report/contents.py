"""The contents of a report: numbers with their errors, pictures, and a map of rows and nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from priory.workbench.report.rows import as_matrix

_SIGNATURES = {b"\x89PNG": "image/png", b"<svg": "image/svg+xml", b"<?xml": "image/svg+xml"}


@dataclass(frozen=True)
class Metric:
    """A number and an explanation."""

    name: str  # name of the metric, with its unit
    value: float
    se: float | None  # standard error, or None
    how_to_read: str  # one sentence: which values are good, and how to compare them


@dataclass(frozen=True)
class Table:
    """A table of text; the first column contains the names of the rows."""

    title: str  # title of the table, with units
    header: Sequence[str]  # names of the columns
    rows: Sequence[Sequence[str]]  # one text per column
    note: str = ""  # a remark below the table, for example on the errors

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"rows: expected {len(self.header)} cells, like the header, got {list(row)}")


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure of the run."""

    title: str  # a few words above the figure
    caption: str  # describes the figure, also for screen readers
    image: bytes | Path  # a PNG or SVG: its bytes, or the file's path

    def __post_init__(self) -> None:
        self.media_type  # noqa: B018  raises for other formats

    @property
    def bytes(self) -> bytes:
        return self.image if isinstance(self.image, bytes) else Path(self.image).read_bytes()

    @property
    def media_type(self) -> str:
        """'image/png' or 'image/svg+xml', by the first bytes."""
        start = self.bytes[:64].lstrip()
        for signature, kind in _SIGNATURES.items():
            if start.startswith(signature):
                return kind
        raise ValueError(f"image: expected PNG or SVG, got a file that starts with {start[:8]!r}; save it as .png")


@dataclass(frozen=True, eq=False)
class NodeContents:
    """The nodes of a map and their contents."""

    places: np.ndarray  # (K, 2), a square grid; the last coordinate varies fastest
    contents: np.ndarray  # (K, D), decoded means in the data's units
    # (K,) by name: weight, usage, magnification, distance to the neighbors, ...; they color the nodes
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_shape("nodes.places", self.places, (None, 2))
        _require_shape("nodes.contents", self.contents, (len(self.places), None))
        for name, values in self.numbers.items():
            _require_shape(f"nodes.numbers[{name!r}]", values, (len(self.places),))


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class MapContents:
    """A map of N rows of data with D columns."""

    places: np.ndarray  # (N, 2), such as E[u | x]
    ids: Sequence[str] | np.ndarray  # (N,), one text per row
    # (N,) by name, text or numbers; '' or NaN for a row without a label
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    axes: tuple[str, str] = ("u\N{SUBSCRIPT ONE}", "u\N{SUBSCRIPT TWO}")  # names of the two coordinates
    score: np.ndarray | None = None  # (N,), such as the log-likelihood in nats, or None
    score_name: str = "score"  # name of the score, with its unit
    x: Any = None  # (N, D) rows in the data's units: an array, a tensor or a scipy sparse matrix; or None
    columns: Sequence[str] = ()  # D names
    image_shape: tuple[int, int] | None = None  # (height, width) if a row is a gray image, row-major
    low: float | None = None  # the value drawn as black; None uses the minimum of x
    high: float | None = None  # the value drawn as white; None uses the maximum of x
    nodes: NodeContents | None = None  # shown on the scales of x

    def __post_init__(self) -> None:
        _require_shape("places", self.places, (None, 2))
        if not len(self.places) or not np.isfinite(self.places).all():
            raise ValueError(f"places: expected finite coordinates of at least one row, got {len(self.places)} rows")
        by_row = {"ids": self.ids, "score": self.score} | {f"labels[{k!r}]": v for k, v in self.labels.items()}
        for name, values in by_row.items():
            if values is not None:
                _require_shape(name, values, (len(self.places),))
        if self.x is not None:
            object.__setattr__(self, "x", as_matrix(self.x))
            _require_shape("x", self.x, (len(self.places), len(self.columns)))
            if self.image_shape is not None and np.prod(self.image_shape) != len(self.columns):
                raise ValueError(
                    f"image_shape: expected height * width = {len(self.columns)}, the number of columns, "
                    f"got {tuple(self.image_shape)}"
                )
            if self.nodes is not None:
                _require_shape("nodes.contents", self.nodes.contents, (len(self.nodes.places), len(self.columns)))


@dataclass(frozen=True, eq=False)
class ReportContents:
    """The contents of a page, in order."""

    title: str  # the data and the model
    facts: Sequence[tuple[str, str]] = ()  # (name, text): data, model, versions, seed
    metrics: Sequence[Metric] = ()
    map: MapContents | None = None
    pictures: Sequence[Picture] = ()  # curves, samples, ...
    notes: Sequence[str] = ()  # sentences at the end, such as warnings
    tables: Sequence[Table] = ()  # for comparisons of models
    failures: Sequence[str] = ()  # one line each
    links: Sequence[tuple[str, str]] = ()  # (text, path relative to the page) of other pages


def _require_shape(name: str, values: Any, expected: tuple[int | None, ...]) -> None:
    shape = tuple(np.shape(values) if not hasattr(values, "shape") else values.shape)
    if len(shape) != len(expected) or any(e not in (None, s) for e, s in zip(expected, shape, strict=True)):
        axes = ", ".join("any" if e is None else str(e) for e in expected)
        raise ValueError(f"{name}: expected shape ({axes}{',' if len(expected) == 1 else ''}), got {shape}")
