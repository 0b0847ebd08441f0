"""Write the contents of a report as one self-contained HTML page."""

from __future__ import annotations

import math
import zlib
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from priory._support.files import replacing
from priory._support.optional import require
from priory.workbench.report.budget import LIMIT
from priory.workbench.report.contents import Metric, Picture, ReportContents
from priory.workbench.report.encoding import Part, json_for_html
from priory.workbench.report.map_data import map_data

SCRIPTS = ("decode.js", "colors.js", "details.js", "between.js", "selection.js", "map.js", "path.js", "start.js")
_ROUNDING = 1e-6  # relative to the value; a smaller error is rounding, and is shown with one digit
_PICTURES_LIMIT = 4_000_000  # bytes in base64, of all pictures together


def write_report(path: str | Path, contents: ReportContents) -> Path:
    """Write the page of a run atomically, and return its path."""
    page = render_report(contents)
    with replacing(path) as temporary:
        temporary.write_bytes(page)
    return Path(path)


def render_report(contents: ReportContents) -> bytes:
    """Return the page as UTF-8, at most 10 MB. It needs no network, and its policy forbids network access."""
    script = "\n".join(_text(name) for name in SCRIPTS)
    pictures, notes = _pictures(contents.pictures)
    values: dict[str, Any] = {
        "title": contents.title,
        "facts": contents.facts,
        "tables": contents.tables,
        "failures": contents.failures,
        "links": [(text, quote(path)) for text, path in contents.links],
        "metrics": [_metric(metric) for metric in contents.metrics],
        "pictures": pictures,
        "notes": [*contents.notes, *notes],
        "style": _text("page.css"),
        "script": script,
        "script_hash": _hash(script),
        "map": None,
    }
    if contents.map is None:
        return _filled(values)
    plotly = require("plotly.offline", "plots", "the report's map").get_plotlyjs()
    packed = b64encode(zlib.compress(plotly.encode(), 9)).decode()
    values |= {"plotly": plotly, "plotly_hash": _hash(plotly), "plotly_packed": packed}
    without = len(_filled(values | {"map": "{}"}))
    return _filled(values | {"map": json_for_html(map_data(contents.map, LIMIT - without))})


def _metric(metric: Metric) -> dict[str, str]:
    """Format value and error to the same digit: two digits of the error, unless it is just rounding."""
    value, se = float(metric.value), metric.se
    if se is None or not math.isfinite(se) or se <= 0 or not math.isfinite(value):
        written = (_number(f"{value:.5g}"), "" if se is None else _number(f"{se:.2g}"))
    elif se < abs(value) * _ROUNDING:
        written = _number(f"{value:.6g}"), _number(f"{se:.0e}")
    else:
        digits = max(0, 1 - math.floor(math.log10(se)))
        written = _number(f"{value:.{digits}f}"), _number(f"{se:.{digits}f}")
    return {"name": metric.name, "value": written[0], "se": written[1], "how_to_read": metric.how_to_read}


def _number(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _pictures(pictures: Sequence[Picture]) -> tuple[list[Part], list[str]]:
    """Return the pictures that fit into the limit, and notes about the others."""
    left, included, notes = _PICTURES_LIMIT, [], []
    for picture in pictures:
        source = f"data:{picture.media_type};base64,{b64encode(picture.bytes).decode()}"
        if len(source) > left:
            notes.append(f"The picture “{picture.title}” is left out: it would make the file too large.")
            continue
        left -= len(source)
        included.append({"title": picture.title, "caption": picture.caption, "source": source})
    return included, notes


def _hash(script: str) -> str:
    """Return the hash of a script for the page's policy, which allows no other script."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return (files("priory.workbench.report") / "assets" / name).read_text(encoding="utf-8")


def _filled(values: dict[str, Any]) -> bytes:
    jinja = require("jinja2", "plots", "a report")
    template = jinja.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_text("page.html"))
    return template.render(values).encode("utf-8", errors="replace")
