"""Some rows of a data set on a map, as a picture."""

from typing import Any

import numpy as np

from priory.datasets import Rows
from priory.maps.labels import as_classes
from priory.maps.quality import evenly_spaced

MOST_POINTS = 5000  # of one picture; more are no longer seen one by one


def some_rows(rows: Rows) -> Rows:
    """These rows, or of many some, evenly spaced."""
    return Rows(rows.dataset, rows.indices[evenly_spaced(len(rows), MOST_POINTS)])


def draw_map(rows: Rows, places: np.ndarray, nodes: np.ndarray, total: int) -> Any:
    """Rows, some or all of so many, at their places on a map with these nodes, told apart by their first label.

    Returns:
        The axes.
    """
    from priory.plots import plot_map

    name, values = next(iter(rows.labels.items()), (None, None))
    kinds = None if values is None else as_classes(values)
    look: dict[str, Any] = {"classes": kinds} if kinds is not None else {} if values is None else {"values": values}
    axes = plot_map(places, **look, name=name, nodes=nodes)
    number = f"{len(rows)} rows" if len(rows) == total else f"{len(rows)} of {total} rows"
    title = f"{rows.dataset.name}: {number}; those at one place are spread about it"
    axes.set_title(title, fontsize="medium")
    return axes
