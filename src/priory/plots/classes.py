"""Styles of classes: marker and color."""

from collections.abc import Sequence

import numpy as np

MOST_STYLES = 12  # classes with their own style; more markers would look too similar
OTHERS, NOTHING = "others", "#b3b3b3"  # name of the remaining classes; gray of rows without a value or a style
MARKERS = "os^DvPX*<>hd"
# Okabe & Ito's colors without yellow, which is invisible on white, then Tol's muted ones; neighbors differ in lightness
CLASS_COLORS = (
    "#0072b2", "#e69f00", "#000000", "#cc79a7", "#009e73", "#d55e00",
    "#56b4e9", "#882255", "#999933", "#332288", "#ddcc77", "#8c6bb1",
)  # fmt: skip


def styled_classes(classes: np.ndarray) -> list[str]:
    """Return the sorted names of the classes that get a style; of many classes, the most frequent. '' gets none."""
    kinds, counts = np.unique(classes[classes != ""], return_counts=True)
    if len(kinds) > MOST_STYLES:
        kinds = kinds[np.argsort(-counts, kind="stable")[: MOST_STYLES - 1]]
    return sorted(kinds.tolist(), key=natural)


def class_styles(named: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return marker and color of each name; a name of one or two letters or digits is its own marker."""
    short = all(len(name) <= 2 and name.isascii() and name.isalnum() for name in named)
    return {name: (f"$\\mathbf{{{name}}}$" if short else MARKERS[i], CLASS_COLORS[i]) for i, name in enumerate(named)}


def counted(name: str, what: str) -> str:
    """Return the title of a legend whose entries end with a number, such as "a (1)"; it names what was counted.

    >>> counted("kind", "rows"), counted("", "nodes")
    ('kind (rows)', 'nodes')
    """
    return f"{name} ({what})" if name else what


def natural(name: str) -> tuple[bool, float, str]:
    """Sort key: numbers by size, before other names."""
    return (False, float(name), "") if name.removeprefix("-").isdecimal() else (True, 0.0, name)
