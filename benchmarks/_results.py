"""Read and write a benchmark's results: JSON, and a page beside it."""

import json
from pathlib import Path
from typing import Any

from priory._support.files import replacing

RESULTS = Path(__file__).parent / "results"


def read_results(path: Path, empty: Any) -> Any:
    """Return the results that other runs have written to `path`; `empty` if there is no file."""
    return json.loads(path.read_text()) if path.exists() else empty


def write_results(path: Path, results: Any, page: str) -> None:
    """Write results as JSON to `path`, and the Markdown to the file beside it; each file is whole at any time."""
    for file, text in ((path, json.dumps(results, indent=2) + "\n"), (path.with_suffix(".md"), page)):
        with replacing(file) as temporary:
            temporary.write_text(text)
