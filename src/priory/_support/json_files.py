"""JSON in files, whole and standard."""

import json
import math
from pathlib import Path
from typing import Any

from priory._support.files import replacing
from priory._support.messages import TRAIN_AGAIN


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of bytes that are no text, too
        raise ValueError(f"{path}: expected JSON, got other content ({error}); {TRAIN_AGAIN}") from None


def write_json(path: Path, tree: Any) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(tree) + "\n", encoding="utf-8")


def json_text(tree: Any) -> str:
    """Standard JSON, which has no NaN: null stands for what is not known.

    >>> json_text([1.5, float("nan")]).split()
    ['[', '1.5,', 'null', ']']
    """
    return json.dumps(_standard(tree), indent=2, allow_nan=False)


def _standard(tree: Any) -> Any:
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, dict):
        return {key: _standard(value) for key, value in tree.items()}
    return [_standard(value) for value in tree] if isinstance(tree, (list, tuple)) else tree
