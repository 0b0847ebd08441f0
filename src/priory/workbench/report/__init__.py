"""One page for a run: a file to open by a double-click, which asks nothing of the network and has the map to explore.

The page knows nothing of models: it is told numbers, pictures, and places of rows and nodes. Texts that it is told are
never taken for markup.
"""

from priory.workbench.report.contents import MapContents, Metric, NodeContents, Picture, ReportContents, Table
from priory.workbench.report.page import render_report, write_report

__all__ = [
    "MapContents",
    "Metric",
    "NodeContents",
    "Picture",
    "ReportContents",
    "Table",
    "render_report",
    "write_report",
]
