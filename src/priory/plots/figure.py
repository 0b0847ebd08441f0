"""Create figures without pyplot, check arguments, save figures."""

import warnings
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import Tensor

from priory._support.files import replacing
from priory._support.messages import shortened_apart, visible
from priory._support.optional import require
from priory.plots.fonts import use_fallback_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any  # matplotlib is optional; annotations must work without it

TensorOrArray: TypeAlias = Tensor | np.ndarray

DATA_COLOR, MODEL_COLOR = "black", "#d55e00"  # Okabe & Ito's vermilion: differs from black in hue and lightness

LONGEST_NAME = 40  # drawn letters of a name: longer names leave no room for the picture
MANY_DOTS = 5000  # more dots are drawn as pixels, because browsers are slow with an SVG element per dot


def save_figure(figure: "Figure | Axes | np.ndarray", path: str | Path, *, software: str | None = None) -> None:
    """Write a figure; a crash leaves no partial file.

    Letters that matplotlib's font lacks are drawn with an installed font that has them.

    Args:
        figure: a figure, one of its axes, or an array of them.
        path: path of the file; its suffix is the format: `.svg` and `.pdf` are vector graphics, `.png` has 200 dpi.
        software: the program that a `.png` names as its creator; matplotlib if None.

    Raises:
        ValueError: matplotlib cannot write the format of the suffix.

    Warns:
        UserWarning: no installed font has some of the letters.
    """
    kind = Path(path).suffix[1:].lower()
    root = _root(figure)
    formats = root.canvas.get_supported_filetypes()
    if kind not in formats:
        raise ValueError(f"path: expected a suffix among {', '.join(sorted(formats))}, got {Path(path).name!r}")
    if use_fallback_fonts(root):
        warnings.warn(
            "some letters of names are drawn as boxes, because no installed font has them; install one that does, "
            "such as Noto Sans CJK",
            stacklevel=2,
        )
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # see the warning above
        metadata = {"Software": software} if software and kind == "png" else None
        root.savefig(temporary, format=kind, dpi=200, metadata=metadata)


def html_picture(draw: Callable[[], "Axes | np.ndarray"]) -> str:
    """Return the result of `draw` as an HTML image that contains the picture; an empty text without matplotlib.

    >>> html_picture(lambda: new_axes(1, 1, (1.0, 1.0)))[:31]
    '<img src="data:image/png;base64'
    """
    try:
        figure = _root(draw())
    except ImportError:
        return ""
    return f'<img src="data:image/png;base64,{b64encode(_as_png(figure)).decode()}">'


def _as_png(figure: Any) -> bytes:
    use_fallback_fonts(figure)
    content = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # the boxes are visible
        figure.savefig(content, format="png", dpi=100)
    return content.getvalue()


def _root(figure: "Figure | Axes | np.ndarray") -> Any:
    """Return the whole figure, given a figure, one of its axes, or an array of them."""
    first: Any = np.asarray(figure, dtype=object).flat[0]
    part = getattr(first, "figure", first)  # of axes; of a figure, itself; of a subfigure, its parent
    return part.canvas.figure


def new_axes(rows: int, columns: int, size: tuple[float, float], *, sharex: bool = True) -> np.ndarray:
    """Return a flat array of axes of a new figure without pyplot; the size is in inches."""
    figure: Any = new_figure(size)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex and rows > 1).ravel()
    for each in axes:
        each._repr_png_ = figure._repr_png_
    return axes


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure without pyplot, size in inches; a notebook shows it as a picture."""
    figure = require("matplotlib.figure", "plots", "a figure").Figure(figsize=size, layout="constrained")
    require("matplotlib.backends.backend_agg", "plots", "a figure").FigureCanvasAgg(figure)
    figure._repr_png_ = partial(_as_png, figure)  # without pyplot, IPython has no other way to show it
    return figure


def two_axes(
    axes: Sequence[Axes] | np.ndarray | None, rows: int, columns: int, size: tuple[float, float]
) -> np.ndarray:
    if axes is None:
        return new_axes(rows, columns, size)
    pair = np.asarray(axes, dtype=object).ravel()
    if len(pair) != 2:
        raise ValueError(f"axes: expected two axes, got {len(pair)}")
    return pair


def to_numpy(values: TensorOrArray) -> np.ndarray:
    """Return an array on the CPU in float64, also from bfloat16, which NumPy lacks."""
    return values.detach().double().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values, dtype=float)


def to_rows(name: str, values: TensorOrArray) -> np.ndarray:
    check_rows(name, values)
    return to_numpy(values)


def check_rows(name: str, values: TensorOrArray) -> None:
    shape = tuple(np.shape(values))
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{name}: expected shape (batch, input) with at least one row and column, got {shape}")


def check_same_shape(name: str, values: TensorOrArray, other_name: str, others: TensorOrArray) -> None:
    shape, expected = tuple(values.shape), tuple(others.shape)
    if shape != expected:
        raise ValueError(f"{name}: expected the shape of {other_name}, {expected}, got {shape}")


def column_names(names: Sequence[str] | None, count: int) -> list[str]:
    if names is not None and len(names) != count:
        raise ValueError(f"names: expected {count} names, one per column, got {len(names)}")
    return [str(i + 1) for i in range(count)] if names is None else [str(name) for name in names]


def all_as_drawn(names: Iterable[object], most: int = LONGEST_NAME) -> list[str]:
    """Escape names from the data so that matplotlib draws them literally: no formulas for $, no names hidden by _.

    Long names are shortened in the parts that they share, so that different names stay different.

    >>> all_as_drawn(["US$ per $", "_id"])
    ['US\\\\$ per \\\\$', ' _id']
    >>> all_as_drawn(["very long name 1", "very long name 2", "very long name 1"], most=14)
    ['ver...1', 'ver...2', 'ver...1']
    """
    texts = [visible(str(name)) for name in names]
    short = shortened_apart(texts, most)
    # Legends omit names that begin with _.
    return [(" " if text.startswith("_") else "") + short[text].replace("$", r"\$") for text in texts]


def as_drawn(name: object) -> str:
    """Escape one name as `all_as_drawn` does."""
    return all_as_drawn([name])[0]
