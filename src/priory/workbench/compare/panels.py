"""Panels side by side, with a common legend and a sentence below."""

import math
from typing import Any

import numpy as np

from priory._support.messages import visible
from priory.plots.figure import new_figure

ACROSS = 3
TICKS = 5  # along each axis
_INSIDE = 0.95  # share of a panel without the text at its margin
_TITLE = 0.35  # inches above a panel
_BELOW = 0.6  # inches below all, for a sentence


def panels_for(number: int, side: float) -> list[Any]:
    """Return axes for `number` pictures in reading order, each about `side` inches wide and high, in a new figure."""
    across = min(ACROSS, number)
    down = math.ceil(number / across)
    figure = new_figure((side * across, (_INSIDE * side + _TITLE) * down + _BELOW))
    figure.set_layout_engine("compressed")  # this layout supports square axes
    axes: np.ndarray = figure.subplots(down, across, squeeze=False).ravel()
    for spare in axes[number:]:
        spare.remove()
    return list(axes[:number])


def for_all(panels: list[Any]) -> None:
    """Replace the legends of the panels, which are equal, by one next to all panels; the panels keep their size."""
    handles, labels = panels[0].get_legend_handles_labels()
    legends = [panel.get_legend() for panel in panels]
    if legends[0] is None or not handles:
        return
    title = legends[0].get_title().get_text()
    for legend in legends:
        legend.remove()
    figure = panels[0].figure
    width, height = figure.get_size_inches()
    longest = max(len(text) for text in (title, *labels))
    figure.set_size_inches(width + 0.7 + 0.1 * min(longest, 40), height + _TITLE)  # panels may grow by as much
    beside = figure.legend(handles, labels, title=title, loc="outside right center", frameon=False, markerscale=1.3)
    beside.set_alignment("left")


def write_below(panels: list[Any], sentence: str, *, alike: bool) -> None:
    """Write a sentence below all panels; label axes, and number them if they are alike, only at the margin."""
    for place, panel in enumerate(panels):
        if place % ACROSS:
            panel.set_ylabel("")
        if place + ACROSS < len(panels):
            panel.set_xlabel("")
        panel.locator_params(nbins=TICKS)
        if alike:
            panel.tick_params(labelleft=place % ACROSS == 0, labelbottom=place + ACROSS >= len(panels))
    # the sentence may contain the name of a label
    panels[0].figure.supxlabel(visible(sentence), fontsize="small", wrap=True, parse_math=False)
