"""Write the figures of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from priory.plots import save_figure


def save_figures(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write each figure as `NAME.png`; returns the files in this order."""
    paths = {folder / f"{name}.png": figure for name, figure in figures.items()}
    for path, figure in paths.items():
        save_figure(figure, path)
    return list(paths)
