"""One HTML page for a run: numbers, pictures and an interactive map. It opens from a folder, without a network.

The page does not depend on models: its input is numbers, pictures, and places of rows and nodes. All texts are escaped,
so they are never markup.
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
