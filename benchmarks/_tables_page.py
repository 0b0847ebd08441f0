"""The page of `tables.py`."""

from typing import Any


def page(done: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    return "\n".join(f"{row['data']} {row['levels']} {row['prior']} {row['training']} {row['nll']:.2f}" for row in done)
